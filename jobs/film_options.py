"""Options of `v2a dub` about films longer than what a model makes in one go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jobs.verb import WrongUsage


@dataclass
class FilmOptions:
    """How windows meet, cuts, and footage in which nothing moves."""

    joins: Literal["auto", "two-wave", "crossfade"] = "auto"
    """two-wave: every second window is painted between its fixed neighbours, so that one does not hear where they meet
    (models of codec tokens: mini, every maskvat and vatt). crossfade: windows know nothing of each other and are faded
    over. auto: two-wave where the model can."""
    scenes: Literal["on", "off"] = "on"
    """Let windows end at hard cuts (PySceneDetect), so that none is made of pictures of both sides; off leaves the
    regular grid. With two-wave joins."""
    static: Literal["ambience", "silence", "generate"] = "ambience"
    """What is heard while nothing moves: one ambience of the film, made once and repeated without a join; silence; or
    whatever the model makes of each window. The first two cost almost nothing. With two-wave joins."""
    motion_level: float = 4.0
    """Below this nothing moves: mean difference from a window's first picture, of 255, in the block (of 8 x 8) and the
    picture where it is largest. Clips in which nothing but the camera's noise moved had 0 to 3."""

    def check(self) -> None:
        """Raises WrongUsage for options that do not go together."""
        if not 0 <= self.motion_level <= 255:
            raise WrongUsage(f"--motion-level is from 0 to 255, not {self.motion_level:g}")
