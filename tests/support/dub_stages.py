"""The stages of a dub job one by one, without Ray: a job, its tasks, and what they make."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.dub import decode, finish, segments
from pipelines.dub import plan as dub_plan
from pipelines.dub.generate.dubber import Dubber
from pipelines.dub.job import DubJob, DubTask, file_segments
from pipelines.dub.state import State
from pipelines.sandbox.decoder import Sandbox
from tests.support.toy_generators import NoiseGenerator, reference
from v2a_models.generator import Generator


def make_job(out: Path | str, generator: type[Generator] = NoiseGenerator, **changes: Any) -> DubJob:
    recipe = generator.recipe
    job = DubJob(
        out=str(out),
        model=reference(generator),
        model_name=generator.name,
        model_sha256="0" * 64,
        recipe=recipe.digest,
        seed=0,
        rate=recipe.sample_rate,
        channels=recipe.channels,
        window=recipe.window,
        overlap=recipe.overlap,
        views=recipe.views,
        batch_size=4,
        windows_per_segment=2,
        version="0",
        run_id="run1",
    )
    return dataclasses.replace(job, **changes)


def plan(job: DubJob, video: dict[str, Any], **known: Any) -> list[DubTask]:
    return dub_plan.plan_file(job, video, video["path"], video["path"] + ".mkv", **known)


def run_stages(
    tasks: list[DubTask], job: DubJob, sandbox: Sandbox, call_size: int = 3
) -> list[dict[str, Any]]:
    """The pipeline in this process; the rows of finished files."""
    dubber = Dubber(job)
    rows = []
    items = [decode.decode_task(task, job, sandbox) for task in tasks]
    for first in range(0, len(items), call_size):
        for item in dubber.generate(items[first : first + call_size]):
            row = finish.finish_item(item, job)
            if row is not None:
                rows.append(row)
    return rows


def dubbed_sound(job: DubJob, video: dict[str, Any]) -> np.ndarray:
    """The track that a set of parts makes: int16 [1, n]."""
    state = State(job.out)
    n = len(file_segments(job, video["duration_s"]))
    parts = (state.read_part(video["video_id"], k).sound for k in range(n))
    return np.concatenate(list(segments.join(parts, job.overlap)), axis=1)
