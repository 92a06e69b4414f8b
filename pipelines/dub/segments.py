"""Cut a film into segments of whole windows, and join their sound to one track. Pure functions.

The windows are those of `v2a_models.grid.windows` over the whole film; a segment is a run of them that one task decodes
and generates. All terms of a sum are rounded to 16 bits first, so that sums are exact: the track is the same, sample
for sample, however the film is cut.
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
    """A run of windows of one film. Positions are samples at the model's own rate."""

    index: int
    first_window: int
    n_windows: int
    start: int
    """First sample of its first window."""
    stop: int
    """One past its last sample in the track (the film's end cuts the last window)."""
    is_first: bool
    is_last: bool


def segments(n_samples: int, window: int, overlap: int, per_segment: int) -> Iterator[Segment]:
    """Cut a track of `n_samples` into segments of `per_segment` windows (the last may hold fewer).

    Neighbouring segments share `overlap` samples, as neighbouring windows do. Raises ValueError for an `overlap` of
    more than half a window, which would reach beyond the next neighbour.
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


def two_wave_segments(n_samples: int, layout: longform.Layout) -> Iterator[Segment]:
    """Cut a track of `n_samples` into segments for two-wave in-painting. They do not overlap; `first_window` and
    `n_windows` are those of a regular grid, before cuts."""
    n_frames = grid.codec_frames(n_samples)
    for frames in longform.segments(n_frames, layout):
        stop = min(frames.stop * grid.HOP, n_samples)
        hop = layout.frame(layout.hop)
        count = max(1, -(-(frames.stop - frames.start) // hop))
        first = frames.index * layout.windows
        last = frames.stop == n_frames
        yield Segment(frames.index, first, count, frames.start * grid.HOP, stop, frames.index == 0, last)


def segment_frames(segment: Segment, layout: longform.Layout) -> longform.SegmentFrames:
    """A two-wave segment in codec frames."""
    # Unless it is the last one, the film continues behind the window that it shares with the next.
    behind = layout.handover(segment.index + 1) + layout.window
    return longform.segment_frames(
        segment.index, grid.codec_frames(segment.stop) if segment.is_last else behind, layout
    )


def footage(segment: Segment, layout: longform.Layout) -> tuple[int, int]:
    """First sample of the footage that a two-wave segment depends on, and one past its last."""
    first, stop = segment_frames(segment, layout).visual_span
    return first * grid.HOP, stop * grid.HOP


def windows_per_segment(segment_s: float, window: int, overlap: int, rate: int = grid.SAMPLE_RATE) -> int:
    """Whole windows that fit into `segment_s` seconds; at least one."""
    return max(1, (grid.samples(segment_s, rate) - overlap) // (window - overlap))


def whole_frames(segment_s: float, frame: int, rate: int) -> int:
    """Samples of the whole frames, `frame` samples each, that fit into `segment_s` seconds; at least one frame."""
    return max(1, grid.samples(segment_s, rate) // frame) * frame


def faded(sound: np.ndarray, overlap: int, *, fade_in: bool, fade_out: bool) -> np.ndarray:
    """Equal-power fades over the first and last `overlap` samples: float [..., n] in, float out.

    The squares of neighbouring fades add to one, so that uncorrelated sounds keep their level.
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
    """Overlap-add the windows of a segment: float [channels, window] each to int16 [channels, n].

    The ends of the segment are faded too, unless they are the film's, so that `join` can add neighbouring segments.
    n = `segment.stop - segment.start`. Raises ValueError for a wrong number or shape of windows.
    """
    track: np.ndarray | None = None
    hop = window - overlap
    n_added = 0
    for k, sound in enumerate(windows):
        if sound.ndim != 2 or sound.shape[1] != window:
            raise ValueError(f"a window must be [channels, {window}], not {sound.shape}")
        if track is None:
            length = (segment.n_windows - 1) * hop + window
            track = np.zeros((sound.shape[0], length), np.int32)
        n_added += 1
        if n_added > segment.n_windows:
            break
        head = not (segment.is_first and k == 0)
        tail = not (segment.is_last and k == segment.n_windows - 1)
        piece = quantise(faded(np.clip(sound, -1.0, 1.0), overlap, fade_in=head, fade_out=tail))
        track[:, k * hop : k * hop + window] += piece
    if track is None or n_added != segment.n_windows:
        raise ValueError(
            f"expected {segment.n_windows} windows, got {n_added if n_added < segment.n_windows else 'more'}"
        )
    return saturate(track[:, : segment.stop - segment.start])


def join(parts: Iterable[np.ndarray], overlap: int) -> Iterator[np.ndarray]:
    """Join the parts of a film in order, int16 [channels, n] each, to one gapless stream of int16 blocks.

    Holds one part at a time. Neighbours are added over `overlap` samples, or fewer if the last part is shorter.
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
