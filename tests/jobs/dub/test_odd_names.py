"""Names that have one form on a screen and another on disk: each file has a row, an output and a state of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import av
import pyarrow.parquet as pq
import pytest

from jobs import scan as scan_verb
from jobs.dub import preflight
from pipelines import storage
from pipelines.archive import scan
from pipelines.dub.plan import make_plan
from pipelines.storage.uri import TEMPORARY_PREFIX
from tests.support import REPOSITORY, servers
from tests.support.dubbing import parse, quickly
from tests.support.media_files import write_video

NAMES = (
    b"\xff.mp4", rb"\xff.mp4", rb"\x5cxff.mp4", b"\xed\xa0\x80.mp4", rb"\xed\xa0\x80.mp4",
    "\u00e9.mp4".encode(), "e\u0301.mp4".encode(), b"A.mp4", b"a.mp4", b"a.mp4.", b"a.mp4 ", b" a.mp4",
    b"new\nline.mp4", b"\x1b[2J\x07.mp4", b"back\\slash.mp4",
    b"sub/a.mp4", b"SUB/a.mp4", b"a.flv", b"a.flv.mkv/b.mp4", b"_v2a/film.mp4", b"sub/_v2a/film.mp4",
    b"_v2a-films/film.mp4", f"{TEMPORARY_PREFIX}film.mp4".encode(), f"{TEMPORARY_PREFIX}dir/film.mp4".encode(),
    b"x" * 251 + b".mp4",
)  # fmt: skip


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "a.mp4", duration_s=0.2)


def put(film: Path, root: Path, name: bytes, number: int) -> None:
    """The film under that name, with a number at its end; all of one size and time."""
    place = os.fsencode(root) + b"/" + name
    os.makedirs(os.path.dirname(place), exist_ok=True)
    shutil.copy(film, place)
    with open(place, "ab") as file:
        file.write((16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big"))
    os.utime(place, ns=(0, 0))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, film: Path) -> Path:
    root = tmp_path_factory.mktemp("odd") / "archive"
    root.mkdir()
    for number, name in enumerate(NAMES):
        put(film, root, name, number)
    own = root / "old out" / "_v2a"
    own.mkdir(parents=True)
    (own / "config.json").write_text("{}")
    shutil.copy(film, own / "hidden.mp4")
    (root / f"{TEMPORARY_PREFIX}12-0123abcd-film.mp4").write_bytes(b"half")
    return root


@pytest.fixture(scope="module")
def dubbed(archive: Path) -> dict[str, dict[str, Any]]:
    return quickly(archive, archive.parent / "out")


def test_every_file_has_a_row_that_leads_to_it(archive: Path, dubbed: dict[str, dict[str, Any]]) -> None:
    rows = pq.read_table(archive.parent / "out" / "_v2a" / "report.parquet").to_pylist()
    assert len(rows) == len(NAMES) + 2 == len({row["video_id"] for row in rows}) == len(dubbed)
    films = [row for row in rows if not row["reason"].startswith("not looked at")]
    places = {os.fsencode(storage.local_path(storage.uri_of(str(archive), row["path"]))) for row in films}
    assert places == {os.fsencode(archive) + b"/" + name for name in NAMES}
    assert {row["status"] for row in films} == {"dubbed"}, [row["reason"] for row in films]
    for row in films:
        with open(os.fsencode(storage.local_path(storage.uri_of(str(archive), row["path"]))), "rb") as file:
            assert storage.hashing.sha256(file) == row["source_sha256"]


def test_every_film_has_an_output_of_its_own(archive: Path, dubbed: dict[str, dict[str, Any]]) -> None:
    out = archive.parent / "out"
    outputs = [row["output"] for row in dubbed.values() if row["status"] == "dubbed"]
    alike = {unicodedata.normalize("NFC", name).casefold().replace(". ", "").rstrip(". ") for name in outputs}
    assert len(alike) == len(NAMES)
    for row in dubbed.values():
        if row["status"] == "dubbed":
            with av.open(str(out / row["output"])) as opened:
                assert len(opened.streams.audio) == 1
            with (out / row["output"]).open("rb") as file:
                assert storage.hashing.sha256(file) == row["output_sha256"]
    assert dubbed["back\\slash.mp4"]["output"] == "back\\slash.mp4"
    assert dubbed["_v2a/film.mp4"]["output"].startswith("_v2a-films/")
    assert dubbed[f"{TEMPORARY_PREFIX}film.mp4"]["output"] == f"{TEMPORARY_PREFIX}film.mp4"
    again = quickly(archive, out)  # which sweeps the temporary files of killed runs
    assert again == dubbed


def test_what_is_not_looked_at_is_told(
    archive: Path, dubbed: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    own, half = dubbed["old out/_v2a"], dubbed[f"{TEMPORARY_PREFIX}12-0123abcd-film.mp4"]
    assert (own["status"], own["reason"]) == ("skipped", "not looked at: records of an earlier run of v2a")
    assert half["reason"] == "not looked at: a file that v2a had not finished writing"
    assert scan_verb.run(scan_verb.ScanConfig(str(archive), show=0)).exit_code == 0
    said = capsys.readouterr().out
    assert f"{len(NAMES)} videos" in said and "not looked at: 2\n" in said
    assert "  old out/_v2a: records of an earlier run of v2a\n" in said


def test_a_film_that_comes_later_does_not_take_the_name_of_another(film: Path, tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    film = write_video(tmp_path / "film.mkv", duration_s=0.2)
    put(film, archive, b"a.flv.mkv", 1)
    first = quickly(archive, out)["a.flv.mkv"]
    put(film, archive, b"a.flv", 2)  # comes first in the list, and would like to be called a.flv.mkv
    rows = quickly(archive, out)
    assert rows["a.flv.mkv"] == first
    for row in rows.values():
        with (out / row["output"]).open("rb") as file:
            assert storage.hashing.sha256(file) == row["output_sha256"]
    assert rows["a.flv"]["output"] == f"a.flv.{rows['a.flv']['video_id']}.mkv"


def test_a_manifest_reaches_every_name(archive: Path, tmp_path: Path) -> None:
    table = tmp_path / "films.csv"
    wanted = ("\\xff.mp4", "back\\slash.mp4", "./sub\\a.mp4", "\\x5cxff.mp4")
    table.write_text("path,skip\n" + "".join(f"{name},yes\n" for name in wanted))
    config = parse(archive, tmp_path / "out", "--manifest", table)
    rows = [
        dict.fromkeys(scan.SCAN_SCHEMA.names)
        | {"video_id": info.path, "path": info.path, "status": "not_video", "error_class": "", "error": ""}
        for info in storage.list_tree(str(archive))
    ]
    plan = make_plan(preflight.make_job(config), rows, "silent", requests=preflight.read_manifest(config))
    skipped = {path for path, row in plan.rows.items() if row["reason"] == "the manifest says skip"}
    assert skipped == {"\\xff.mp4", "back\\slash.mp4", "sub/a.mp4", "\\x5cxff.mp4"}
    assert len(plan.rows) == len(NAMES)


def test_folders_may_have_any_name(film: Path, tmp_path: Path) -> None:
    """ARCHIVE and OUT below a folder whose name is not UTF-8."""
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd \xff"))
    put(film, root / "archive", b"a.mp4", 0)
    for _ in range(2):
        [row] = quickly(root / "archive", root / "out").values()
        assert row["status"] == "dubbed" and (root / "out" / "a.mp4").exists()
    assert os.path.exists(root / "out" / "_v2a" / "report.html")


IN_A_STORE = """
import sys
from jobs.dub import preflight
from pipelines import storage
from pipelines.archive import scan
from pipelines.dub.plan import make_plan
from tests.support.dubbing import parse
bucket, out = sys.argv[1:]
found = list(scan.scan(bucket))
films = {row["path"]: row for row in found if row["status"] == "ok"}
assert set(films) == set(GOOD), (set(films) ^ set(GOOD), found)
assert len({row["video_id"] for row in found}) == len(found) == len(GOOD) + 4, found
for path, row in films.items():
    with storage.reading(storage.uri_of(bucket, path)) as file:
        assert storage.hashing.sha256(file) == row["sha256"], path
plan = make_plan(preflight.make_job(parse(bucket, out)), found, "silent")
assert len({task.output.casefold() for task in plan.tasks}) == len(plan.tasks) == len(GOOD)
rows = {row["path"]: row for row in plan.rows.values()}
assert rows["old/_v2a"]["reason"] == "not looked at: records of an earlier run of v2a"
assert rows[".v2a-tmp-probe"]["status"] == "skipped"
for odd, why in (("folder.mp4/", "holds data"), ("a.mp4?versionId=null", "version of another object")):
    assert rows[odd]["status"] == "failed" and why in rows[odd]["reason"], rows[odd]
"""


def test_every_key_has_a_row_that_leads_to_it(film: Path, tmp_path: Path, s3_port: int) -> None:
    good = [
        "a.mp4", "A.mp4", "a.mp4.", "e\u0301.mp4", "\u00e9.mp4", "\\xff.mp4", "bell\x07.mp4", "+ %41&.mp4",
        "_v2a/film.mp4", ".v2a-tmp-film.mp4",
    ]  # fmt: skip
    client = servers.client(s3_port)
    client.create_bucket(Bucket="oddkeys")
    data = film.read_bytes()
    for number, name in enumerate(good):
        client.put_object(Bucket="oddkeys", Key=name, Body=data + number.to_bytes(8, "big"))
    others = (
        "a.mp4?versionId=null",
        "folder.mp4/",
        "old/_v2a/config.json",
        "old/_v2a/b.mp4",
        ".v2a-tmp-probe",
    )
    for name in others:
        client.put_object(Bucket="oddkeys", Key=name, Body=data)
    paths = [storage.listing.printable(name) for name in good]
    environment = {**os.environ, **servers.environment(s3_port), "PYTHONPATH": f"{REPOSITORY}"}
    code = f"GOOD = {paths!r}\n{IN_A_STORE}"
    command = [sys.executable, "-c", code, "s3://oddkeys", str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, check=False, timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
