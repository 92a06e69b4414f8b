"""Decode stage: the small frames of the report, and films that are not decoded in vain."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pipelines.dub.decode import decode_task, film_strip
from pipelines.dub.state import State
from pipelines.media.errors import Failure
from pipelines.reports.film_card import CARD_S, THUMB_HEIGHT, THUMBS
from tests.support.dub_stages import make_job, plan


def video(duration_s: float, width: int = 640, height: int = 480) -> dict[str, Any]:
    return {"video_id": "v", "path": "a.mp4", "duration_s": duration_s, "width": width, "height": height}


def test_segments_share_the_frames_of_a_card() -> None:
    view, n_thumbs = film_strip(video(10.0), 0.0, 10.0)
    assert (n_thumbs, view.fps, view.width, view.height) == (THUMBS, THUMBS / 10, 128, THUMB_HEIGHT)
    assert film_strip(video(10.0), 5.0, 5.0)[1] == THUMBS // 2
    assert film_strip(video(3600.0), CARD_S, 60.0)[1] == 1


@pytest.mark.parametrize(("width", "height", "expected"), [(1, 1000, 16), (9000, 10, 384), (0, 0, 16)])
def test_frames_of_odd_films_have_a_usual_size(width: int, height: int, expected: int) -> None:
    view, _ = film_strip(video(10.0, width, height), 0.0, 10.0)
    assert (view.width, view.height) == (expected, THUMB_HEIGHT)


def test_nothing_is_decoded_for_what_is_there_or_has_failed(tmp_path: Path) -> None:
    job, sandbox = make_job(tmp_path), None
    tasks = plan(job, video(30.0))
    for done in ({"have_part": True}, {"needless": True}):
        item = decode_task(dataclasses.replace(tasks[0], **done), job, sandbox)  # type: ignore[arg-type]
        assert item.failure is None and not item.arrays
    failure = Failure("decode", "InvalidData", "no pictures")
    State(job.out).write_failure("v", 0, failure)
    assert decode_task(tasks[1], job, sandbox).failure == failure  # type: ignore[arg-type]
