"""Codec tokens of a segment while the two waves of windows (`two_wave`) decide them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.dub import segments
from pipelines.dub.item import Item
from pipelines.dub.segment_facts import SegmentFacts
from pipelines.dub.segment_windows import ambient_windows, windows_of
from v2a_models import grid, longform
from v2a_models.longform import FrameSpan, Layout, Window


class TokenCanvas:
    """Codec tokens of one item while they are generated: int64 [tracks, codebooks, frames], -1 while undecided."""

    def __init__(self, item: Item, layout: Layout) -> None:
        self.item, self.layout = item, layout
        self.segment_frames = segments.segment_frames(item.task.segment, layout)
        self.windows = windows_of(item, layout)
        self.ambient = ambient_windows(item, self.windows)
        self.needed = self.windows if item.task.part is None else self._around(*item.task.part)
        """Windows that the used part of the segment depends on."""
        self.codes = np.zeros((0, 0, 0), np.int64)

    def _around(self, start_s: float, end_s: float) -> list[Window]:
        """Windows that reach into a stretch (seconds), and those of the first wave that they are in-painted between."""
        first, stop = (round(at * self.layout.rate / grid.HOP) for at in (start_s, end_s))
        # The codec's receptive field is a little wider; only windows at cuts are shorter than that.
        near = (first - self.layout.overlap, stop + self.layout.overlap)
        inside = [w for w in self.windows if w.keep[0] < near[1] and w.keep[1] > near[0]]
        beside = [span for w in inside for span in longform.decided(w, self.windows)]
        return [
            w
            for w in self.windows
            if w in inside or (w.wave == 0 and any(a < w.keep[1] and b > w.keep[0] for a, b in beside))
        ]

    def put(self, window: Window, codes: np.ndarray) -> None:
        """Keep the codes that a window decides, of its [tracks, codebooks, window.size]."""
        self._write(window.keep, codes[..., window.keep[0] - window.start : window.keep[1] - window.start])

    def repeat(self, loop: np.ndarray) -> None:
        """Fill the ambient windows with a loop [tracks, codebooks, n], in phase with the start of the film."""
        for window in self.ambient:
            self._write(window.keep, loop[..., np.arange(*window.keep) % loop.shape[-1]])

    def _write(self, span: FrameSpan, codes: np.ndarray) -> None:
        if not self.codes.size:
            length = self.segment_frames.decided[1] - self.segment_frames.decided[0]
            self.codes = np.full((*codes.shape[:2], length), -1, np.int64)
        self.codes[..., self._at(span)] = codes

    def _at(self, span: FrameSpan) -> slice:
        return slice(span[0] - self.segment_frames.decided[0], span[1] - self.segment_frames.decided[0])

    def decided(self, window: Window, track: int) -> tuple[np.ndarray, np.ndarray]:
        """Decided codes of a second-wave window, int64, and their mask, bool: [codebooks, window.size] each."""
        codes = np.zeros((self.codes.shape[1], window.size), np.int64)
        mask = np.zeros(codes.shape, bool)
        for span in longform.decided(window, self.windows):
            place = slice(span[0] - window.start, span[1] - window.start)
            codes[:, place], mask[:, place] = self.codes[track][:, self._at(span)], True
        return codes, mask

    def to_generate(self, wave: int) -> list[WindowTask]:
        """Windows of a wave to generate."""
        return [WindowTask(self, w) for w in self.needed if w.wave == wave and w not in self.ambient]

    def within(self, span: FrameSpan) -> FrameSpan:
        """The span cut to this segment, so that neighbours do not report the same twice."""
        return max(span[0], self.segment_frames.start), min(span[1], self.segment_frames.stop)

    def facts(self) -> SegmentFacts:
        """Facts about the windows of the segment."""
        start, stop = self.segment_frames.start, self.segment_frames.stop
        spans = [self.within(span) for span in merged([window.keep for window in self.ambient])]
        shots = {window.shot[0] for window in self.windows} - {self.segment_frames.decided[0]}
        return SegmentFacts(
            windows=sum(start <= w.keep[0] < stop and w not in self.ambient for w in self.windows),
            scenes=sum(start <= cut < stop for cut in shots),
            still=tuple((self._seconds(a), self._seconds(b)) for a, b in spans if a < b),
        )

    def _seconds(self, frame: int) -> float:
        return grid.seconds(frame * grid.HOP, self.layout.rate)


@dataclass(frozen=True)
class WindowTask:
    """A window to generate, and the canvas that it belongs to."""

    canvas: TokenCanvas
    window: Window

    @property
    def item(self) -> Item:
        return self.canvas.item


def merged(spans: Sequence[FrameSpan]) -> list[FrameSpan]:
    """Spans in order, with touching ones joined."""
    joined: list[FrameSpan] = []
    for first, stop in sorted(spans):
        if joined and joined[-1][1] == first:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((first, stop))
    return joined
