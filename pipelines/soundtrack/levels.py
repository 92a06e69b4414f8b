"""The level of a stream of sound, measured as it passes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from pipelines.soundtrack import ebur128, flags
from v2a_models import pcm


class LevelMeter:
    """Level of a stream of int16 blocks, measured as it passes."""

    def __init__(self) -> None:
        self.peak = 0
        self.square_sum = 0.0
        self.n = 0
        self.r128: ebur128.LoudnessMeter | None = None
        """Loudness meter, if a loudness was requested or sounds are mixed."""
        self.flags: flags.FlagDetector | None = None

    def watch(self, blocks: Iterable[np.ndarray], channels: int) -> Iterator[np.ndarray]:
        """Pass on the blocks, int16 [any, n], and measure their first `channels` channels."""
        for passed in blocks:
            block = passed[:channels]
            if self.flags is not None:
                self.flags.add(block)
            if self.r128 is not None:
                self.r128.add(block.astype(np.float32) / pcm.EXACT_SCALE)
            if block.size:
                self.peak = max(self.peak, int(np.abs(block.astype(np.int32)).max()))
                self.square_sum += float(np.square(block, dtype=np.float64).sum())
                self.n += block.size
            yield passed

    @property
    def peak_dbfs(self) -> float:
        return dbfs(self.peak / pcm.SYMMETRIC_SCALE)

    @property
    def rms_dbfs(self) -> float:
        return dbfs(math.sqrt(self.square_sum / max(1, self.n)) / pcm.SYMMETRIC_SCALE)


def dbfs(level: float) -> float:
    """Level relative to full scale in dB, never below -120."""
    return max(-120.0, 20 * math.log10(level)) if level > 0 else -120.0
