"""A segment whose windows are painted towards each other: what is seen of it, its windows, and its codec tokens so far.

`look` works where pictures are decoded; `TokenCanvas` where windows are generated (`two_wave`, beside this module).
Both, and the neighbouring segment, must come to the same windows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.dub import segments
from pipelines.dub.item import Item
from pipelines.dub.job import DubJob
from pipelines.dub.segment_facts import SegmentFacts
from pipelines.media.shots import cuts, peak_motion
from v2a_models import grid, longform
from v2a_models.longform import FrameSpan, Layout, Window


def look(item: Item, job: DubJob) -> None:
    """Note hard cuts and still windows of an item that has its pictures."""
    layout = job.layout
    assert layout is not None
    reach = segments.reach(item.task.segment, layout)
    view = job.views[job.fastest]
    seen, first = item.arrays[job.fastest], grid.frame_index(item.decoded_from_s, view.fps)
    if job.scenes:

        def found(span: FrameSpan) -> list[int]:
            start, stop = (layout.picture(frame) for frame in span)
            part = seen[max(0, start - first) : stop - first]
            return [layout.frame(start + number) for number in cuts(part, view.fps)]

        item.cuts = found(reach.seen)
        item.border_cuts = [cut for zone in longform.zones(reach, layout) for cut in found(zone)]
    windows = windows_of(item, layout)
    # A film of one window costs less than a loop. Not a segment of one: its neighbour must come to the same.
    alone = item.task.n_segments == 1 and len(windows) == 1
    if job.static == "silence" or (job.static == "ambience" and not alone):
        item.still_windows = [
            window.keep
            for window in windows
            if peak_motion(pictures(item, job, window, job.fastest)) < job.motion_level
        ]


def wants_first(item: Item, job: DubJob) -> bool:
    """Whether the film's first picture is needed for an ambience."""
    return job.static == "ambience" and bool(item.still_windows)


def drop_pictures(item: Item, job: DubJob) -> None:
    """Let go of pictures that nobody will look at: where nothing moves throughout."""
    assert job.layout is not None
    windows, still = windows_of(item, job.layout), _still(item)
    if all(quiet(window, windows, still, job.layout) for window in windows):
        for name in job.views:
            del item.arrays[name]


def windows_of(item: Item, layout: Layout) -> list[Window]:
    """The windows that decide an item."""
    return longform.plan(segments.reach(item.task.segment, layout), item.cuts, item.border_cuts, layout)


def _still(item: Item) -> set[FrameSpan]:
    return {(first, stop) for first, stop in item.still_windows}


def quiet(window: Window, windows: Sequence[Window], still: set[FrameSpan], layout: Layout) -> bool:
    """Whether a window is not drawn: nothing moves in it nor, of the second wave, in those that it lies between."""
    if window.keep not in still:
        return False
    beside = longform.decided(window, windows)
    return all(
        other.keep in still
        for other in windows
        if other.wave == 0 and any(a < other.keep[1] and b > other.keep[0] for a, b in beside)
    )


def pictures(item: Item, job: DubJob, window: Window, name: str) -> np.ndarray:
    """What a window sees in one view, uint8 [T, H, W, 3]. Raises ValueError if it is not all there."""
    assert job.layout is not None
    fps, layout = job.views[name].fps, job.layout
    numbers = np.array(longform.pictures(window, fps, layout))
    numbers = np.clip(numbers, *longform.held(window, fps, layout)) - grid.frame_index(
        item.decoded_from_s, fps
    )
    there = item.arrays[name]
    if numbers.max() >= len(there) or numbers.min() < 0:
        raise ValueError(
            f"the decoder gave {numbers.max() + 1 - len(there)} pictures too few at "
            f"{window.start * grid.HOP / job.rate:.2f} s"
        )
    return there[numbers]


class TokenCanvas:
    """The codec tokens of one item as they are decided: int64 [tracks, levels, frames], -1 where they are not."""

    def __init__(self, item: Item, layout: Layout) -> None:
        self.item, self.layout = item, layout
        self.reach = segments.reach(item.task.segment, layout)
        self.windows = windows_of(item, layout)
        still = _still(item)
        self.quiet = [window for window in self.windows if quiet(window, self.windows, still, layout)]
        self.needed = self.windows if item.task.part is None else self._around(*item.task.part)
        """Windows without which the part that is asked for would not be the same."""
        self.codes = np.zeros((0, 0, 0), np.int64)

    def _around(self, start_s: float, end_s: float) -> list[Window]:
        """Windows that reach into a stretch, and those of the first wave that they are painted towards."""
        first, stop = (round(at * self.layout.rate / grid.HOP) for at in (start_s, end_s))
        # The codec hears a little further; no window is shorter than that but at cuts.
        near = (first - self.layout.overlap, stop + self.layout.overlap)
        inside = [w for w in self.windows if w.keep[0] < near[1] and w.keep[1] > near[0]]
        beside = [span for w in inside for span in longform.decided(w, self.windows)]
        return [
            w
            for w in self.windows
            if w in inside or (w.wave == 0 and any(a < w.keep[1] and b > w.keep[0] for a, b in beside))
        ]

    def put(self, window: Window, codes: np.ndarray) -> None:
        """Keep what a window decides of its codes [tracks, levels, window.size]."""
        self._write(window.keep, codes[..., window.keep[0] - window.start : window.keep[1] - window.start])

    def repeat(self, loop: np.ndarray) -> None:
        """Lay a loop [tracks, levels, n] into the quiet windows, by its place in the film."""
        for window in self.quiet:
            self._write(window.keep, loop[..., np.arange(*window.keep) % loop.shape[-1]])

    def _write(self, span: FrameSpan, codes: np.ndarray) -> None:
        if not self.codes.size:
            length = self.reach.decided[1] - self.reach.decided[0]
            self.codes = np.full((*codes.shape[:2], length), -1, np.int64)
        self.codes[..., self._at(span)] = codes

    def _at(self, span: FrameSpan) -> slice:
        return slice(span[0] - self.reach.decided[0], span[1] - self.reach.decided[0])

    def known(self, window: Window, track: int) -> tuple[np.ndarray, np.ndarray]:
        """Codes int64 and mask bool, [levels, window.size] each: what is decided of a window of the second wave."""
        levels = self.codes.shape[1]
        codes = np.zeros((levels, window.size), np.int64)
        mask = np.zeros(codes.shape, bool)
        for span in longform.decided(window, self.windows):
            place = slice(span[0] - window.start, span[1] - window.start)
            codes[:, place], mask[:, place] = self.codes[track][:, self._at(span)], True
        return codes, mask

    def wanted(self, wave: int) -> list[tuple[Item, tuple[TokenCanvas, Window]]]:
        """The windows of a wave that are to be drawn."""
        return [(self.item, (self, w)) for w in self.needed if w.wave == wave and w not in self.quiet]

    def heard(self, span: FrameSpan) -> FrameSpan:
        """What of a span belongs to this segment."""
        return max(span[0], self.reach.start), min(span[1], self.reach.stop)

    def facts(self) -> SegmentFacts:
        """Facts about the windows of the segment."""
        start, stop = self.reach.start, self.reach.stop
        spans = [self.heard(span) for span in merged([window.keep for window in self.quiet])]
        shots = {window.shot[0] for window in self.windows} - {self.reach.decided[0]}
        return SegmentFacts(
            windows=sum(start <= w.keep[0] < stop and w not in self.quiet for w in self.windows),
            scenes=sum(start <= cut < stop for cut in shots),
            still=tuple((self._seconds(a), self._seconds(b)) for a, b in spans if a < b),
        )

    def _seconds(self, frame: int) -> float:
        return grid.seconds(frame * grid.HOP, self.layout.rate)


def merged(spans: Sequence[FrameSpan]) -> list[FrameSpan]:
    """Spans with those that touch made one, in order."""
    found: list[FrameSpan] = []
    for first, stop in sorted(spans):
        if found and found[-1][1] == first:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((first, stop))
    return found
