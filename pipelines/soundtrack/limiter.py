"""True-peak limiter for finished tracks, by FFmpeg's look-ahead limiter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from pipelines.soundtrack.filter_chain import FilterChain, layout_name

CEILING_DBTP = -1.0
"""Highest true peak that EBU R128 allows for a programme in linear PCM."""

_UP = 4
"""Oversampling of the limiter: peaks between samples become samples (BS.1770-5)."""


def limited(
    blocks: Iterable[np.ndarray], rate: int, channels: int, ceiling_dbtp: float
) -> Iterator[np.ndarray]:
    """The same sound with no true peak above about `ceiling_dbtp`: blocks float32 [channels, n], as many samples.

    A look-ahead limiter at four times the rate. The return to `rate` may add a few tenths of a dB: measure the result.
    """
    bound = f"limit={10 ** (ceiling_dbtp / 20):.6f}:level=false:attack=5:release=80:latency=true"
    layout = layout_name(channels)
    steps = [("aresample", str(_UP * rate)), ("alimiter", bound), ("aresample", str(rate))]
    chain = FilterChain(rate, channels, [*steps, ("aformat", f"sample_fmts=fltp:channel_layouts={layout}")])
    n_in = n_out = 0

    def counted(frames: Iterable[Any]) -> Iterator[np.ndarray]:
        nonlocal n_out
        for frame in frames:
            sound = frame.to_ndarray()[:, : n_in - n_out]
            n_out += sound.shape[1]
            if sound.shape[1]:
                yield sound

    for block in blocks:
        n_in += block.shape[1]
        yield from counted(chain.push(block))
    yield from counted(chain.finish())
    if n_out < n_in:
        yield np.zeros((channels, n_in - n_out), np.float32)
