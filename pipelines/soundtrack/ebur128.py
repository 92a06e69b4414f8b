"""Loudness by EBU R128 and true peak: meter and limiter, block by block, by FFmpeg's own filters.

Memory does not grow with the film: a filter holds at most a second.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

BLOCK = 1 << 14
"""Samples per call of a filter."""

CEILING_DBTP = -1.0
"""Highest true peak that EBU R128 allows for a programme in linear PCM."""

NOTHING_LUFS = -70.0
"""The meter's value for sound without a loudness: shorter than 0.4 s, or never louder than this."""

_UP = 4
"""Oversampling of the limiter: peaks between samples become samples (BS.1770-5)."""


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
        self._chain = _Chain(rate, channels, [("ebur128", "peak=true:metadata=1")])
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


def limited(
    blocks: Iterable[np.ndarray], rate: int, channels: int, ceiling_dbtp: float
) -> Iterator[np.ndarray]:
    """The same sound with no true peak above about `ceiling_dbtp`: blocks float32 [channels, n], as many samples.

    A look-ahead limiter at four times the rate. The return to `rate` may add a few tenths of a dB: measure the result.
    """
    bound = f"limit={10 ** (ceiling_dbtp / 20):.6f}:level=false:attack=5:release=80:latency=true"
    layout = _layout(channels)
    steps = [("aresample", str(_UP * rate)), ("alimiter", bound), ("aresample", str(rate))]
    chain = _Chain(rate, channels, [*steps, ("aformat", f"sample_fmts=fltp:channel_layouts={layout}")])
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


def _layout(channels: int) -> str:
    return "mono" if channels == 1 else "stereo"


class _Chain:
    """Chain of FFmpeg filters; float blocks in, FFmpeg's frames out."""

    def __init__(self, rate: int, channels: int, filters: list[tuple[str, str]]) -> None:
        self._rate, self._layout, self._position = rate, _layout(channels), 0
        graph = av.filter.Graph()
        clock = Fraction(1, rate)
        source = graph.add_abuffer(sample_rate=rate, format="fltp", layout=self._layout, time_base=clock)
        nodes: list[Any] = [source, *(graph.add(*step) for step in filters), graph.add("abuffersink")]
        for first, second in itertools.pairwise(nodes):
            first.link_to(second)
        graph.configure()
        self._graph, self._source, self._sink = graph, source, nodes[-1]

    def push(self, block: np.ndarray) -> Iterator[Any]:
        for at in range(0, block.shape[1], BLOCK):
            piece = np.ascontiguousarray(block[:, at : at + BLOCK], np.float32)
            frame: Any = av.AudioFrame.from_ndarray(piece, "fltp", self._layout)
            frame.sample_rate, frame.pts = self._rate, self._position
            frame.time_base = Fraction(1, self._rate)
            self._position += piece.shape[1]
            self._source.push(frame)
            yield from self._pulled()

    def finish(self) -> Iterator[Any]:
        if self._position:
            self._source.push(None)
            yield from self._pulled()

    def _pulled(self) -> Iterator[Any]:
        while True:
            try:
                yield self._sink.pull()
            except (av.BlockingIOError, av.EOFError):
                return
