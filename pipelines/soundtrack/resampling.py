"""Resampling of a generated track: block by block, without gaps, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler

from v2a_models import grid, pcm

BLOCK = 1 << 16
"""Samples per call of the resampler."""

_LAYOUTS = {1: "mono", 2: "stereo"}
"""Layouts of one track. More channels, up to seven, are several tracks, each resampled by itself."""


def resampled(
    blocks: Iterable[np.ndarray], channels: int, rate: int, n_samples: int, to: int = grid.SAMPLE_RATE
) -> Iterator[np.ndarray]:
    """The same sound at rate `to`: blocks int16 [channels, n], `n_samples` in total.

    The result does not depend on the division into blocks. A length at one rate is rarely whole at another: a surplus
    of a sample or two is cut off, and missing ones are silence. If `rate` is `to`, the blocks pass unchanged.
    """
    if rate == to:
        yield from blocks
        return
    room = n_samples
    for block in _converted(blocks, _LAYOUTS.get(channels, f"{channels}c"), rate, to):
        yield block[:, :room]
        room -= min(room, block.shape[1])
    if room:
        yield np.zeros((channels, room), np.int16)


def _converted(blocks: Iterable[np.ndarray], layout: str, rate: int, to: int) -> Iterator[np.ndarray]:
    # In floats: for integers, FFmpeg rounds the filters to integers too.
    resampler = AudioResampler(format="fltp", layout=layout, rate=to)
    position = 0
    for block in blocks:
        for at in range(0, block.shape[1], BLOCK):
            piece = np.ascontiguousarray(block[:, at : at + BLOCK], np.float32) / pcm.SYMMETRIC_SCALE
            frame: Any = av.AudioFrame.from_ndarray(piece, "fltp", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, position, Fraction(1, rate)
            position += piece.shape[1]
            yield from (pcm.quantise(part.to_ndarray()) for part in resampler.resample(frame))
    if position:
        yield from (pcm.quantise(part.to_ndarray()) for part in resampler.resample(None))
