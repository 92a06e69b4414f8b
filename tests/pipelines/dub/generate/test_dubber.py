"""The actor of the generate stage: its sound follows from job and pictures, not from what it makes besides."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.dub import decode, finish
from pipelines.dub.generate.dubber import Dubber
from pipelines.dub.job import DubTask
from pipelines.sandbox.decoder import Sandbox
from tests.support.dub_stages import make_job, plan
from tests.support.toy_generators import NoiseGenerator, reference, toy_checkpoint
from v2a_models import grid


def test_sound_does_not_depend_on_company_or_order(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path
) -> None:
    job = make_job(tmp_path)
    tasks = plan(job, videos["silent.mp4"]) + plan(job, videos["short.mp4"])
    dubber = Dubber(job)

    def sounds(groups: list[list[DubTask]]) -> dict[tuple[str, int], bytes]:
        made = {}
        for group in groups:
            for item in dubber.generate([decode.decode_task(task, job, sandbox) for task in group]):
                made[item.task.video_id, item.task.segment.index] = item.arrays["sound"].tobytes()
        return made

    together = sounds([tasks])
    assert len(together) == 3
    assert sounds([[task] for task in tasks]) == together
    assert sounds([tasks[::-1]]) == together


def test_seed_and_picture_decide_the_sound(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path
) -> None:
    sounds = []
    for job in (make_job(tmp_path), make_job(tmp_path, seed=1)):
        [task] = plan(job, videos["short.mp4"])
        [item] = Dubber(job).generate([decode.decode_task(task, job, sandbox)])
        sounds.append(item.arrays["sound"])
    assert sounds[0].shape == sounds[1].shape == (1, grid.samples(videos["short.mp4"]["duration_s"]))
    assert not np.array_equal(sounds[0], sounds[1])


def test_the_dubber_chooses_among_candidates_and_the_file_tells(
    tmp_path: Path, videos: dict[str, dict[str, Any]], sandbox: Sandbox
) -> None:
    import av

    from v2a_models.checkpoint import load_generator

    model = toy_checkpoint(tmp_path / "toy")
    recipe = load_generator(model).recipe
    job = make_job(tmp_path, model=model, window=recipe.window, overlap=recipe.overlap, batch_size=2)
    (task,) = plan(job, videos["short.mp4"])

    def dubbed(name: str, candidates: int) -> tuple[np.ndarray, str]:
        """The sound, and what the file says of it."""
        mine = dataclasses.replace(job, out=str(tmp_path / name), candidates=candidates)
        (made,) = Dubber(mine).generate([decode.decode_task(task, mine, sandbox)])
        row = finish.finish_item(made, mine)
        assert row is not None and row["status"] == "dubbed", row
        with av.open(str(tmp_path / name / row["output"])) as film:
            return made.arrays["sound"], film.metadata["comment"]

    sound, comment = dubbed("one", 1)
    assert "candidates" not in comment
    best, comment = dubbed("best", 8)
    assert "seed 0, best of 8 candidates" in comment
    assert best.shape == sound.shape and not np.array_equal(best, sound)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_generator_computes_as_the_job_says(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path, precision: str
) -> None:
    used: list[str] = []

    class Recording(NoiseGenerator):
        def generate_from_frames(self, frames: Any, seeds: Any, **sampling: Any) -> Any:
            used.append(self.precision)
            return super().generate_from_frames(frames, seeds, **sampling)

    job = make_job(tmp_path, model=reference(Recording), precision=precision)
    [task] = plan(job, videos["short.mp4"])
    [item] = Dubber(job).generate([decode.decode_task(task, job, sandbox)])
    assert item.arrays["sound"].any() and set(used) == {precision}
