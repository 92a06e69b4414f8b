"""A source that goes away or changes on the way costs its film, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines import retry, storage
from pipelines.archive import scan
from pipelines.dub import decode, finish
from pipelines.dub.generate.dubber import Dubber
from pipelines.dub.item import Item
from pipelines.dub.job import DubJob
from pipelines.sandbox.decoder import Sandbox
from pipelines.soundtrack.mixing import MixPolicy
from pipelines.storage import hashing
from tests.support import servers
from tests.support.dub_stages import make_job, plan
from tests.support.toy_generators import write_video

WAYS = ("removed", "truncated", "emptied", "replaced", "a folder")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "DUB", retry.RetryPolicy(2, 0.0))


def disturb(path: Path, how: str, other: Path) -> None:
    """Do something to a source."""
    data = path.read_bytes()
    path.unlink()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "replaced":
        shutil.copy(other, path)
    elif how == "a folder":
        path.mkdir()


def made(video: dict[str, Any], job: DubJob, sandbox: Sandbox) -> list[Item]:
    """Items of a film with their sound."""
    return Dubber(job).generate([decode.decode_task(task, job, sandbox) for task in plan(job, video)])


def finished(items: list[Item], job: DubJob) -> dict[str, Any]:
    """The film's row from the stage that must never end the job."""
    answers = [table.to_pylist()[0] for item in items for table in finish.finish(item.to_table(), job)]
    assert {answer["fatal"] for answer in answers} == {""}
    return dict(json.loads(answers[-1]["row"]))


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("when", ["before it is decoded", "before it is copied"])
def test_a_source_that_changes_fails_with_the_reason(
    tmp_path: Path, sandbox: Sandbox, videos: dict[str, dict[str, Any]], how: str, when: str
) -> None:
    path, job = write_video(tmp_path / "archive" / "film.mp4", 2.2), make_job(tmp_path / "out")
    [video] = scan.scan(str(path.parent), sandbox)
    other = Path(videos["short.mp4"]["uri"])
    if when == "before it is decoded":
        disturb(path, how, other)
    items = made(video, job, sandbox)
    if when == "before it is copied":
        disturb(path, how, other)
    row = finished(items, job)
    assert row["status"] == "failed" and "source" in row["message"], row
    assert row["error_class"] in ("SourceGone", "SourceChanged", "SourceLost")
    assert not (tmp_path / "out" / "film.mp4").exists()


def test_the_sound_is_kept_while_a_source_cannot_be_read(
    tmp_path: Path, sandbox: Sandbox, videos: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path, treatment=MixPolicy(sidecar="wav"))
    items = made(videos["short.mp4"], job, sandbox)

    def unreadable(*_: Any) -> Any:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(hashing, "sha256", unreadable)
        row = finished(items, job)
    assert (row["stage"], row["error_class"]) == ("storage", "SourceLost")
    assert "the source can no longer be read" in row["message"] and "sound is kept" in row["message"]
    [task] = plan(job, videos["short.mp4"], done=frozenset({0}))
    assert task.have_part
    again = make_job(tmp_path, treatment=MixPolicy(sidecar="wav"), run_id="run2")
    assert finished([Item(task)], again)["status"] == "dubbed"


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_source_on_s3_that_changes(
    s3_port: int, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    for name, value in servers.environment(s3_port).items():
        monkeypatch.setenv(name, value)
    s3, bucket = servers.client(s3_port), f"sources-{how}"
    s3.create_bucket(Bucket=bucket)
    film, other = write_video(tmp_path / "film.mp4", 1.0), write_video(tmp_path / "other.mp4", 0.7)
    with Sandbox() as fresh:
        for when in ("before it is decoded", "before it is copied"):
            s3.upload_file(str(film), bucket, "film.mp4")
            job = make_job(tmp_path / when)
            [video] = scan.scan(f"s3://{bucket}", fresh)

            def change() -> None:
                if how == "removed":
                    storage.delete(f"s3://{bucket}/film.mp4")
                else:
                    s3.upload_file(str(other), bucket, "film.mp4")

            if when == "before it is decoded":
                change()
            items = made(video, job, fresh)
            if when == "before it is copied":
                change()
            row = finished(items, job)
            assert row["status"] == "failed" and "source" in row["message"], row
