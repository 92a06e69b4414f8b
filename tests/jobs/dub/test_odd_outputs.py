"""Outputs that cannot be written, one by one: the film has failed and says why, and all others are dubbed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest

from pipelines.provenance import signing
from tests.support import REPOSITORY
from tests.support.dubbing import RATE, only_track, quickly, report, v2a_dub
from tests.support.media_files import write_video

pytestmark = pytest.mark.timeout(600)

LONG = "ž" * 125
"""250 bytes, of which no even number is the middle of a character once something is put in front."""


def check_failed(row: dict[str, Any], kind: str, *words: str) -> None:
    assert (row["status"], row["stage"], row["error_class"]) == ("failed", "storage", kind), row
    assert row["reason"] == row["message"]
    for word in words:
        assert word in row["message"]


@pytest.mark.usefixtures("ray_session")
def test_one_output_that_cannot_be_written_is_one_failed_film(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    write_in(archive, "first.mp4")
    assert quickly(archive, out)["first.mp4"]["status"] == "dubbed"
    for name in ("folder.mp4", "sub/film.mp4", "good.mp4", "state.mp4"):
        write_in(archive, name)
    (out / "folder.mp4" / "in it").mkdir(parents=True)
    (out / "sub").write_text("in the way")
    assert v2a_dub(archive, out, "--dry-run") == 0
    shown = "".join(character for character in capsys.readouterr().out if character.isalnum())
    assert "afolderhasthatname" in shown  # over several lines of a table
    for _ in range(2):
        assert v2a_dub(archive, out) == 1
        rows = report(out)
        check_failed(rows["folder.mp4"], "StorageRefused", "a folder has that name", "move it away")
        check_failed(rows["sub/film.mp4"], "StorageRefused", "is a file", "move it away")
        assert {rows[name]["status"] for name in ("first.mp4", "good.mp4", "state.mp4")} == {"dubbed"}
        for kind in ("rows", "parts"):  # nor does trouble with a film's own state stop the others
            place = out / "_v2a" / kind / rows["state.mp4"]["video_id"]
            place = place.with_suffix(".json") if kind == "rows" else place
            place.unlink(missing_ok=True)
            place.mkdir() if kind == "rows" else place.write_text("in the way")
            rows = quickly(archive, out)
            assert {rows[name]["status"] for name in ("good.mp4", "state.mp4")} == {"dubbed"}
            assert list((out / "_v2a" / kind).glob(f"{place.name}.broken*"))  # set aside, not lost
    (out / "sub").unlink()
    (out / "folder.mp4" / "in it").rmdir()
    (out / "folder.mp4").rmdir()
    assert {row["status"] for row in quickly(archive, out).values()} == {"dubbed"}


def write_in(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, duration_s=0.5, codec="mpeg2video" if name.endswith(".mpg") else "libx264")


def test_names_that_are_legal_stay_so(tmp_path: Path) -> None:
    """255 bytes are the most, and what is added to them must not break them."""
    archive, out = tmp_path / "archive", tmp_path / "out"
    names = [f"{LONG}a.mp4", f"b{LONG}.mkv", f"c{LONG}.mpg"]
    assert {len(name.encode()) for name in names} == {255}
    for name in names:
        write_in(archive, name)
    rows = quickly(archive, out)
    assert {row["status"] for row in rows.values()} == {"dubbed"}, rows
    assert [rows[name]["output"] for name in names[:2]] == names[:2]
    changed = rows[names[2]]
    assert changed["output"].endswith(f".{changed['video_id']}.mkv")
    assert changed["output"].startswith("cžž") and len(changed["output"].encode()) in (254, 255)
    for row in rows.values():
        with av.open(str(out / row["output"])) as film:
            assert len(film.streams.audio) == 1
    again = quickly(archive, out)
    assert [row["output_sha256"] for row in again.values()] == [row["output_sha256"] for row in rows.values()]


def test_names_have_room_for_files_beside_them(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    names = [f"{LONG}a.mp4", f"b{LONG}.mkv"]
    for name in names:
        write_in(archive, name)
    signer = signing.make_test_certificate(tmp_path / "certificate")
    signed = quickly(
        archive, tmp_path / "signed", "--sign-key", signer.key, "--sign-cert", signer.certificate
    )
    assert signed[names[0]]["output"] == names[0]  # it holds its manifest
    beside = tmp_path / "signed" / (signed[names[1]]["output"] + ".c2pa")
    assert signed[names[1]]["status"] == "dubbed" and beside.exists()
    sounds = quickly(archive, tmp_path / "sounds", "--sidecar", "wav")
    for name in names:
        assert sounds[name]["status"] == "dubbed", sounds[name]
        assert only_track(tmp_path / "sounds" / sounds[name]["output"]).shape == (
            1,
            round(sounds[name]["duration_s"] * RATE),
        )


IN_A_STORE = """
import sys
from tests.support.dubbing import quickly
archive, bucket = sys.argv[1:]
rows = quickly(archive, bucket + "/" + "/".join(["p" * 99] * 9))
assert rows["good.mp4"]["status"] == "dubbed", rows
for name in rows.keys() - {"good.mp4"}:
    row = rows[name]
    assert (row["status"], row["stage"], row["error_class"]) == ("failed", "storage", "StorageRefused"), row
    assert "S3 allows 1024" in row["message"] and "rename" in row["message"]
"""


def test_a_key_that_is_too_long_for_an_object_store(tmp_path: Path, s3_port: int) -> None:
    from tests.support import servers

    write_in(tmp_path / "archive", "good.mp4")
    write_in(tmp_path / "archive", "n" * 200 + ".mp4")
    servers.client(s3_port).create_bucket(Bucket="longkeys")
    paths = os.pathsep.join([*sys.path, str(REPOSITORY)])
    environment = {**os.environ, **servers.environment(s3_port), "PYTHONPATH": paths}
    command = [sys.executable, "-c", IN_A_STORE, str(tmp_path / "archive"), "s3://longkeys"]
    subprocess.run(command, env=environment, check=True, timeout=300)


def test_a_name_that_is_longer_here_than_it_may_be(tmp_path: Path) -> None:
    """One of an object store: it is for its owner to rename it."""
    from pipelines.dub import plan as planning
    from tests.support.dub_stages import make_job

    video = dict.fromkeys(("duration_s", "fps", "width", "height", "peak_dbfs")) | {
        "video_id": "v", "path": "x" * 300 + ".mp4", "status": "ok", "audio_state": "none",
        "container": "mov,mp4", "video_codec": "h264", "duration_s": 1.0,
    }  # fmt: skip
    good: dict[str, Any] = video | {"video_id": "w", "path": "good.mp4"}
    plan = planning.make_plan(make_job(tmp_path), [video, good], "silent")
    check_failed(plan.rows["v"], "StorageRefused", "has 304 bytes, and the limit there is 255", "rename")
    assert list(plan.to_dub) == ["w"]
