"""The sound policy of a job, applied to one film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipelines.dub import track_plan
from pipelines.dub.job import DubTask
from pipelines.dub.state import State
from pipelines.mux import remux
from pipelines.soundtrack.mixing import MixPolicy
from tests.support.dub_stages import make_job, plan
from v2a_models import grid

VIDEO: dict[str, Any] = {
    "video_id": "v", "path": "a.mp4", "uri": "a.mp4", "duration_s": 10.0, "video_start_s": 0.25,
    "audio_state": "none",
}  # fmt: skip


def task_of(job: Any) -> DubTask:
    return plan(job, VIDEO)[0]


def test_a_silent_film_gets_the_generated_sound_as_it_is(tmp_path: Path) -> None:
    job = make_job(tmp_path, treatment=MixPolicy(existing="mix"))  # there is nothing to mix with
    planned = track_plan.plan_track(task_of(job), job, "a.mkv")
    assert planned.is_plain and not planned.needs_loudness and not planned.holds_original
    assert (planned.title, planned.summary(), planned.generated_s) == (remux.TITLE, "", 10.0)
    assert planned.fmt.n_samples == grid.samples(10.0) and planned.video_start_s == 0.25
    assert "heard_s" not in planned.facts()
    sound = np.arange(grid.samples(10.0, job.rate), dtype=np.int16)[None]
    blocks = list(track_plan.blocks(planned, [sound], []))
    assert sum(block.shape[1] for block in blocks) == planned.fmt.n_samples


def test_requested_stretches_and_loudness_are_in_words_and_facts(tmp_path: Path) -> None:
    job = make_job(tmp_path, treatment=MixPolicy(loudness=-20.0))
    State(job.out).write_request("v", {"spans": [[1.0, 3.0], [8.0, 12.0]]})
    planned = track_plan.plan_track(task_of(job), job, "a.mkv")
    assert planned.spans == ((1.0, 3.0), (8.0, 12.0)) and planned.generated_s == 4.0
    assert not planned.is_plain and planned.needs_loudness
    assert planned.summary() == "-20 LUFS" and planned.facts()["heard_s"] == 4.0
