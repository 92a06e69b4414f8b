"""Windows of a segment under two-wave in-painting: its hard cuts, its still windows, and their pictures.

The decode stage annotates an item, and the generate stage derives its windows from that. Both, and the neighbouring
segment, must derive the same windows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.dub import segments
from pipelines.dub.item import Item
from pipelines.dub.job import DubJob
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
    windows = windows_of(item, job.layout)
    if len(ambient_windows(item, windows)) == len(windows):
        for name in job.views:
            del item.arrays[name]


def windows_of(item: Item, layout: Layout) -> list[Window]:
    """Windows that decide the tokens of an item's segment."""
    return longform.plan(
        segments.segment_frames(item.task.segment, layout), item.cuts, item.border_cuts, layout
    )


def ambient_windows(item: Item, windows: Sequence[Window]) -> list[Window]:
    """Windows with the ambience, or silence, of still stretches: still, and in the second wave between still ones."""
    still = {(first, stop) for first, stop in item.still_windows}
    return [window for window in windows if _is_ambient(window, windows, still)]


def _is_ambient(window: Window, windows: Sequence[Window], still: set[FrameSpan]) -> bool:
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
