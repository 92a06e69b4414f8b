"""How a film is cut into segments of whole windows, and how windows become one track again. Pure functions.

The windows are those of `v2a_models.grid.windows`, laid over the whole film; a segment is a run of them
that one task decodes and generates. Everything that is added is rounded to 16 bits first, so that additions
are exact: the track is the same, sample for sample, however the film is cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from v2a_models import grid, longform
from v2a_models.pcm import quantise, saturate


@dataclass(frozen=True)
class Segment:
    """A run of windows of one film. Positions are in samples, at the model's own rate."""

    index: int
    first_window: int
    n_windows: int
    start: int
    """First sample of its first window."""
    stop: int
    """One past the last sample it adds to the track (the film's end cuts the last window)."""
    is_first: bool
    is_last: bool


def segments(n_samples: int, window: int, overlap: int, per_segment: int) -> Iterator[Segment]:
    """Cut a track of `n_samples` into segments of `per_segment` windows (the last may hold fewer).

    Neighbouring segments share `overlap` samples, as neighbouring windows do. Overlaps may not reach
    further than one neighbour, so `overlap` is at most half a window.
    """
    if per_segment < 1:
        raise ValueError(f"a segment holds at least one window, not {per_segment}")
    if 2 * overlap > window:
        raise ValueError(f"the overlap ({overlap}) is more than half a window ({window})")
    total = grid.window_count(n_samples, window, overlap)
    hop = window - overlap
    for index, first in enumerate(range(0, total, per_segment)):
        count = min(per_segment, total - first)
        start = first * hop
        stop = min(start + (count - 1) * hop + window, n_samples)
        yield Segment(index, first, count, start, stop, first == 0, first + count == total)


def painted(n_samples: int, layout: longform.Layout) -> Iterator[Segment]:
    """The same for windows that are painted towards each other: segments do not overlap, and `first_window` and
    `n_windows` are those of a regular grid, before cuts."""
    n_frames = grid.codec_frames(n_samples)
    for reach in longform.segments(n_frames, layout):
        stop = min(reach.stop * grid.HOP, n_samples)
        hop = layout.frame(layout.hop)
        count = max(1, -(-(reach.stop - reach.start) // hop))
        first = reach.index * layout.windows
        last = reach.stop == n_frames
        yield Segment(reach.index, first, count, reach.start * grid.HOP, stop, reach.index == 0, last)


def reach(segment: Segment, layout: longform.Layout) -> longform.Reach:
    """Such a segment in codec frames."""
    # Where it is not the last one, its film goes on behind the window that it shares with the next.
    behind = layout.handover(segment.index + 1) + layout.window
    return longform.reach(
        segment.index, grid.codec_frames(segment.stop) if segment.is_last else behind, layout
    )


def seen(segment: Segment, layout: longform.Layout) -> tuple[int, int]:
    """First sample of the footage that such a segment is made of, and one past its last."""
    first, stop = reach(segment, layout).seen
    return first * grid.HOP, stop * grid.HOP


def windows_per_segment(segment_s: float, window: int, overlap: int, rate: int = grid.SAMPLE_RATE) -> int:
    """How many whole windows fit into `segment_s` seconds; at least one."""
    return max(1, (grid.samples(segment_s, rate) - overlap) // (window - overlap))


def whole_frames(segment_s: float, frame: int, rate: int) -> int:
    """Samples of the whole frames, of `frame` samples each, that fit into `segment_s` seconds; at least one frame."""
    return max(1, grid.samples(segment_s, rate) // frame) * frame


def faded(sound: np.ndarray, overlap: int, *, fade_in: bool, fade_out: bool) -> np.ndarray:
    """Equal-power fades over the first and last `overlap` samples: float [..., n] in, float out.

    Squared, the fades of neighbours add to one, so that the level of unrelated sounds stays even.
    """
    if overlap == 0 or not (fade_in or fade_out):
        return sound
    sound = sound.copy()
    angle = (np.arange(overlap, dtype=sound.dtype) + 0.5) * (math.pi / 2 / overlap)
    if fade_in:
        sound[..., :overlap] *= np.sin(angle)
    if fade_out:
        sound[..., -overlap:] *= np.cos(angle)
    return sound


def overlap_add(windows: Iterable[np.ndarray], segment: Segment, window: int, overlap: int) -> np.ndarray:
    """Lay the windows of a segment over each other: float [channels, window] each -> int16 [channels, n].

    The segment's own ends are faded too unless they are the film's, so that neighbouring segments can be
    added where they overlap. n = `segment.stop - segment.start`.
    """
    track: np.ndarray | None = None
    hop = window - overlap
    seen = 0
    for k, sound in enumerate(windows):
        if sound.ndim != 2 or sound.shape[1] != window:
            raise ValueError(f"a window must be [channels, {window}], not {sound.shape}")
        if track is None:
            length = (segment.n_windows - 1) * hop + window
            track = np.zeros((sound.shape[0], length), np.int32)
        seen += 1
        if seen > segment.n_windows:
            break
        head = not (segment.is_first and k == 0)
        tail = not (segment.is_last and k == segment.n_windows - 1)
        piece = quantise(faded(np.clip(sound, -1.0, 1.0), overlap, fade_in=head, fade_out=tail))
        track[:, k * hop : k * hop + window] += piece
    if track is None or seen != segment.n_windows:
        raise ValueError(
            f"expected {segment.n_windows} windows, got {seen if seen < segment.n_windows else 'more'}"
        )
    return saturate(track[:, : segment.stop - segment.start])


def join(parts: Iterable[np.ndarray], overlap: int) -> Iterator[np.ndarray]:
    """The parts of a film in order, int16 [channels, n] each, as one gapless stream of int16 blocks.

    Holds one part at a time. Neighbours are added over `overlap` samples (fewer at the film's end, where
    the last part may be shorter).
    """
    rest: np.ndarray | None = None
    for part in parts:
        if rest is None:
            rest = part
            continue
        if overlap:
            yield rest[:, :-overlap]
            shared = rest[:, -overlap:].astype(np.int32)
            n = min(overlap, part.shape[1])
            shared[:, :n] += part[:, :n]
            yield saturate(shared[:, :n])
            rest = part[:, n:]
        else:
            yield rest
            rest = part
    if rest is not None:
        yield rest
