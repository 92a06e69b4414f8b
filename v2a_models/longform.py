"""Sound of any length from a model of fixed windows, without seams: two waves of windows over a film's codec frames.

    shot:       |<------------------------------------------------------>|
    first wave  [ window ]        [ window ]        [ window ]               drawn independently
    second wave        [    window    ]    [    window    ]                  in-painted between its fixed neighbours

Windows of the second wave are drawn with the neighbours' tokens already decided on both sides, so that the model itself
makes the transition: no crossfade, and a depth of two whatever the length. A film is cut into segments that share one
window of the first wave at each border; both sides draw it from the same pictures and the same seed, so that segments
need nothing of each other. A hard cut ends a shot: no window is decided from pictures of both sides of it. Where the
rest of a shot, or a whole film, is shorter than a window, so is the window: it costs what it covers.

Everything here is counted in codec frames (`grid.HOP` samples) from the film's start, unless called otherwise. Pure
functions; who draws the windows, `pipelines.dub.generate.two_wave` says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from v2a_models import grid

FrameSpan = tuple[int, int]
"""First codec frame, and one past the last."""


@dataclass(frozen=True)
class Layout:
    """How the windows of a model lie on a film. Pictures are those of the model's fastest view."""

    window: int
    """Codec frames that the model makes in one go."""
    overlap: int
    """Codec frames that a window of the second wave knows of each neighbour at least."""
    edge: int
    """Codec frames that a window of the first wave draws at either end and does not keep where another one follows: a
    codec hears silence beyond the ends of what it was trained on, and a model says so in the last tokens."""
    fps: float
    """Pictures per second, on whose times windows begin: a model must see the event where it happens."""
    hop: int
    """Pictures from one window of a regular grid to the next."""
    windows: int
    """From one border to the next; even, so that a border always belongs to the first wave."""
    rate: int = grid.SAMPLE_RATE
    sizes: tuple[int, ...] = field(kw_only=True)
    """Samples of the windows that the model is asked for, the smallest first, the whole one last: a few only, since
    those that are made together must be equally long."""

    @classmethod
    def of(
        cls, window: int, overlap: int, fps: float, segment_s: float, rate: int = grid.SAMPLE_RATE
    ) -> Layout:
        """For windows that share `overlap` samples of `window`, in segments of about `segment_s` seconds.

        Raises ValueError where windows overlap too little to be painted between, or by more than a third.
        """
        hop = math.floor(grid.seconds(window - overlap, rate) * fps + 1e-6)
        frames = grid.codec_frames(window)
        both = frames - math.ceil(hop * rate / (fps * grid.HOP))
        edge = both // 3
        # What is left of it when windows are moved to the nearest picture.
        shared = both - edge - (SLACK + 1) // 2
        if not 0 < shared <= frames // 3:
            raise ValueError(
                f"windows of {frames} codec frames that share {both} cannot be painted between their neighbours; "
                "take an overlap of a tenth of the window or so"
            )
        count = grid.samples(segment_s, rate) / (hop * rate / fps)
        pictures = grid.seconds(window, rate) * fps
        # Of whole pictures, so that these and the sound of a window last equally long.
        parts = {math.ceil(pictures * tenths / 10 - 1e-6) for tenths in range(LEAST_TENTHS, 10)}
        sizes = {grid.samples(part / fps, rate) for part in parts if part < pictures} | {window}
        return cls(
            frames, shared, edge, fps, hop, max(2, 2 * round(count / 2)), rate, sizes=tuple(sorted(sizes))
        )

    def samples(self, frames: int) -> int:
        """Samples of the shortest window that holds so many codec frames; of the whole one if none does."""
        return next((n for n in self.sizes if grid.codec_frames(n) >= frames), self.sizes[-1])

    def frame(self, picture: int) -> int:
        """The codec frame that begins nearest to a picture."""
        return round(picture * self.rate / (self.fps * grid.HOP))

    def picture(self, frame: float) -> int:
        """The picture that begins nearest to a codec frame."""
        return round(frame * grid.HOP * self.fps / self.rate)

    def border(self, index: int) -> FrameSpan:
        """The window that segments `index - 1` and `index` share."""
        start = self.frame(index * self.windows * self.hop)
        return start, start + self.window

    def kept(self, border: FrameSpan) -> FrameSpan:
        """What of it is kept."""
        return border[0] + self.edge, border[1] - self.edge

    def handover(self, index: int) -> int:
        """Where segment `index` begins to be heard: in the middle of that window, where no window meets another."""
        return self.border(index)[0] + self.window // 2 if index else 0


SLACK = 3
"""Codec frames of the overlap that may be lost to rounding: to pictures, and of evenly spread windows."""

LEAST_TENTHS = 3
"""Of a window: none is shorter. A model trained on whole windows makes as good a sound of a fourth, and what a call
costs apart from its length begins to count."""

MIN_SHOT = 0.5
"""Of a window: cuts that follow one another faster are not kept apart, since each costs a call of the model, and
a sound of its own would end before it is heard."""


@dataclass(frozen=True)
class Reach:
    """A segment of a film."""

    index: int
    start: int
    """First codec frame that is heard."""
    stop: int
    decided: FrameSpan
    """What is decided for that: with what is kept of the border windows before and behind it."""
    seen: FrameSpan
    """What must be seen of the film to do so."""


def reach(index: int, n_frames: int, layout: Layout) -> Reach:
    """Segment `index` of a film of `n_frames` codec frames."""
    stop = min(layout.handover(index + 1), n_frames)
    before = layout.border(index)
    first, least = layout.kept(before) if index else (0, 0)
    if stop == n_frames:
        last, end = max(n_frames, least), max(n_frames, before[1] if index else 0)
    else:
        end = layout.border(index + 1)[1]
        last = layout.kept(layout.border(index + 1))[1]
    return Reach(index, layout.handover(index), stop, (first, last), (before[0], end))


def segments(n_frames: int, layout: Layout) -> Iterator[Reach]:
    """The segments of a film of `n_frames` codec frames; none of an empty one."""
    index = 0
    while layout.handover(index) < n_frames:
        yield reach(index, n_frames, layout)
        index += 1


@dataclass(frozen=True)
class Window:
    """One call of the model."""

    start: int
    """Its first codec frame; it may begin before the film or its shot, and reach past their ends."""
    keep: FrameSpan
    """What it decides."""
    shot: FrameSpan
    """To which it belongs: only windows of one shot are painted towards each other."""
    look: FrameSpan
    """Of whose pictures it is made: where it reaches beyond, the first or last of them is held."""
    wave: int
    """0 or 1."""
    samples: int
    """That are made: one of `Layout.sizes`."""

    @property
    def size(self) -> int:
        """The same in codec frames."""
        return grid.codec_frames(self.samples)

    @property
    def number(self) -> int:
        """From which its seed follows."""
        return self.keep[0]


def zones(reach: Reach, layout: Layout) -> list[FrameSpan]:
    """The windows at its borders, which its neighbours decide as well."""
    found = [layout.border(reach.index)] if reach.index else []
    behind = layout.border(reach.index + 1)
    return [*found, behind] if reach.seen[1] == behind[1] else found


def plan(reach: Reach, cuts: Sequence[int], border_cuts: Sequence[int], layout: Layout) -> list[Window]:
    """The windows that decide the codec frames `reach.decided`, in order, each frame exactly once.

    cuts: codec frames at which hard cuts lie, anywhere; border_cuts: those in the windows at its borders, found in the
    pictures of these windows alone, since the neighbouring segment must find the same.
    """
    first, last = reach.decided
    borders, found, pieces = zones(reach, layout), list[int](), list[Window]()
    for border in borders:
        kept = _kept([cut for cut in border_cuts if border[0] < cut < border[1]], *border, layout)
        found += kept
        # A neighbour sees nothing of a shot outside of the window that both decide, so neither may look there.
        for look in pairwise([border[0], *kept, border[1]]):
            inner = layout.kept(border)
            keep = max(look[0], inner[0]), min(look[1], inner[1])
            pieces.append(_placed(keep, (0, 0), look, 0, layout.samples(look[1] - look[0]), layout))
    gaps = _gaps(first, last, [layout.kept(border) for border in borders])
    inside = [cut for gap in gaps for cut in _kept([c for c in cuts if gap[0] < c < gap[1]], *gap, layout)]
    windows: list[Window] = []
    for shot in pairwise([first, *sorted({*found, *inside}), last]):
        fixed = [replace(w, shot=shot) for w in pieces if shot[0] <= w.keep[0] and w.keep[1] <= shot[1]]
        windows += fixed
        for start, stop in _gaps(*shot, [w.keep for w in fixed]):
            ties = any(w.keep[1] == start for w in fixed), any(w.keep[0] == stop for w in fixed)
            windows += [
                _placed(keep, shot, shot, wave, samples, layout)
                for keep, wave, samples in fill(start, stop, ties, layout)
            ]
    return sorted(windows, key=lambda window: window.keep)


def _gaps(start: int, stop: int, taken: Sequence[FrameSpan]) -> list[FrameSpan]:
    """What lies between `taken`, in order."""
    edges = [start, *(edge for span in sorted(taken) for edge in span), stop]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]


def _kept(cuts: Sequence[int], start: int, stop: int, layout: Layout) -> list[int]:
    """Those cuts that are kept: far enough from one another, and not at the very ends of a stretch."""
    least, edge = round(MIN_SHOT * layout.window), layout.window // 8
    kept: list[int] = []
    for cut in sorted(cuts):
        if start + edge <= cut <= stop - edge and (not kept or cut - kept[-1] >= least):
            kept.append(cut)
    return kept


def fill(start: int, stop: int, ties: tuple[bool, bool], layout: Layout) -> list[tuple[FrameSpan, int, int]]:
    """(what is kept, wave, samples) of the fewest windows, first and second wave in turn, that cover a stretch: whole
    ones, and a last one as short as can be; what they have to spare is spread over all of them.

    ties: whether what lies before and behind it in the same shot is decided already, by windows of the first wave; the
    windows next to that are of the second.
    """
    length, n = stop - start, 1
    if not any(ties) and length <= layout.window:
        return [((start, stop), 0, layout.samples(length))]
    while True:
        # Next to what is decided comes the second wave, on either side: with both, an odd number of windows.
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
    """How much window k can decide: all but its edges in the first wave, else what its fixed neighbours leave."""
    neighbours = int(k > 0 or ties[0]) + int(k < len(waves) - 1 or ties[1])
    if waves[k] == 0:
        return layout.window - SLACK - neighbours * layout.edge
    return layout.window - neighbours * layout.overlap


def _placed(
    keep: FrameSpan, shot: FrameSpan, look: FrameSpan, wave: int, samples: int, layout: Layout
) -> Window:
    """The window around what it keeps: within what it looks at as far as that goes, beginning with a picture."""
    size = grid.codec_frames(samples)
    start = (keep[0] + keep[1] - size) // 2
    start = max(min(start, look[1] - size), look[0])
    start = layout.frame(layout.picture(start))
    # Rounding must not push out what it is there for.
    start = min(max(start, keep[1] - size), keep[0])
    return Window(start, keep, shot, look, wave, samples)


def decided(window: Window, windows: Sequence[Window]) -> list[FrameSpan]:
    """What of a window of the second wave the first wave has decided before it is drawn."""
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
    """Numbers, at `fps` from the film's start, of the pictures that a window is shown in its time; `held` says which of
    them stand for others."""
    first = round(window.start * grid.HOP * fps / layout.rate)
    return range(first, first + grid.frame_count(grid.seconds(window.samples, layout.rate), fps))


def held(window: Window, fps: float, layout: Layout) -> tuple[int, int]:
    """The first and the last picture, at `fps`, of what a window looks at."""
    # A cut lies at a picture of the fastest view, and its codec frame up to half of one from that.
    start_s, stop_s = ((frame - 0.5) * grid.HOP / layout.rate for frame in window.look)
    first = max(0, math.ceil(start_s * fps - 1e-6))
    return first, max(first, math.ceil(stop_s * fps - 1e-6) - 1)


@dataclass(frozen=True)
class Loop:
    """A sound that can be repeated for ever, of two calls of the model: one of which the middle is kept, and one
    painted from its end to its beginning. Spans are of codec frames within a call."""

    kept: FrameSpan
    """Of the first call."""
    closing: FrameSpan
    """Of the second."""
    known: tuple[tuple[FrameSpan, FrameSpan], ...]
    """What of the second call is decided before it, and where in the first call that is: at both ends."""

    @property
    def length(self) -> int:
        return self.kept[1] - self.kept[0] + self.closing[1] - self.closing[0]


def loop(layout: Layout) -> Loop:
    """The loop of a layout. Like any window of the first wave, the first call does not keep its edges."""
    size, shared = layout.window, layout.overlap
    first, stop = layout.kept((0, size))
    ends = (((0, shared), (stop - shared, stop)), ((size - shared, size), (first, first + shared)))
    return Loop((first, stop), (shared, size - shared), ends)
