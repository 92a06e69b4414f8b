"""Loudness by EBU R128 and true peak: a meter, block by block, by FFmpeg's own filters.

Memory does not grow with the film: a filter holds at most a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.soundtrack.filter_chain import FilterChain

NOTHING_LUFS = -70.0
"""The meter's value for sound without a loudness: shorter than 0.4 s, or never louder than this."""


@dataclass(frozen=True)
class Levels:
    """Loudness and peak of a sound."""

    lufs: float
    """Integrated loudness, gated (EBU R128); `NOTHING_LUFS` if there is none."""
    true_peak_dbtp: float
    """Highest true peak of all channels; -120 for silence."""

    @property
    def loud(self) -> bool:
        """True if the sound has a loudness at all."""
        return self.lufs > NOTHING_LUFS


class LoudnessMeter:
    """Integrated loudness and true peak of a stream of blocks, float [channels, n] in [-1, 1]."""

    def __init__(self, rate: int, channels: int) -> None:
        self._chain = FilterChain(rate, channels, [("ebur128", "peak=true:metadata=1")])
        self._lufs, self._peak = NOTHING_LUFS, 0.0

    def add(self, block: np.ndarray) -> None:
        """Measure the next samples."""
        self._read(self._chain.push(block))

    def levels(self) -> Levels:
        """Levels of all samples. Ends the measurement."""
        self._read(self._chain.finish())
        peak = 20 * math.log10(self._peak) if self._peak > 0 else -120.0
        return Levels(self._lufs, max(-120.0, peak))

    def _read(self, frames: Iterable[Any]) -> None:
        for frame in frames:
            values = frame.metadata
            if "lavfi.r128.I" in values:
                self._lufs = float(values["lavfi.r128.I"])
                self._peak = max(self._peak, float(values["lavfi.r128.true_peak"]))
