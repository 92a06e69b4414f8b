"""Chains of FFmpeg audio filters over float blocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

FILTER_BLOCK = 1 << 14
"""Samples per call of a filter."""


def layout_name(channels: int) -> str:
    return "mono" if channels == 1 else "stereo"


class FilterChain:
    """Chain of FFmpeg filters; float blocks in, FFmpeg's frames out."""

    def __init__(self, rate: int, channels: int, filters: list[tuple[str, str]]) -> None:
        self._rate, self._layout, self._position = rate, layout_name(channels), 0
        graph = av.filter.Graph()
        clock = Fraction(1, rate)
        source = graph.add_abuffer(sample_rate=rate, format="fltp", layout=self._layout, time_base=clock)
        nodes: list[Any] = [source, *(graph.add(*step) for step in filters), graph.add("abuffersink")]
        for first, second in itertools.pairwise(nodes):
            first.link_to(second)
        graph.configure()
        self._graph, self._source, self._sink = graph, source, nodes[-1]

    def push(self, block: np.ndarray) -> Iterator[Any]:
        """Filter a block, float [channels, n]; FFmpeg frames that are ready."""
        for at in range(0, block.shape[1], FILTER_BLOCK):
            piece = np.ascontiguousarray(block[:, at : at + FILTER_BLOCK], np.float32)
            frame: Any = av.AudioFrame.from_ndarray(piece, "fltp", self._layout)
            frame.sample_rate, frame.pts = self._rate, self._position
            frame.time_base = Fraction(1, self._rate)
            self._position += piece.shape[1]
            self._source.push(frame)
            yield from self._pulled()

    def finish(self) -> Iterator[Any]:
        """The remaining frames, after the last block."""
        if self._position:
            self._source.push(None)
            yield from self._pulled()

    def _pulled(self) -> Iterator[Any]:
        while True:
            try:
                yield self._sink.pull()
            except (av.BlockingIOError, av.EOFError):
                return
