"""Plan of a dub: the action for each file, its tasks, and the identity of the job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.dub import pipeline
from pipelines.dub import plan as dub_plan
from pipelines.dub.job import DubTask
from pipelines.dub.plan import make_plan
from pipelines.dub.state import State
from tests.support.dub_stages import make_job, plan


def test_what_becomes_of_each_file(videos: dict[str, dict[str, Any]]) -> None:
    silent = {path: dub_plan.classify(row, "silent") for path, row in videos.items()}
    assert {path: action for path, (action, _) in silent.items()} == {
        "silent.mp4": "dub",
        "short.mp4": "dub",
        "quiet.mkv": "dub",
        "loud.mp4": "skipped",
        "notes.txt": "skipped",
        "broken.mp4": "failed",
    }
    assert silent["notes.txt"][1] == "not a video (text file)"
    assert "has sound" in silent["loud.mp4"][1]
    assert dub_plan.classify(videos["loud.mp4"], "all")[0] == "dub"


def test_a_film_that_cannot_be_planned_is_a_failed_row(
    videos: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    odd = [videos["silent.mp4"] | {"video_id": str(k), "path": f"{k}.mp4"} for k in range(3)]
    odd[0]["duration_s"] = odd[1]["container"] = None
    State(str(tmp_path)).write_row({"video_id": "2"})  # of no use, and in nobody's way
    plan = make_plan(make_job(tmp_path), [*odd, videos["short.mp4"]], "silent")
    for k in range(2):
        row = plan.rows[str(k)]
        assert (row["status"], row["stage"]) == ("failed", "plan")
        assert row["error_class"] in ("TypeError", "AttributeError") and row["message"]
    assert list(plan.to_dub) == ["2", videos["short.mp4"]["video_id"]]
    assert len(plan.order) == 4


@given(st.floats(min_value=0.01, max_value=600), st.sets(st.integers(min_value=0, max_value=400)))
def test_tasks_cover_what_is_left_of_a_film(duration_s: float, done: set[int]) -> None:
    job = make_job("out")
    video = {"video_id": "v", "path": "a.mp4", "duration_s": duration_s}
    everything = plan(job, video)
    assert sum(task.seconds for task in everything) == pytest.approx(duration_s, abs=1e-4)
    rest = plan(job, video, done=frozenset(done))
    left = {task.segment.index for task in everything} - done
    if left:
        assert {task.segment.index for task in rest} == left
        assert not any(task.have_part for task in rest)
    else:
        assert [task.have_part for task in rest] == [True]
    for task in everything:
        assert DubTask.from_json(task.to_json()) == task


def test_a_film_without_a_sample_is_an_error() -> None:
    with pytest.raises(ValueError, match="too short"):
        plan(make_job("out"), {"video_id": "v", "path": "a.mp4", "duration_s": 0.0})


def test_short_films_share_a_batch() -> None:
    job = make_job("out")
    short = [plan(job, {"video_id": str(k), "path": "a", "duration_s": 0.5})[0] for k in range(9)]
    assert pipeline.rows_per_call(short, 8) == 16
    long = plan(make_job("out", windows_per_segment=60), {"video_id": "v", "path": "a", "duration_s": 3000.0})
    assert pipeline.rows_per_call(long, 8) == 1
    assert pipeline.rows_per_call([], 8) == 1


def test_generators_fit_the_machine() -> None:
    assert [pipeline.dubbers_for(cpus, 0) for cpus in (1, 2, 4, 16)] == [1, 2, 3, 13]
    assert pipeline.dubbers_for(16, 4 * pipeline.DUBBER_MEMORY) == 4
    assert pipeline.dubbers_for(2, 1) == 1


def test_what_decides_the_sound_is_named_as_it_always_was() -> None:
    """An output that an earlier version began must resume."""
    assert list(make_job("out").identity()) == [
        "model", "model_sha256", "recipe", "seed", "window", "overlap", "batch_size", "precision",
    ]  # fmt: skip


def test_candidates_are_part_of_what_decides_the_sound() -> None:
    alone = make_job("out").identity()
    assert "selection" not in alone  # as it was before there was any
    several = make_job("out", candidates=10, scav_sha256="ab" * 32).identity()
    assert several == alone | {"selection": "best of 10 by SCAV abababababababab"}
