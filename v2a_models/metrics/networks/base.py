"""Interfaces of the published networks that scores use. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from v2a_models.recipe import View

if TYPE_CHECKING:
    from torch import Tensor


class Unavailable(Exception):
    """A network that cannot be had here; the message is the whole reason, and says what to do."""


@dataclass(frozen=True)
class Heard:
    """What a network makes of one sound."""

    embedding: np.ndarray
    """float32 (D,), or (T, D) where the network gives one per stretch of time."""
    probabilities: np.ndarray | None = None
    """float32 (C,), sums to 1: softmax of the class logits, as IS and KLD take them. None: no classes."""


class Network(Protocol):
    """A network on its device, in evaluation mode."""

    name: str
    rate: int
    """Hz, of the sounds it takes."""
    dims: int
    """D of its embeddings."""
    classes: tuple[str, ...] | None
    """Names of the probabilities. None: it has none, or its package does not name them (AudioSet's 527)."""
    sha256: str
    """Of the weights file."""

    def hear(self, sounds: Tensor) -> list[Heard]:
        """Mono float sounds (B, N) in [-1, 1] at `rate`, each heard by itself: B answers.

        A sound shorter than the network can take is heard with silence after it. Raises ValueError for another
        shape or type, or sounds without a sample.
        """
        ...


class Watcher(Protocol):
    """A network that sees."""

    views: Mapping[str, View]
    """The samplings of the picture that it takes, by name."""

    def watch(self, frames: Mapping[str, Tensor]) -> np.ndarray:
        """Frames of one clip by view, uint8 (T, H, W, 3): float32 (D,), or (T, D) for one vector per moment."""
        ...
