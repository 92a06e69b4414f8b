"""Batches of windows: alike in texts and length, of limited size, and without invented frames."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pipelines.dub.generate.batches import batch_of, batches, billed
from pipelines.dub.item import Item
from pipelines.media.errors import Failure
from tests.support.dub_stages import make_job, plan


@dataclasses.dataclass
class Sized:
    """A window of some length."""

    item: Item
    length: int


def item_with(prompt: str) -> Item:
    job = make_job("out")
    task = plan(job, {"video_id": "v", "path": "a.mp4", "duration_s": 1.0})[0]
    return Item(dataclasses.replace(task, overrides={"prompt": prompt} if prompt else {}))


def test_windows_of_a_batch_are_alike_and_few() -> None:
    job, plain, drum = make_job("out", batch_size=2), item_with(""), item_with("a drum")
    todo = [Sized(item, length) for length in (7, 7, 8, 7, 7, 7) for item in (plain, drum)]
    found = list(batches(todo, job, lambda window: window.length))
    assert sum(len(batch) for batch in found) == len(todo)
    for batch in found:
        assert len(batch) <= job.batch_size
        assert len({(id(window.item), window.length) for window in batch}) == 1
    assert [len(batch) for batch in found] == [2, 2, 1, 2, 2, 1, 1, 1]


def test_frames_that_were_not_decoded_are_an_error() -> None:
    job, item = make_job("out"), item_with("")
    item.arrays = {
        name: np.zeros((40, view.height, view.width, 3), np.uint8) for name, view in job.views.items()
    }
    starts = [(item, 0), (item, 0), (item, 0)]
    for name, frames in batch_of(starts, job, job.window, "cpu").items():
        assert frames.shape[0] == 3 and frames.shape[2:] == item.arrays[name].shape[1:]
    item.arrays = {name: frames[:1] for name, frames in item.arrays.items()}
    with pytest.raises(ValueError, match=r"frames too few at 0\.00 s"):
        batch_of(starts, job, job.window, "cpu")


def test_an_error_fails_the_items_of_its_work_alone() -> None:
    good, bad = item_with(""), item_with("a drum")
    with billed([bad, bad], "cuda"):
        raise ValueError("no sound")
    with billed([good], "cpu"):
        pass
    assert bad.failure == Failure("generate", "ValueError", "no sound")
    assert bad.facts.gpu_s == bad.facts.cost_s > 0
    assert good.failure is None and good.facts.cost_s > good.facts.gpu_s == 0
