"""A segment under two-wave in-painting: its cuts, still windows, and codec tokens so far.

`annotate` runs in the decode stage and `TokenCanvas` in the generate stage (`two_wave`). Both, and the neighbouring
segment, must derive the same windows.
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


def annotate(item: Item, job: DubJob) -> None:
    """Find the hard cuts and still windows of an item with frames."""
    layout = job.layout
    assert layout is not None
    segment_frames = segments.segment_frames(item.task.segment, layout)
    view = job.views[job.fastest]
    frames, first = item.arrays[job.fastest], grid.frame_index(item.decoded_from_s, view.fps)
    if job.scenes:

        def cuts_in(span: FrameSpan) -> list[int]:
            start, stop = (layout.picture(frame) for frame in span)
            part = frames[max(0, start - first) : stop - first]
            return [layout.frame(start + number) for number in cuts(part, view.fps)]

        item.cuts = cuts_in(segment_frames.visual_span)
        item.border_cuts = [cut for zone in longform.zones(segment_frames, layout) for cut in cuts_in(zone)]
    windows = windows_of(item, layout)
    # Generating a film of one window costs less than its loop. A segment of one window must agree with its neighbour.
    is_whole_film = item.task.n_segments == 1 and len(windows) == 1
    if job.static == "silence" or (job.static == "ambience" and not is_whole_film):
        item.still_windows = [
            window.keep
            for window in windows
            if peak_motion(pictures(item, job, window, job.fastest)) < job.motion_level
        ]


def needs_first_picture(item: Item, job: DubJob) -> bool:
    """True if the film's first picture is needed for an ambience."""
    return job.static == "ambience" and bool(item.still_windows)


def drop_pictures(item: Item, job: DubJob) -> None:
    """Drop the frames of an item without a single window to generate."""
    assert job.layout is not None
    windows, still = windows_of(item, job.layout), _still(item)
    if all(is_quiet(window, windows, still, job.layout) for window in windows):
        for name in job.views:
            del item.arrays[name]


def windows_of(item: Item, layout: Layout) -> list[Window]:
    """Windows that decide the tokens of an item's segment."""
    return longform.plan(
        segments.segment_frames(item.task.segment, layout), item.cuts, item.border_cuts, layout
    )


def _still(item: Item) -> set[FrameSpan]:
    return {(first, stop) for first, stop in item.still_windows}


def is_quiet(window: Window, windows: Sequence[Window], still: set[FrameSpan], layout: Layout) -> bool:
    """True if a window is filled with ambience: it is still and, in the second wave, so are those on both sides."""
    if window.keep not in still:
        return False
    beside = longform.decided(window, windows)
    return all(
        other.keep in still
        for other in windows
        if other.wave == 0 and any(a < other.keep[1] and b > other.keep[0] for a, b in beside)
    )


def pictures(item: Item, job: DubJob, window: Window, name: str) -> np.ndarray:
    """Frames of a window in one view, uint8 [T, H, W, 3]. Raises ValueError if some were not decoded."""
    assert job.layout is not None
    fps, layout = job.views[name].fps, job.layout
    numbers = np.array(longform.pictures(window, fps, layout))
    numbers = np.clip(numbers, *longform.held(window, fps, layout)) - grid.frame_index(
        item.decoded_from_s, fps
    )
    frames = item.arrays[name]
    if numbers.max() >= len(frames) or numbers.min() < 0:
        raise ValueError(
            f"the decoder gave {numbers.max() + 1 - len(frames)} pictures too few at "
            f"{window.start * grid.HOP / job.rate:.2f} s"
        )
    return frames[numbers]


class TokenCanvas:
    """Codec tokens of one item while they are generated: int64 [tracks, codebooks, frames], -1 while undecided."""

    def __init__(self, item: Item, layout: Layout) -> None:
        self.item, self.layout = item, layout
        self.segment_frames = segments.segment_frames(item.task.segment, layout)
        self.windows = windows_of(item, layout)
        still = _still(item)
        self.quiet = [window for window in self.windows if is_quiet(window, self.windows, still, layout)]
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
        """Fill the quiet windows with a loop [tracks, codebooks, n], in phase with the start of the film."""
        for window in self.quiet:
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

    def to_generate(self, wave: int) -> list[tuple[Item, tuple[TokenCanvas, Window]]]:
        """Windows of a wave to generate."""
        return [(self.item, (self, w)) for w in self.needed if w.wave == wave and w not in self.quiet]

    def within(self, span: FrameSpan) -> FrameSpan:
        """The span cut to this segment, so that neighbours do not report the same twice."""
        return max(span[0], self.segment_frames.start), min(span[1], self.segment_frames.stop)

    def facts(self) -> SegmentFacts:
        """Facts about the windows of the segment."""
        start, stop = self.segment_frames.start, self.segment_frames.stop
        spans = [self.within(span) for span in merged([window.keep for window in self.quiet])]
        shots = {window.shot[0] for window in self.windows} - {self.segment_frames.decided[0]}
        return SegmentFacts(
            windows=sum(start <= w.keep[0] < stop and w not in self.quiet for w in self.windows),
            scenes=sum(start <= cut < stop for cut in shots),
            still=tuple((self._seconds(a), self._seconds(b)) for a, b in spans if a < b),
        )

    def _seconds(self, frame: int) -> float:
        return grid.seconds(frame * grid.HOP, self.layout.rate)


def merged(spans: Sequence[FrameSpan]) -> list[FrameSpan]:
    """Spans in order, with touching ones joined."""
    joined: list[FrameSpan] = []
    for first, stop in sorted(spans):
        if joined and joined[-1][1] == first:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((first, stop))
    return joined
