"""Sound of any length from a model of fixed windows, without seams: two waves of windows over a film's codec frames.

    shot:       |<------------------------------------------------------>|
    first wave  [ window ]        [ window ]        [ window ]               drawn independently
    second wave        [    window    ]    [    window    ]                  in-painted between its fixed neighbours

Windows of the second wave are drawn with the tokens of both neighbours known, so the model itself makes the transition:
no crossfade, and a depth of two at any length. A film is cut into segments that share one window of the first wave at
each border; both sides draw it from the same frames and the same seed, so segments are independent. A hard cut ends a
shot: no window uses frames from both sides of it. A window is shortened to the rest of a shot, or to a short film, to
save time.

Positions count codec frames (`grid.HOP` samples) from the start of the film, unless stated otherwise. All functions are
pure; `pipelines.dub.generate.two_wave` draws the windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from v2a_models import grid

FrameSpan = tuple[int, int]
"""Half-open range of codec frames: the first, and one past the last."""


@dataclass(frozen=True)
class Layout:
    """Placement of a model's windows on a film. Pictures are those of the model's fastest view."""

    window: int
    """Codec frames of a whole window."""
    overlap: int
    """Minimum number of known codec frames of each neighbour in a window of the second wave."""
    edge: int
    """Codec frames at either end of a first-wave window that are discarded next to another window: training windows are
    padded with silence, which the model reproduces in the outermost tokens."""
    fps: float
    """Pictures per second. Windows begin at picture times, so that events are seen at the right time."""
    hop: int
    """Distance of neighbouring windows on a regular grid, in pictures."""
    windows: int
    """Windows per segment; even, so that a border window always belongs to the first wave."""
    rate: int = grid.SAMPLE_RATE
    sizes: tuple[int, ...] = field(kw_only=True)
    """Permitted window lengths in samples, ascending; the last is the whole window. There are few, since windows in
    one batch must be equally long."""

    @classmethod
    def of(
        cls, window: int, overlap: int, fps: float, segment_s: float, rate: int = grid.SAMPLE_RATE
    ) -> Layout:
        """Layout of windows that share `overlap` of `window` samples, in segments of about `segment_s` seconds.

        Raises ValueError if windows overlap too little for in-painting, or by more than a third.
        """
        hop = math.floor(grid.seconds(window - overlap, rate) * fps + 1e-6)
        frames = grid.codec_frames(window)
        both = frames - math.ceil(hop * rate / (fps * grid.HOP))
        edge = both // 3
        # Remaining overlap after windows are moved to the nearest picture.
        shared = both - edge - (SLACK + 1) // 2
        if not 0 < shared <= frames // 3:
            raise ValueError(
                f"windows of {frames} codec frames that share {both} cannot be in-painted between their neighbours; "
                "use an overlap of about a tenth of the window"
            )
        count = grid.samples(segment_s, rate) / (hop * rate / fps)
        pictures = grid.seconds(window, rate) * fps
        # Whole pictures, so that pictures and sound of a window are equally long.
        parts = {math.ceil(pictures * tenths / 10 - 1e-6) for tenths in range(LEAST_TENTHS, 10)}
        sizes = {grid.samples(part / fps, rate) for part in parts if part < pictures} | {window}
        return cls(
            frames, shared, edge, fps, hop, max(2, 2 * round(count / 2)), rate, sizes=tuple(sorted(sizes))
        )

    def samples(self, frames: int) -> int:
        """Samples of the shortest permitted window that holds `frames` codec frames; else of the whole window."""
        return next((n for n in self.sizes if grid.codec_frames(n) >= frames), self.sizes[-1])

    def frame(self, picture: int) -> int:
        """Codec frame that begins nearest to a picture."""
        return round(picture * self.rate / (self.fps * grid.HOP))

    def picture(self, frame: float) -> int:
        """Picture that begins nearest to a codec frame."""
        return round(frame * grid.HOP * self.fps / self.rate)

    def border(self, index: int) -> FrameSpan:
        """Window shared by segments `index - 1` and `index`."""
        start = self.frame(index * self.windows * self.hop)
        return start, start + self.window

    def kept(self, border: FrameSpan) -> FrameSpan:
        """Kept part of a border window."""
        return border[0] + self.edge, border[1] - self.edge

    def handover(self, index: int) -> int:
        """First audible frame of segment `index`: the middle of its border window, away from any join."""
        return self.border(index)[0] + self.window // 2 if index else 0


SLACK = 3
"""Codec frames of overlap that rounding to pictures and even spreading may cost."""

LEAST_TENTHS = 3
"""Shortest window, in tenths of a whole one. A model trained on whole windows does as well on a fourth; below that, the
fixed cost of a call dominates."""

MIN_SHOT = 0.5
"""Shortest shot, as a fraction of a window. Faster cuts are ignored: each costs a model call, and a separate sound
would end before it is noticed."""


@dataclass(frozen=True)
class SegmentFrames:
    """Codec frames of a segment of a film."""

    index: int
    start: int
    """First audible codec frame."""
    stop: int
    decided: FrameSpan
    """Codec frames to decide: the segment and the kept parts of its border windows."""
    visual_span: FrameSpan
    """Codec frames whose pictures are needed to decide those."""


def segment_frames(index: int, n_frames: int, layout: Layout) -> SegmentFrames:
    """Segment `index` of a film of `n_frames` codec frames."""
    stop = min(layout.handover(index + 1), n_frames)
    before = layout.border(index)
    first, least = layout.kept(before) if index else (0, 0)
    if stop == n_frames:
        last, end = max(n_frames, least), max(n_frames, before[1] if index else 0)
    else:
        end = layout.border(index + 1)[1]
        last = layout.kept(layout.border(index + 1))[1]
    return SegmentFrames(index, layout.handover(index), stop, (first, last), (before[0], end))


def segments(n_frames: int, layout: Layout) -> Iterator[SegmentFrames]:
    """Segments of a film of `n_frames` codec frames; an empty film has none."""
    index = 0
    while layout.handover(index) < n_frames:
        yield segment_frames(index, n_frames, layout)
        index += 1


@dataclass(frozen=True)
class Window:
    """One call of the model."""

    start: int
    """First codec frame. A window may begin before the film or its shot, and reach past their ends."""
    keep: FrameSpan
    """Codec frames that it decides."""
    shot: FrameSpan
    """Shot that it belongs to. Windows are joined by in-painting within a shot only."""
    visual_span: FrameSpan
    """Codec frames whose pictures it uses; beyond them the first or last picture is held."""
    wave: int
    """Wave in which it is drawn: 0 or 1."""
    samples: int
    """Length in samples: one of `Layout.sizes`."""

    @property
    def size(self) -> int:
        """Length in codec frames."""
        return grid.codec_frames(self.samples)

    @property
    def number(self) -> int:
        """Number that its seed is derived from."""
        return self.keep[0]


def zones(frames: SegmentFrames, layout: Layout) -> list[FrameSpan]:
    """Border windows of a segment, which its neighbours decide as well."""
    before = [layout.border(frames.index)] if frames.index else []
    behind = layout.border(frames.index + 1)
    return [*before, behind] if frames.visual_span[1] == behind[1] else before


def plan(
    frames: SegmentFrames, cuts: Sequence[int], border_cuts: Sequence[int], layout: Layout
) -> list[Window]:
    """Windows that decide the codec frames `frames.decided`, in order, each frame exactly once.

    cuts: codec frames of all hard cuts. border_cuts: cuts within the border windows, detected from the pictures of
    these windows alone, so that the neighbouring segment finds the same.
    """
    first, last = frames.decided
    borders, shot_cuts, pieces = zones(frames, layout), list[int](), list[Window]()
    for border in borders:
        usable = _usable_cuts([cut for cut in border_cuts if border[0] < cut < border[1]], *border, layout)
        shot_cuts += usable
        # The neighbour knows nothing of a shot outside of the shared window, so neither may use it.
        for visual in pairwise([border[0], *usable, border[1]]):
            inner = layout.kept(border)
            keep = max(visual[0], inner[0]), min(visual[1], inner[1])
            pieces.append(_placed(keep, (0, 0), visual, 0, layout.samples(visual[1] - visual[0]), layout))
    gaps = _gaps(first, last, [layout.kept(border) for border in borders])
    inside = [
        cut for gap in gaps for cut in _usable_cuts([c for c in cuts if gap[0] < c < gap[1]], *gap, layout)
    ]
    windows: list[Window] = []
    for shot in pairwise([first, *sorted({*shot_cuts, *inside}), last]):
        fixed = [replace(w, shot=shot) for w in pieces if shot[0] <= w.keep[0] and w.keep[1] <= shot[1]]
        windows += fixed
        for start, stop in _gaps(*shot, [w.keep for w in fixed]):
            ties = any(w.keep[1] == start for w in fixed), any(w.keep[0] == stop for w in fixed)
            windows += [
                _placed(keep, shot, shot, wave, samples, layout)
                for keep, wave, samples in fill(start, stop, ties, layout)
            ]
    return sorted(windows, key=lambda window: window.keep)


def _gaps(start: int, stop: int, spans: Sequence[FrameSpan]) -> list[FrameSpan]:
    """Gaps between the spans, in order."""
    edges = [start, *(edge for span in sorted(spans) for edge in span), stop]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]


def _usable_cuts(cuts: Sequence[int], start: int, stop: int, layout: Layout) -> list[int]:
    """Cuts far enough from one another and from the ends of a stretch; the others are ignored."""
    least, edge = round(MIN_SHOT * layout.window), layout.window // 8
    usable: list[int] = []
    for cut in sorted(cuts):
        if start + edge <= cut <= stop - edge and (not usable or cut - usable[-1] >= least):
            usable.append(cut)
    return usable


def fill(start: int, stop: int, ties: tuple[bool, bool], layout: Layout) -> list[tuple[FrameSpan, int, int]]:
    """Cover a stretch with the fewest windows, alternating between the waves: (kept frames, wave, samples) of each.

    All windows are whole except the last, which is as short as possible; surplus is spread over all of them. ties:
    True where the frames before and after the stretch are already decided by first-wave windows of the same shot; the
    windows next to those are of the second wave.
    """
    length, n = stop - start, 1
    if not any(ties) and length <= layout.window:
        return [((start, stop), 0, layout.samples(length))]
    while True:
        # The second wave lies next to decided frames; with both ends decided, the number of windows is odd.
        waves = [(n - k if ties[1] else k + ties[0]) % 2 for k in range(n)]
        room = [_room(k, waves, ties, layout) for k in range(n)]
        if sum(room) >= length and not (all(ties) and n % 2 == 0):
            break
        n += 1
    unkept = layout.window - room.pop()
    last = layout.samples(max(length - sum(room), 1) + unkept)
    room.append(grid.codec_frames(last) - unkept)
    total, edges = sum(room), [start]
    for k in range(n):
        edges.append(start + round(length * sum(room[: k + 1]) / total))
    samples = [layout.sizes[-1]] * (n - 1) + [last]
    return [one for one in zip(pairwise(edges), waves, samples, strict=True) if one[0][0] < one[0][1]]


def _room(k: int, waves: Sequence[int], ties: tuple[bool, bool], layout: Layout) -> int:
    """Codec frames that window k can decide: all but its edges in the first wave, else what its neighbours leave."""
    neighbours = int(k > 0 or ties[0]) + int(k < len(waves) - 1 or ties[1])
    if waves[k] == 0:
        return layout.window - SLACK - neighbours * layout.edge
    return layout.window - neighbours * layout.overlap


def _placed(
    keep: FrameSpan, shot: FrameSpan, visual: FrameSpan, wave: int, samples: int, layout: Layout
) -> Window:
    """Window around `keep`, within `visual` if possible, that begins at a picture."""
    size = grid.codec_frames(samples)
    start = (keep[0] + keep[1] - size) // 2
    start = max(min(start, visual[1] - size), visual[0])
    start = layout.frame(layout.picture(start))
    # Rounding must keep `keep` inside the window.
    start = min(max(start, keep[1] - size), keep[0])
    return Window(start, keep, shot, visual, wave, samples)


def decided(window: Window, windows: Sequence[Window]) -> list[FrameSpan]:
    """Spans of a second-wave window that the first wave has decided; empty for a first-wave window."""
    if window.wave == 0:
        return []
    stop = window.start + window.size
    spans = [
        (max(other.keep[0], window.start), min(other.keep[1], stop))
        for other in windows
        if other.wave == 0 and other.shot == window.shot
    ]
    return [(a, b) for a, b in spans if a < b]


def pictures(window: Window, fps: float, layout: Layout) -> range:
    """Indices, at `fps` from the film's start, of the pictures in a window's time. Those outside `held` are replaced by
    the nearest picture inside."""
    first = round(window.start * grid.HOP * fps / layout.rate)
    return range(first, first + grid.frame_count(grid.seconds(window.samples, layout.rate), fps))


def held(window: Window, fps: float, layout: Layout) -> tuple[int, int]:
    """First and last picture, at `fps`, that a window uses."""
    # A cut lies at a picture of the fastest view; its codec frame is rounded by up to half a frame.
    start_s, stop_s = ((frame - 0.5) * grid.HOP / layout.rate for frame in window.visual_span)
    first = max(0, math.ceil(start_s * fps - 1e-6))
    return first, max(first, math.ceil(stop_s * fps - 1e-6) - 1)


@dataclass(frozen=True)
class Loop:
    """Endlessly repeatable sound from two model calls: the middle of the first is kept, the second is in-painted from
    its end to its beginning. Spans count codec frames within a call."""

    kept: FrameSpan
    """Kept span of the first call."""
    closing: FrameSpan
    """Kept span of the second call."""
    known: tuple[tuple[FrameSpan, FrameSpan], ...]
    """Known spans at both ends of the second call, each with its place in the first call."""

    @property
    def length(self) -> int:
        return self.kept[1] - self.kept[0] + self.closing[1] - self.closing[0]


def loop(layout: Layout) -> Loop:
    """Loop of a layout. The first call discards its edges, like any first-wave window."""
    size, shared = layout.window, layout.overlap
    first, stop = layout.kept((0, size))
    ends = (((0, shared), (stop - shared, stop)), ((size - shared, size), (first, first + shared)))
    return Loop((first, stop), (shared, size - shared), ends)
