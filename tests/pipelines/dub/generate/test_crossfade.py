"""Crossfaded windows: the same sound however a film is cut, and captions for all of it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.dub import decode
from pipelines.dub.generate.crossfade import caption_span
from pipelines.dub.generate.dubber import Dubber
from pipelines.dub.item import Item
from pipelines.dub.segment_facts import Part
from pipelines.dub.state import State
from pipelines.sandbox.decoder import Sandbox
from pipelines.soundtrack import resampling
from tests.support.dub_stages import dubbed_sound, make_job, plan, run_stages
from tests.support.toy_generators import StereoGenerator
from v2a_models import grid


@pytest.mark.parametrize(
    "changes", [{"windows_per_segment": 1}, {"windows_per_segment": 50}, {"run_id": "other"}]
)
def test_sound_does_not_depend_on_segments(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path, changes: dict[str, Any]
) -> None:
    video = videos["silent.mp4"]
    tracks = []
    for folder, job in (("a", make_job(tmp_path / "a")), ("b", make_job(tmp_path / "b", **changes))):
        dubber = Dubber(job)
        for task in plan(job, video):
            [item] = dubber.generate([decode.decode_task(task, job, sandbox)])
            part = Part(item.arrays["sound"], item.arrays["thumbs"], np.array(item.thumb_times))
            State(str(tmp_path / folder)).write_part(task.video_id, task.segment.index, part)
        tracks.append(dubbed_sound(job, video))
    assert tracks[0].shape == (1, grid.samples(video["duration_s"]))
    np.testing.assert_array_equal(tracks[0], tracks[1])


@pytest.mark.parametrize("name", ["silent.mp4", "quiet.mkv"])
def test_stereo_at_another_rate_from_pixels(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    import av

    video = videos[name]
    tracks = []
    for per_segment in (1, 50):
        job = make_job(tmp_path / str(per_segment), StereoGenerator, windows_per_segment=per_segment)
        dubber = Dubber(job)
        for task in plan(job, video):
            [item] = dubber.generate([decode.decode_task(task, job, sandbox)])
            part = Part(item.arrays["sound"], item.arrays["thumbs"], np.array(item.thumb_times))
            State(job.out).write_part(task.video_id, task.segment.index, part)
        tracks.append(dubbed_sound(job, video))
    assert tracks[0].shape == (2, grid.samples(video["duration_s"], 16_000))
    np.testing.assert_array_equal(tracks[0], tracks[1])
    assert not np.array_equal(tracks[0][0], tracks[0][1])

    job = make_job(tmp_path / "out", StereoGenerator)
    [row] = run_stages(plan(job, video), job, sandbox)
    assert row["status"] == "dubbed" and (tmp_path / "out" / row["card"]).exists()
    n_samples = grid.samples(video["duration_s"])
    expected = np.concatenate(list(resampling.resampled(tracks[:1], 2, 16_000, n_samples)), axis=1)
    assert expected.shape == (2, n_samples)
    with av.open(str(tmp_path / "out" / row["output"])) as film:
        track = film.streams.audio[0]  # before what was there
        assert (track.rate, track.channels) == (44_100, 2)
        heard = np.concatenate([frame.to_ndarray() for frame in film.decode(track)], axis=1)
    if name.endswith(".mkv"):  # FLAC: exact to the sample
        np.testing.assert_array_equal(heard.reshape(-1, 2).T, expected)
    else:
        assert n_samples <= heard.shape[1] < n_samples + 1024


def test_a_generator_with_other_channels_than_its_recipe_fails_alone(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path
) -> None:
    job = make_job(tmp_path, StereoGenerator, channels=1)
    [task] = plan(job, videos["short.mp4"])
    [item] = Dubber(job).generate([decode.decode_task(task, job, sandbox)])
    assert item.failure is not None and "gave 2 channels, not 1" in item.failure.message


@pytest.mark.parametrize("per_segment", [1, 2, 50])
def test_captions_cover_the_film_without_a_gap(per_segment: int) -> None:
    job = make_job("out", windows_per_segment=per_segment)
    tasks = plan(job, {"video_id": "v", "path": "a.mp4", "duration_s": 5.0})
    spans = [caption_span(Item(task), k, job) for task in tasks for k in range(task.segment.n_windows)]
    assert len(spans) > 2 and spans[0][0] == 0 and spans[-1][1] == pytest.approx(5.0, abs=1e-3)
    assert all(left[1] == right[0] for left, right in pairwise(spans))
