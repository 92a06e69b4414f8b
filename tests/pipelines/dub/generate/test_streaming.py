"""Films dubbed by a model that goes on from its own past: as if made in one go, however they were broken off."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.archive import scan
from pipelines.dub import finish, segments
from pipelines.dub import pipeline as dub_pipeline
from pipelines.dub import plan as dub_plan
from pipelines.dub.generate import streaming
from pipelines.dub.item import Item
from pipelines.dub.job import DubJob, DubTask, call_length, stretch
from pipelines.dub.plan import DubPlan, plan_again
from pipelines.dub.state import State
from pipelines.sandbox.decoder import Sandbox
from tests.support.toy_generators import EchoGenerator, reference, write_video
from v2a_models import grid
from v2a_models.seeds import window_seed

FRAME = EchoGenerator.frame


def make_job(out: Path | str, frames: int = 20, **changes: Any) -> DubJob:
    """A streaming job with segments of `frames` pictures."""
    recipe = EchoGenerator.recipe
    job = DubJob(
        out=str(out), model=reference(EchoGenerator), model_name="echo", model_sha256="0" * 64,
        recipe=recipe.digest, seed=0, rate=recipe.sample_rate, channels=recipe.channels,
        window=frames * FRAME, overlap=0, views=recipe.views,
        batch_size=1, windows_per_segment=1, version="0", run_id="run1", streams=True, frame=FRAME,
        context=EchoGenerator.context_frames * FRAME,
    )  # fmt: skip
    return dataclasses.replace(job, **changes)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


LENGTHS = {"long.mp4": 3.3, "other.mkv": 2.4, "short.mp4": 0.5, "picture.mp4": 1 / 12}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    """Scan rows by path."""
    root = tmp_path_factory.mktemp("archive")
    for name, seconds in LENGTHS.items():
        write_video(root / name, seconds)
    return {row["path"]: row for row in scan.scan(str(root), sandbox)}


def plan(job: DubJob, video: dict[str, Any], **known: Any) -> list[DubTask]:
    return dub_plan.plan_file(job, video, video["path"], video["path"] + ".mkv", **known)


def dubbed(job: DubJob, films: list[list[DubTask]], sandbox: Sandbox) -> list[dict[str, Any]]:
    """The pipeline in this process; the rows of finished files."""
    streamer = streaming.Streamer(job, sandbox=sandbox)
    table = pa.table({"films": [streaming.to_json(films)]})
    rows = [finish.finish_item(item, job) for made in streamer(table) for item in Item.from_table(made)]
    return [row for row in rows if row is not None]


def sounds(job: DubJob, films: list[list[DubTask]], sandbox: Sandbox) -> dict[str, np.ndarray]:
    """video_id -> what is made of these tasks: int16 [2, n]."""
    found: dict[str, list[np.ndarray]] = {}
    for item in streaming.Streamer(job, sandbox=sandbox).stream(films):
        assert item.failure is None, item.failure
        found.setdefault(item.task.video_id, []).append(item.arrays["sound"])
    return {video_id: np.concatenate(parts, axis=1) for video_id, parts in found.items()}


def in_one_loop(job: DubJob, video: dict[str, Any], sandbox: Sandbox) -> np.ndarray:
    """The whole film in one loop, all of its pictures and all of its sound before each segment: int16 [2, n]."""
    n_samples = grid.samples(video["duration_s"], job.rate)
    [pictures] = sandbox.decode_views(video["uri"], [job.views["frames"]], 0.0, n_samples / job.rate + 2)
    track, generator = np.zeros((2, 0), np.int16), EchoGenerator()
    for index, start in enumerate(range(0, n_samples, job.window)):
        n_frames = min(job.window, -(-(n_samples - start) // FRAME) * FRAME) // FRAME
        seen = torch.from_numpy(pictures[None, : start // FRAME + n_frames])
        past = torch.from_numpy(track[None].astype(np.float32) / 32_767)
        seed = window_seed(job.seed, video["video_id"], index)
        made = generator.generate_from_frames({"frames": seen}, [seed], past=past)[0].numpy()
        track = np.concatenate([track, np.rint(made * 32_767).astype(np.int16)], axis=1)
    return track[:, :n_samples]


@pytest.mark.parametrize("frames", [5, 20, 1000])
def test_a_film_sounds_as_if_made_in_one_go(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, frames: int
) -> None:
    job = make_job("out", frames)
    for video in videos.values():
        made = sounds(job, [plan(job, video)], sandbox)[video["video_id"]]
        assert made.shape == (2, grid.samples(video["duration_s"], 16_000)) and made.any()
        np.testing.assert_array_equal(made, in_one_loop(job, video, sandbox))


def test_a_wrong_past_would_be_heard(videos: dict[str, dict[str, Any]], sandbox: Sandbox) -> None:
    video, job = videos["long.mp4"], make_job("out")
    right = sounds(job, [plan(job, video)], sandbox)[video["video_id"]]
    for context in (0, FRAME):
        deaf = dataclasses.replace(job, context=context)
        wrong = sounds(deaf, [plan(deaf, video)], sandbox)[video["video_id"]]
        np.testing.assert_array_equal(wrong[:, : job.window], right[:, : job.window])
        assert np.abs(wrong[:, job.window :].astype(int) - right[:, job.window :]).max() > 30


def test_company_does_not_matter(videos: dict[str, dict[str, Any]], sandbox: Sandbox) -> None:
    job = make_job("out", batch_size=4)
    films = [plan(job, video) for video in videos.values()]
    alone = {}
    for film in films:
        alone |= sounds(job, [film], sandbox)
    for group in (films, films[::-1], films[1:3]):
        for video_id, made in sounds(job, group, sandbox).items():
            np.testing.assert_array_equal(made, alone[video_id])


@given(st.integers(1, 400), st.integers(1, 300_000), st.integers(1, 4))
def test_calls_cover_their_segment_in_few_lengths(frames: int, n_samples: int, batch_size: int) -> None:
    job = make_job("out", frames, batch_size=batch_size)
    cuts = list(segments.segments(n_samples, job.window, 0, 1))
    for cut in cuts:
        start, stop = stretch(job, cut)
        assert start % FRAME == 0 and cut.start - start == min(job.context, cut.start)
        assert stop >= cut.stop and (stop - cut.start) % FRAME == 0
        assert stop - cut.start <= job.window and (cut.is_last or stop == cut.stop)
    if batch_size == 1:
        assert stop - cuts[-1].stop < FRAME
    else:
        lengths = {
            call_length(job, dataclasses.replace(cuts[0], start=0, stop=k * FRAME))
            for k in range(1, frames + 1)
        }
        assert len(lengths) <= 1 + int(np.ceil(np.log2(frames)))


@pytest.mark.parametrize("there", [1, 3, 4])
def test_a_broken_off_film_goes_on_with_the_same_numbers(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path, there: int
) -> None:
    video = videos["long.mp4"]
    digests = []
    for job in (make_job(tmp_path / "whole"), make_job(tmp_path / "cut")):
        tasks = plan(job, video)
        assert len(tasks) == 5
        if job.out.endswith("cut"):
            items = streaming.Streamer(job, sandbox=sandbox).stream([tasks])
            for _ in range(there):
                assert finish.finish_item(next(items), job) is None
            tasks = plan(job, video, done=frozenset(State(job.out).segments_done(video["video_id"])))
            assert len(tasks) == 5 - there
            job = dataclasses.replace(job, run_id="run2")
        [row] = dubbed(job, [tasks], sandbox)
        assert row["status"] == "dubbed" and row["n_windows"] == 5
        digests.append(Path(job.out, row["output"]).read_bytes())
    assert digests[0] == digests[1]


def test_it_goes_on_at_the_first_gap(videos: dict[str, dict[str, Any]]) -> None:
    job = make_job("out")
    tasks = plan(job, videos["long.mp4"], done=frozenset({0, 2, 3}))
    assert [task.segment.index for task in tasks] == [1, 2, 3, 4]
    [rest] = plan(job, videos["long.mp4"], done=frozenset(range(5)))
    assert rest.have_part


def test_a_past_that_reaches_over_several_parts(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path
) -> None:
    job = make_job(tmp_path, 1)  # the past is two pictures long, a segment one
    tasks = plan(job, videos["short.mp4"])
    made = list(streaming.Streamer(job, sandbox=sandbox).stream([tasks]))
    for item in made[:7]:
        finish.finish_item(item, job)
    tail = streaming.kept_tail(State(job.out), tasks[0].video_id, 7, 2 * FRAME, 2)
    np.testing.assert_array_equal(tail, np.concatenate([item.arrays["sound"] for item in made[5:7]], axis=1))
    again = list(streaming.Streamer(job, sandbox=sandbox).stream([tasks[7:]]))
    for item, before in zip(again, made[7:], strict=True):
        np.testing.assert_array_equal(item.arrays["sound"], before.arrays["sound"])


def test_whoever_takes_the_place_of_a_lost_actor_gives_as_many_items(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path
) -> None:
    job = make_job(tmp_path, batch_size=2)
    films = [plan(job, videos[name]) for name in ("long.mp4", "other.mkv")]
    first = streaming.Streamer(job, sandbox=sandbox).stream(films)
    for _ in range(5):
        finish.finish_item(next(first), job)
    items = list(streaming.Streamer(job, sandbox=sandbox).stream(films))
    assert len(items) == sum(map(len, films))
    assert [item.task.have_part for item in items[:6]] == [True] * 5 + [False]
    rows = [row for row in (finish.finish_item(item, job) for item in items) if row is not None]
    assert {row["path"]: row["status"] for row in rows} == {"long.mp4": "dubbed", "other.mkv": "dubbed"}
    # All is done, and asked for once more.
    again = list(streaming.Streamer(job, sandbox=sandbox).stream(films))
    assert [item.task.have_part for item in again] == [True] * len(items)


class Failing(EchoGenerator):
    """Cannot do a film as soon as it has a past."""

    def __init__(self, how: str, seeds: set[int]) -> None:
        super().__init__()
        self.how, self.seeds = how, seeds

    def generate_from_frames(self, frames: Any, seeds: Any, **sampling: Any) -> Any:
        made = super().generate_from_frames(frames, seeds, **sampling)
        bad = [k for k, seed in enumerate(seeds) if seed in self.seeds]
        if bad and self.how == "raise":
            raise RuntimeError("out of memory")
        if self.how == "short":
            return made[..., 1:] if bad else made
        made[bad] = float("nan")
        return made


@pytest.mark.parametrize("how", ["raise", "nan", "short"])
def test_a_film_that_fails_fails_alone(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path, how: str
) -> None:
    job = make_job(tmp_path, batch_size=2)
    films = [plan(job, videos[name]) for name in ("long.mp4", "other.mkv")]
    bad = window_seed(0, films[0][0].video_id, 2)
    failing = dataclasses.replace(job, model=reference(lambda: Failing(how, {bad})))
    rows = dubbed(failing, films, sandbox)
    assert {row["path"]: row["status"] for row in rows} == {"long.mp4": "failed", "other.mkv": "dubbed"}
    [row] = [row for row in rows if row["status"] == "failed"]
    assert row["stage"] == "generate" and row["message"]
    good = dataclasses.replace(job, out=str(tmp_path / "good"))
    dubbed(good, [plan(good, videos["other.mkv"])], sandbox)
    assert (tmp_path / "good" / "other.mkv").read_bytes() == (tmp_path / "other.mkv").read_bytes()


def test_a_film_that_cannot_be_read_fails_alone(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path
) -> None:
    job = make_job(tmp_path, batch_size=2)
    gone = {**videos["long.mp4"], "video_id": "gone", "path": "gone.mp4", "uri": str(tmp_path / "gone.mp4")}
    rows = dubbed(job, [plan(job, gone), plan(job, videos["other.mkv"])], sandbox)
    assert {row["path"]: (row["status"], row["stage"]) for row in rows} == {
        "gone.mp4": ("failed", "storage"), "other.mkv": ("dubbed", ""),
    }  # fmt: skip


def test_a_damaged_part_is_told(videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    video = videos["other.mkv"]
    place = State(job.out).part_uri(video["video_id"], 0)
    Path(place).parent.mkdir(parents=True)
    Path(place).write_bytes(b"half a file")
    items = list(streaming.Streamer(job, sandbox=sandbox).stream([plan(job, video, done={0})]))
    assert items and all(item.failure and item.failure.error_class == "BrokenState" for item in items)
    assert any("not a part" in notice for item in items for notice in item.notices)
    [answer] = [table.to_pylist()[0] for table in finish.finish(items[0].to_table(), job)]
    assert answer["again"] and not answer["row"]
    first, *_ = plan_again(job, DubPlan(plan(job, video)), [video["video_id"]])
    assert first.segment.index == 0 and not first.have_part


def test_films_are_shared_out() -> None:
    job = make_job("out")
    films = [plan(job, {"video_id": str(k), "path": "a", "duration_s": 1.0 + k}) for k in range(7)]
    tasks = [task for film in films for task in film]
    groups = streaming.film_groups(tasks, 3, 2)
    assert [[film[0].video_id for film in group] for group in groups] == [
        ["6", "5", "4"],
        ["3", "2", "1"],
        ["0"],
    ]
    assert [len(group) for group in streaming.film_groups(tasks, 16, 4)] == [2, 2, 2, 1]
    assert streaming.from_json(streaming.to_json(groups[0])) == groups[0]
    long = plan(job, {"video_id": "long", "path": "a", "duration_s": 3600.0})
    *_, last = streaming.film_groups([*long, *tasks], 1, 1)
    assert last[0][0].video_id == "long"  # it waits for all others


OUT = "out of the patient generator"


class Patient(EchoGenerator):
    """Makes its third segment only when its first one is kept in the folder that the actor `OUT` names."""

    def __init__(self) -> None:
        import ray

        super().__init__()
        self.out, self.calls = ray.get(ray.get_actor(OUT).value.remote()), 0

    def generate_from_frames(self, frames: Any, seeds: Any, **sampling: Any) -> Any:
        self.calls += 1
        until = time.monotonic() + 120
        while self.calls == 3 and not list(Path(self.out).rglob("00000.npz")):
            if time.monotonic() > until:
                raise TimeoutError("the first segment is not kept before the film is made")
            time.sleep(0.05)
        return super().generate_from_frames(frames, seeds, **sampling)


def test_segments_are_kept_while_their_film_goes_on(
    ray_session: Any, videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path
) -> None:
    import ray

    class Held:
        def value(self) -> str:
            return str(tmp_path / "out")

    held = ray.remote(num_cpus=0)(Held).options(name=OUT).remote()
    job = make_job(tmp_path / "out", model=reference(Patient))
    tasks = [task for name in ("long.mp4", "short.mp4", "picture.mp4") for task in plan(job, videos[name])]
    pipeline = dub_pipeline.dataset(tasks, job, cpus=1)
    answers = list(dub_pipeline.results(pipeline))
    assert len(answers) == len(tasks) and {answer["fatal"] for answer in answers} == {""}
    rows = {row["path"]: row for row in (json.loads(answer["row"]) for answer in answers if answer["row"])}
    assert {path: row["status"] for path, row in rows.items()} == {
        "long.mp4": "dubbed", "short.mp4": "dubbed", "picture.mp4": "dubbed",
    }  # fmt: skip
    ray.kill(held)
    alone = make_job(tmp_path / "alone")
    dubbed(alone, [plan(alone, videos["long.mp4"])], sandbox)
    assert (tmp_path / "out" / "long.mp4").read_bytes() == (tmp_path / "alone" / "long.mp4").read_bytes()
