"""The stages of a dub job one by one (without Ray) and together (on it)."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import retry, storage
from pipelines.dub import decode, finish
from pipelines.dub import pipeline as dub_pipeline
from pipelines.dub import plan as planning
from pipelines.dub.generate.dubber import Dubber
from pipelines.dub.item import Item
from pipelines.dub.segment_facts import Part
from pipelines.dub.state import State
from pipelines.media.errors import DecodeFailed, Failure
from pipelines.sandbox.decoder import Sandbox
from pipelines.storage import records
from tests.support.dub_stages import make_job, plan, run_stages
from tests.support.toy_generators import (
    NoiseGenerator,
    reference,
)


def test_a_file_from_start_to_end(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path
) -> None:
    video = videos["silent.mp4"]
    job = make_job(tmp_path)
    tasks = plan(job, video)
    assert len(tasks) == 2
    rows = run_stages(tasks, job, sandbox)
    assert len(rows) == 1
    row = rows[0]
    assert (row["status"], row["output"], row["n_windows"]) == ("dubbed", "silent.mp4", 4)
    assert row["output_size"] == (tmp_path / "silent.mp4").stat().st_size
    assert -60 < row["sound_rms_dbfs"] < row["sound_peak_dbfs"] <= 0
    assert (tmp_path / row["card"]).exists()
    facts = sandbox.probe(str(tmp_path / "silent.mp4"))
    assert (facts.n_audio_tracks, facts.audio_state) == (1, "audible")
    assert State(str(tmp_path)).read_row(video["video_id"]) == row
    assert State(str(tmp_path)).segments_done(video["video_id"]) == {}
    assert not list(tmp_path.rglob(".v2a-tmp-*"))


def test_items_travel_as_tables(videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path) -> None:
    import pyarrow as pa

    job = make_job(tmp_path)
    tasks = plan(job, videos["silent.mp4"])
    items = [decode.decode_task(task, job, sandbox) for task in tasks]
    failed = Item(tasks[0], Failure("decode", "InvalidData", "no"))
    table = pa.concat_tables([item.to_table() for item in (*items, failed)])
    back = Item.from_table(table)
    assert [item.task for item in back] == [item.task for item in (*items, failed)]
    assert back[2].failure == failed.failure
    for left, right in zip(items, back, strict=False):
        assert left.arrays.keys() == right.arrays.keys()
        for name, array in left.arrays.items():
            np.testing.assert_array_equal(array, right.arrays[name])


class Unreadable:
    """A sandbox whose every file is bad in the same way."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls = 0

    def decode_views(self, *_: Any) -> Any:
        self.calls += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "stage", "calls"),
    [
        (DecodeFailed("DecoderTimeout", "hung", "decode"), "decode", 1),
        (RuntimeError("a bug"), "decode", 1),
        (storage.StorageError("the network is down"), "storage", 3),
    ],
)
def test_what_a_file_does_becomes_its_row(
    videos: dict[str, dict[str, Any]],
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    stage: str,
    calls: int,
) -> None:
    monkeypatch.setattr(retry, "DUB", retry.RetryPolicy(3, 0.0))
    job = make_job(tmp_path)
    bad = Unreadable(error)
    first, second = plan(job, videos["silent.mp4"])
    dubber = Dubber(job)
    good = decode.decode_task(plan(job, videos["short.mp4"])[0], job, sandbox)
    items = dubber.generate([decode.decode_task(first, job, bad), good])  # type: ignore[arg-type]
    assert finish.finish_item(items[0], job) is None
    assert bad.calls == calls
    neighbour = finish.finish_item(items[1], job)
    assert neighbour is not None and neighbour["status"] == "dubbed"
    # The rest of the film is not decoded any more.
    last = decode.decode_task(second, job, bad)  # type: ignore[arg-type]
    assert bad.calls == calls
    row = finish.finish_item(dubber.generate([last])[0], job)
    assert row is not None
    assert (row["status"], row["stage"], row["output"]) == ("failed", stage, "")
    assert row["message"]
    assert not (tmp_path / "silent.mp4").exists()


class Failing(NoiseGenerator):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def generate_from_frames(self, frames: Any, seeds: Any, **sampling: Any) -> Any:
        if self.how == "raise":
            raise RuntimeError("CUDA error: out of memory")
        return super().generate_from_frames(frames, seeds, **sampling) * float("nan")


@pytest.mark.parametrize("how", ["raise", "nan"])
def test_what_the_generator_does_becomes_a_row(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path, how: str
) -> None:
    job = make_job(tmp_path, model=reference(lambda: Failing(how)))
    [task] = plan(job, videos["short.mp4"])
    dubber = Dubber(job)
    [item] = dubber.generate([decode.decode_task(task, job, sandbox)])
    row = finish.finish_item(item, job)
    assert row is not None
    assert (row["status"], row["stage"]) == ("failed", "generate")


def test_closing_twice_is_harmless(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path
) -> None:
    job = make_job(tmp_path)
    [task] = plan(job, videos["short.mp4"])
    [item] = Dubber(job).generate([decode.decode_task(task, job, sandbox)])
    first = finish.finish_item(item, job)
    digest = (tmp_path / "short.mp4").read_bytes()
    assert finish.finish_item(item, job) == first
    # A later run that finds the part but no row only has to finish the file.
    part = Part(item.arrays["sound"], item.arrays["thumbs"], np.array(item.thumb_times))
    State(job.out).write_part(task.video_id, 0, part)
    State(job.out).drop_row(task.video_id)
    (tmp_path / "short.mp4").unlink()
    [resumed] = plan(job, videos["short.mp4"], done=frozenset({0}))
    row = finish.finish_item(decode.decode_task(resumed, job, Unreadable(ValueError())), job)  # type: ignore[arg-type]
    assert row is not None and row["status"] == "dubbed"
    assert (tmp_path / "short.mp4").read_bytes() == digest


def test_a_full_disk_ends_the_job_with_the_reason(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path)
    [task] = plan(job, videos["short.mp4"])
    [item] = Dubber(job).generate([decode.decode_task(task, job, sandbox)])

    def full(uri: str, data: bytes) -> None:
        raise storage.StorageError(f"{uri}: No space left on device")

    monkeypatch.setattr(records, "write_atomic", full)
    [answer] = [table.to_pylist()[0] for table in finish.finish(item.to_table(), job)]
    assert "No space left" in answer["fatal"]
    assert answer["row"] == ""


def test_a_place_taken_meanwhile_costs_one_film_and_no_sound(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path
) -> None:
    job = make_job(tmp_path / "out")
    [task] = plan(job, videos["short.mp4"])
    [item] = Dubber(job).generate([decode.decode_task(task, job, sandbox)])
    place = tmp_path / "out" / "short.mp4"
    (place / "folder").mkdir(parents=True)
    [answer] = [table.to_pylist()[0] for table in finish.finish(item.to_table(), job)]
    row = json.loads(answer["row"])
    assert answer["fatal"] == ""
    assert (row["status"], row["stage"], row["error_class"]) == ("failed", "storage", "StorageRefused")
    assert str(place) in row["message"] and "run the command again" in row["message"]
    assert State(job.out).read_row(task.video_id) == row
    (place / "folder").rmdir()
    place.rmdir()
    again = dataclasses.replace(job, run_id="run2")
    [resumed] = planning.make_plan(again, [videos["short.mp4"]], "silent").tasks
    assert resumed.have_part
    [answer] = [table.to_pylist()[0] for table in finish.finish(Item(resumed).to_table(), again)]
    assert json.loads(answer["row"])["status"] == "dubbed" and place.is_file()


def test_a_volume_below_out_that_refuses_costs_one_film_and_no_sound(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read-only, broken, or over its quota; OUT itself can be written."""
    job = make_job(tmp_path / "out")
    film = videos["short.mp4"] | {"path": "mounted/short.mp4"}
    [task] = plan(job, film)
    [item] = Dubber(job).generate([decode.decode_task(task, job, sandbox)])
    rename = os.replace

    def replace(path: Any, to: Any) -> None:
        if "/mounted/" in str(to):
            raise OSError(code, os.strerror(code))
        rename(path, to)

    monkeypatch.setattr(os, "replace", replace)
    for code in (errno.EROFS, errno.EIO, errno.EDQUOT, errno.ESTALE):
        [answer] = [table.to_pylist()[0] for table in finish.finish(item.to_table(), job)]
        assert answer["fatal"] == ""
        row = json.loads(answer["row"])
        assert (row["status"], row["error_class"]) == ("failed", "FileNotWritten")
        assert os.strerror(code) in row["message"]
        State(job.out).drop_row(task.video_id)
    code = errno.ENOSPC  # the disk of OUT, as far as can be told
    [answer] = [table.to_pylist()[0] for table in finish.finish(item.to_table(), job)]
    assert "No space left" in answer["fatal"] and answer["row"] == ""


def test_an_output_folder_that_is_gone_ends_the_job(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path
) -> None:
    job = make_job(tmp_path / "out")
    [task] = plan(job, videos["short.mp4"])
    [item] = Dubber(job).generate([decode.decode_task(task, job, sandbox)])
    (tmp_path / "out").write_text("a file now")
    [answer] = [table.to_pylist()[0] for table in finish.finish(item.to_table(), job)]
    assert "Not a directory" in answer["fatal"] or "File exists" in answer["fatal"]
    assert answer["row"] == ""


def test_a_damaged_part_is_set_aside_and_made_again(
    videos: dict[str, dict[str, Any]], sandbox: Sandbox, tmp_path: Path
) -> None:
    job, video = make_job(tmp_path), videos["silent.mp4"]
    state = State(job.out)
    tasks = plan(job, video)
    items = Dubber(job).generate([decode.decode_task(task, job, sandbox) for task in tasks])
    place = Path(state.part_uri(video["video_id"], 0))
    for content, number in ((b"half a part", ""), (b"", ".2")):  # by the next run, and by the one before it
        assert finish.finish_item(items[0], job) is None
        place.write_bytes(content)
        resumed = planning.make_plan(job, [video], "silent")
        assert [(task.segment.index, task.have_part) for task in resumed.tasks] == [(0, False), (1, False)]
        assert place.with_name(f"{place.name}.broken{number}").read_bytes() == content
        assert str(place) in storage.take_notices()[0]
    # While the film is finished: it has no row, and is planned again for what is missing.
    assert finish.finish_item(items[0], job) is None
    place.write_bytes(place.read_bytes()[:-1])
    [answer] = [table.to_pylist()[0] for table in finish.finish(items[1].to_table(), job)]
    assert (answer["again"], answer["row"], answer["fatal"]) == (True, "", "")
    assert len(answer["notices"]) == 1 and "set aside as 00000.npz.broken.3" in answer["notices"][0]
    assert state.read_row(video["video_id"]) is None
    again = planning.plan_again(job, planning.DubPlan(tasks=tasks), [video["video_id"]])
    assert [(task.segment.index, task.have_part) for task in again] == [(0, False)]
    [row] = run_stages(again, job, sandbox)
    assert row["status"] == "dubbed"
    alone = make_job(tmp_path / "alone")
    run_stages(plan(alone, video), alone, sandbox)
    assert (tmp_path / "silent.mp4").read_bytes() == (tmp_path / "alone" / "silent.mp4").read_bytes()


# on Ray


@pytest.mark.slow  # `v2a dub` itself is tested on Ray
def test_the_pipeline_on_ray(ray_session: Any, videos: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    job = make_job(tmp_path)
    wanted = [videos[path] for path in ("silent.mp4", "short.mp4", "quiet.mkv")]
    tasks = [task for video in wanted for task in plan(job, video)]
    gone = {**videos["short.mp4"], "video_id": "gone", "path": "gone.mp4", "uri": str(tmp_path / "gone.mp4")}
    tasks += plan(job, gone)
    pipeline = dub_pipeline.dataset(tasks, job, cpus=ray_session.cpus)
    answers = list(dub_pipeline.results(pipeline))
    assert len(answers) == len(tasks)
    assert {answer["fatal"] for answer in answers} == {""}
    rows = {row["path"]: row for row in (json.loads(answer["row"]) for answer in answers if answer["row"])}
    assert {path: row["status"] for path, row in rows.items()} == {
        "silent.mp4": "dubbed",
        "short.mp4": "dubbed",
        "quiet.mkv": "dubbed",
        "gone.mp4": "failed",
    }
    assert rows["gone.mp4"]["stage"] == "storage"
    # The same as without Ray.
    alone = make_job(tmp_path / "alone")
    with Sandbox() as sandbox:
        run_stages([task for video in wanted for task in plan(alone, video)], alone, sandbox)
    for path in ("silent.mp4", "short.mp4", "quiet.mkv"):
        assert (tmp_path / path).read_bytes() == (tmp_path / "alone" / path).read_bytes()


def test_for_one_segment_no_second_process_is_started(
    ray_session: Any, videos: dict[str, dict[str, Any]], tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
) -> None:  # fmt: skip
    job = make_job(tmp_path)
    [task] = plan(job, videos["short.mp4"])
    [answer] = dub_pipeline.results(dub_pipeline.dataset([task], job, cpus=2))
    assert json.loads(answer["row"])["status"] == "dubbed"
    assert not [str(w.message) for w in recwarn if "the operator only received" in str(w.message)]
