"""Plan of an extraction: the windows of each file that a feature store will hold. Pure functions.

A film is cut into the recipe's windows, which are grouped into segments of about a minute. A segment is always decoded
from its own start. Otherwise codec and resampler state would make a resumed run differ from a first run in the last
bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from pipelines.extract.labels import Label, Labels, split_of
from pipelines.media import clock
from v2a_models import grid
from v2a_models.recipe import Recipe

SEGMENT_S = 60.0
"""Seconds of footage decoded in one pass."""

LEAST_FRACTION = 0.25
"""Minimum fraction of a window that must be footage, unless the whole file is shorter."""

PLAN_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("video_id", pa.string()),
        ("path", pa.string()),
        ("uri", pa.string()),
        ("index", pa.int64()),
        ("start_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("video_start_s", pa.float64()),
        ("film_s", pa.float64()),
        ("label", pa.string()),
        ("text", pa.string()),
        ("split", pa.string()),
        ("seeks", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class Clip:
    """One window of one file."""

    clip_id: str
    video_id: str
    path: str
    uri: str
    index: int
    """Number of the window in its file."""
    start_s: float
    duration_s: float
    """Footage in the window; less than the recipe's window at the end of a file."""
    video_start_s: float
    """Container time of the first picture."""
    film_s: float
    """Length of the file."""
    label: str
    text: str
    split: str
    seeks: bool = True
    """False for a file whose clock leaps (`clock.has_leaps`)."""


def windows_per_segment(recipe: Recipe) -> int:
    """Windows decoded in one pass; at least one."""
    return max(
        1, (grid.samples(SEGMENT_S, recipe.sample_rate) - recipe.overlap) // (recipe.window - recipe.overlap)
    )


def clips_of(video: dict[str, Any], recipe: Recipe, label: Label) -> Iterator[Clip]:
    """The windows of a scanned file, in order. The last may hold less footage than a window (`LEAST_FRACTION`)."""
    film_s = float(video["duration_s"])
    n_samples = grid.samples(film_s, recipe.sample_rate)
    for window in grid.windows(n_samples, recipe.window, recipe.overlap):
        start_s = grid.seconds(window.start, recipe.sample_rate)
        if window.index and film_s - start_s < LEAST_FRACTION * recipe.window_s:
            return
        yield Clip(
            clip_id=f"{video['video_id']}-{window.index:06d}",
            video_id=video["video_id"],
            path=video["path"],
            uri=video["uri"],
            index=window.index,
            start_s=start_s,
            duration_s=min(recipe.window_s, film_s - start_s),
            video_start_s=float(video["video_start_s"]),
            film_s=film_s,
            label=label.label,
            text=label.text,
            split=label.split,
            seeks=not clock.has_leaps(video.get("error")),
        )


def plan(
    videos: Iterable[dict[str, Any]],
    recipe: Recipe,
    labels: Labels | None,
    fractions: tuple[float, float, float],
) -> list[Clip]:
    """The windows of all files, split by split and in the order of the files.

    A file without a split in `labels` gets one by a hash of its path (`fractions` of train, val and test), so that
    adding files does not move it.
    """
    clips: list[Clip] = []
    for video in videos:
        label = (labels.of(video["path"]) if labels is not None else None) or Label()
        split = label.split or split_of(video["path"], fractions)
        clips += clips_of(video, recipe, Label(label.label, label.text, split))
    # Sorted by split, so that few files of the store have to be cut at a split.
    return sorted(clips, key=lambda clip: clip.split)


def to_table(clips: Sequence[Clip]) -> pa.Table:
    """Clips as rows of PLAN_SCHEMA."""
    return pa.Table.from_pylist([asdict(clip) for clip in clips], schema=PLAN_SCHEMA)


def from_table(rows: pa.Table) -> list[Clip]:
    """Inverse of `to_table`; further columns are ignored."""
    return [Clip(**row) for row in rows.select(PLAN_SCHEMA.names).to_pylist()]


def segments_of(clips: Iterable[Clip], per_segment: int) -> list[list[Clip]]:
    """Runs of clips, in the order of the plan, each decoded in one pass."""
    segments: list[list[Clip]] = []
    for clip in clips:
        last = segments[-1][-1] if segments else None
        same = last is not None and last.video_id == clip.video_id
        if same and last is not None and last.index // per_segment == clip.index // per_segment:
            segments[-1].append(clip)
        else:
            segments.append([clip])
    return segments


def blocks(clips: Sequence[Clip], per_segment: int, most: int) -> list[list[Clip]]:
    """Clips cut into at most `most` blocks of whole segments, in order, about equally large."""
    segments = segments_of(clips, per_segment)
    if not segments:
        return []
    n_blocks = min(most, len(segments))
    cut: list[list[Clip]] = [[]]
    done = 0
    for segment in segments:
        if cut[-1] and done * n_blocks >= len(clips) * len(cut) and len(cut) < n_blocks:
            cut.append([])
        cut[-1] += segment
        done += len(segment)
    return cut
