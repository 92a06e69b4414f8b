"""A generated track at another sample rate: block by block, without a gap, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler

from v2a_models import grid, pcm

BLOCK = 1 << 16
"""Samples that are resampled at a time."""

_LAYOUTS = {1: "mono", 2: "stereo"}
"""More channels are several tracks at once, up to seven: each is resampled by itself."""


def resampled(
    blocks: Iterable[np.ndarray], channels: int, rate: int, n_samples: int, to: int = grid.SAMPLE_RATE
) -> Iterator[np.ndarray]:
    """int16 [channels, n] blocks of one sound at `rate` as blocks of the same sound at `to`, `n_samples` in all.

    The result does not depend on how the sound is cut into blocks. A length at one rate is rarely whole at another:
    the sample or two that are too many are cut off, and silence fills up those that lack. At `to` already, the
    blocks pass as they are.
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
    # Floats: FFmpeg resamples integers with filters that are rounded to integers.
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
