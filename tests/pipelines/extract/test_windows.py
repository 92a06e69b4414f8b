"""Windows that a store is to hold, and their distribution to tasks."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipelines.extract import windows
from pipelines.extract.labels import Label
from pipelines.extract.recipes import TEMPLATES
from v2a_models.recipe import Recipe

RAW = TEMPLATES["raw"]


def video(name: str, duration_s: float) -> dict[str, Any]:
    return {
        "video_id": f"id-{name}",
        "path": f"{name}.mp4",
        "uri": f"/archive/{name}.mp4",
        "duration_s": duration_s,
        "video_start_s": 0.0,
    }


recipes = st.builds(
    lambda window, share: replace(RAW, window_s=window, overlap_s=round(window * share, 3)),
    st.floats(0.5, 12).map(lambda x: round(x, 2)),
    st.sampled_from([0, 0.1, 0.25, 0.5]),
)


@given(recipes, st.floats(0.05, 300))
def test_windows_cover_a_film_and_tell_their_own_length(recipe: Recipe, duration_s: float) -> None:
    clips = list(windows.clips_of(video("a", duration_s), recipe, Label()))
    assert clips[0].start_s == 0
    assert [clip.index for clip in clips] == list(range(len(clips)))
    assert len({clip.clip_id for clip in clips}) == len(clips)
    covered = 0.0
    for clip in clips:
        assert clip.start_s <= covered + 1e-3, "a hole between windows"
        assert 0 < clip.duration_s <= recipe.window_s + 1e-9
        assert clip.start_s + clip.duration_s <= duration_s + 1e-9
        covered = clip.start_s + clip.duration_s
    # What a window too short to learn from would have held is all that may be missing.
    assert duration_s - covered <= windows.LEAST_FRACTION * recipe.window_s + 1e-3


def test_a_crumb_at_the_end_makes_no_window_but_a_short_film_does() -> None:
    assert len(list(windows.clips_of(video("a", 8.1), RAW, Label()))) == 2
    assert len(list(windows.clips_of(video("a", 9.5), RAW, Label()))) == 3
    (only,) = windows.clips_of(video("a", 0.1), RAW, Label())
    assert only.duration_s == 0.1


@given(st.lists(st.floats(0.3, 200), min_size=1, max_size=12), st.integers(1, 40), recipes)
def test_blocks_hold_every_clip_once_in_order_and_cut_no_segment(
    lengths: list[float], most: int, recipe: Recipe
) -> None:
    videos = [video(str(k), length) for k, length in enumerate(lengths)]
    clips = windows.plan(videos, recipe, None, (0.5, 0.3, 0.2))
    per_segment = windows.windows_per_segment(recipe)
    blocks = windows.blocks(clips, per_segment, most)
    assert [clip for block in blocks for clip in block] == clips
    assert 0 < len(blocks) <= most and all(blocks)
    for one, other in pairwise(blocks):
        assert windows.segments_of([one[-1], other[0]], per_segment) == [[one[-1]], [other[0]]]


def test_splits_follow_one_another_and_stay_when_files_are_added() -> None:
    videos = [video(str(k), 5.0) for k in range(60)]
    before = windows.plan(videos[:40], RAW, None, (0.6, 0.2, 0.2))
    after = windows.plan(videos, RAW, None, (0.6, 0.2, 0.2))
    assert [clip.split for clip in after] == sorted(clip.split for clip in after)
    assert {clip.split for clip in after} == {"train", "val", "test"}
    split = {clip.clip_id: clip.split for clip in after}
    assert all(split[clip.clip_id] == clip.split for clip in before)


def test_the_plan_survives_being_a_table() -> None:
    clips = windows.plan([video("a", 50.0), video("ü", 3.0)], RAW, None, (1, 0, 0))
    assert windows.from_table(windows.to_table(clips)) == clips
