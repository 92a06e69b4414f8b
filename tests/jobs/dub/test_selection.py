"""Selections of files: `v2a dub FILE OUT`, globs, lists, patterns and limits, and runs that continue each other."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs import caption, cli, dub
from jobs.caption import CaptionConfig
from jobs.common import ray_session as ray_session_module
from jobs.common.options import FileOptions
from jobs.common.verb import WrongUsage
from jobs.extract import ExtractConfig, preflight
from pipelines.archive import ray_scan, scan, thread_scan
from pipelines.sandbox.decoder import shared_sandbox
from pipelines.storage import FileInfo
from tests.support.dubbing import film, parse, quickly, report, v2a_dub

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("films") / "films"
    for name in ("a.mkv", "b.mkv", "sub/c.mkv"):
        film(root / name, None, 1.0)
    (root / "notes.txt").write_text("notes")
    return root


@pytest.fixture
def archive(films: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(films, tmp_path / "films"))


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans run in threads of this process, and whatever else needs Ray fails."""

    def in_threads(infos: Iterable[FileInfo], cpus: int, examine: Any = None) -> Iterator[pa.Table]:
        return thread_scan.scan_in_threads(list(infos), 1, examine)

    here = contextlib.nullcontext(ray_session_module.Resources(cpus=1, gpus=0, memory=0))
    monkeypatch.setattr(ray_scan, "scan_on_ray", in_threads)
    monkeypatch.setattr(ray_session_module, "session", lambda *arguments: here)


def statuses(rows: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {path: row["status"] for path, row in rows.items()}


def test_a_file_is_dubbed_and_the_whole_archive_continues(
    ray_session: Any, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert v2a_dub(archive / "a.mkv", out) == 0
    assert statuses(report(out)) == {"a.mkv": "dubbed"} and (out / "a.mkv").is_file()
    first = (out / "a.mkv").stat().st_mtime_ns
    assert v2a_dub(archive, out, "--include", "b.mkv") == 0
    assert "The report also lists 1 files of earlier runs." in capsys.readouterr().out
    assert statuses(report(out)) == {"a.mkv": "dubbed", "b.mkv": "dubbed"}
    assert v2a_dub(archive, out) == 0
    assert "2 already dubbed" in capsys.readouterr().out
    assert (out / "a.mkv").stat().st_mtime_ns == first
    assert statuses(report(out)) == {"notes.txt": "skipped"} | dict.fromkeys(
        ("a.mkv", "b.mkv", "sub/c.mkv"), "dubbed"
    )


def test_the_film_is_the_same_in_every_selection(archive: Path, tmp_path: Path) -> None:
    whole = quickly(archive, tmp_path / "whole")
    for number, words in enumerate(
        ([str(archive / "b.mkv")], [f"{archive}/[b]*"], [str(archive), "--exclude", "a.*", "sub", "*.txt"])
    ):
        out = tmp_path / f"out {number}"
        rows = quickly(words[0], out, *words[1:])
        assert rows.keys() == {"b.mkv"}
        assert rows["b.mkv"]["output_sha256"] == whole["b.mkv"]["output_sha256"] != ""
        assert rows["b.mkv"]["video_id"] == whole["b.mkv"]["video_id"]


def test_a_list_from_standard_input_with_a_missing_file_twice(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"a.mkv\n{archive}/a.mkv\nlost.mkv\n../films/b.mkv\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    rows = quickly(archive, tmp_path / "out", "--files", "-")
    assert statuses(rows) == {"a.mkv": "dubbed", "b.mkv": "dubbed", "lost.mkv": "failed"}
    assert "not there" in rows["lost.mkv"]["message"]


def test_rows_of_files_that_are_not_taken_stay_in_the_report(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (archive / "broken.mkv").write_bytes(b"broken")
    before = quickly(archive, out)
    assert statuses(before)["broken.mkv"] == "failed"
    film(archive / "broken.mkv", None, 1.0)
    after = quickly(archive, out, "--include", "broken.mkv")
    assert statuses(after) == statuses(before) | {"broken.mkv": "dubbed"}
    assert after["a.mkv"]["output_sha256"] == before["a.mkv"]["output_sha256"]
    # A film that was dubbed after the last report, by a run that was killed.
    (out / "_v2a" / "report.parquet").unlink()
    assert quickly(archive, out, "--include", "a.mkv").keys() == {"a.mkv", "b.mkv", "broken.mkv", "sub/c.mkv"}
    for row in (out / "_v2a" / "rows").iterdir():
        if json.loads(row.read_text())["path"] == "b.mkv":
            row.unlink()
    assert quickly(archive, out, "--include", "a.mkv").keys() == {"a.mkv", "broken.mkv", "sub/c.mkv"}


def test_the_command_reports_its_own_files_and_keeps_the_rows_of_all_others(
    without_ray: None, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (archive / "broken.mp4").write_bytes(b"broken")
    before = quickly(archive, out)
    assert v2a_dub(archive / "a.mkv", out) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "1 files: 0 to dub (0.0 min), 1 already dubbed" in text
    assert "1 files: 1 dubbed, 0 skipped, 0 failed" in text
    assert "The report also lists 4 files of earlier runs." in text
    assert statuses(report(out)) == statuses(before)
    assert v2a_dub(archive, out, "--include", "a.mkv", "*.mp4", "*.mov") == 1  # the broken one is taken
    assert "Nothing matches --include '*.mov'." in capsys.readouterr().out
    assert v2a_dub(archive, out, "--include", "a.mkv", "--dry-run") == 0
    assert "0 files to dub" in capsys.readouterr().out
    assert statuses(report(out)) == statuses(before)


def test_an_output_of_another_selection_keeps_its_name(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copy(archive / "a.mkv", archive / "A.mkv")  # the same name, for some file systems
    first = quickly(archive, out, "--include", "a.mkv")
    second = quickly(archive, out, "--include", "A.mkv")
    assert first["a.mkv"]["output"] == second["a.mkv"]["output"] == "a.mkv"
    assert second["A.mkv"]["output"] != "A.mkv"


def test_a_limit_counts_films(archive: Path, tmp_path: Path) -> None:
    (archive / ".first.txt").write_text("no film")
    assert statuses(quickly(archive, tmp_path / "out", "--limit", "2")) == {
        ".first.txt": "skipped", "a.mkv": "dubbed", "b.mkv": "dubbed"
    }  # fmt: skip


def test_a_manifest_may_name_films_that_are_not_taken(archive: Path, tmp_path: Path) -> None:
    table = tmp_path / "films.csv"
    table.write_text("path,seed\na.mkv,8\nb.mkv,9\nlost.mkv,1\n")
    rows = quickly(archive, tmp_path / "out", "--manifest", table, "--include", "a.mkv")
    assert statuses(rows) == {"a.mkv": "dubbed"} and rows["a.mkv"]["seed"] == 8
    rows = quickly(archive, tmp_path / "out 2", "--manifest", table, "--exclude", "b.mkv")
    assert rows["lost.mkv"]["status"] == "failed" and "b.mkv" not in rows


def test_out_may_lie_beside_the_film_and_is_never_dubbed_itself(archive: Path, tmp_path: Path) -> None:
    assert quickly(archive / "a.mkv", archive / "dubbed").keys() == {"a.mkv"}
    assert quickly(archive, archive / "dubbed", "--include", "*.mkv").keys() == {
        "a.mkv",
        "b.mkv",
        "sub/c.mkv",
    }
    for out in (archive, archive.parent):
        with pytest.raises(WrongUsage, match="choose"):
            quickly(archive / "a.mkv", out)
    with pytest.raises(WrongUsage, match="lies inside ARCHIVE"):
        quickly(archive, archive / "dubbed")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["{}", "--include", "*.mp4"],
            r"--include '\*.mp4' leaves no file of .*; paths there are like a.mkv",
        ),
        (["{}/*.mp4"], "leaves no file"),
        (["{}", "--exclude", "*"], r"--exclude '\*' leaves no file"),
        (["{}/a.mkv", "--include", "*.mkv"], "drop --include"),
        (["{}", "--limit", "0"], "--limit must be at least 1"),
        (["{}", "--files", "{}/no-list"], "no-list"),
        (["{}", "--files", "/dev/null"], "names no file"),
        (["{}", "--include", "/"], "not a pattern"),
        (["{}/no.mkv"], "no such folder"),
    ],
)
def test_what_cannot_be_selected_is_refused_with_the_fix(
    archive: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    with pytest.raises(WrongUsage, match=message):
        quickly(
            *(word.format(archive) for word in words[:1]),
            tmp_path / "out",
            *(w.format(archive) for w in words[1:]),
        )
    assert not (tmp_path / "out").exists()


def test_a_link_out_of_its_folder_is_refused_with_its_target(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.mkv").symlink_to(archive / "a.mkv")
    with pytest.raises(WrongUsage, match=r"give the file itself, .*films/a.mkv"):
        quickly(tmp_path / "links" / "a.mkv", tmp_path / "out")


def test_files_that_a_shell_made_of_a_pattern_are_taken(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(archive)
    (archive / "[x].mkv").write_bytes((archive / "a.mkv").read_bytes())
    words = ["a.mkv", "[x].mkv", "sub/c.mkv", str(tmp_path / "out")]
    assert quickly(*words).keys() == {"a.mkv", "[x].mkv", "sub/c.mkv"}
    config = parse(*words, "--exclude", "c.*")
    again = cli.parse(dub.DubConfig, shlex.split(dub.command(config))[2:], "v2a dub")
    assert again.archive == str(archive) and again.selection.exclude == ("c.*",)
    for wrong, problem in (
        (["a.mkv", "sub", "out"], "sub is a folder"),
        (["a.mkv", "no.mkv", "out"], "no.mkv is no file"),
        (["a.mkv", "b.mkv", "out", "--include", "x"], "not both"),
    ):
        with pytest.raises(SystemExit) as ended:
            parse(*wrong)
        assert ended.value.code == 2 and problem in capsys.readouterr().err


def test_an_extraction_takes_the_selection_and_remembers_the_other_files(
    archive: Path, tmp_path: Path
) -> None:
    def config(**options: Any) -> ExtractConfig:
        return ExtractConfig(str(archive), str(tmp_path / "store"), selection=FileOptions(**options))

    def no_ray() -> Any:
        raise AssertionError("every film was scanned before")

    store = preflight.prepare(config()).store
    rows = [row | {"audio_state": "audible"} for row in scan.scan(str(archive), shared_sandbox())]
    store.write_scan(scan.to_table(rows))
    failures = [
        {
            "clip_id": "",
            "video_id": "v",
            "path": path,
            "start_s": 0.0,
            "stage": "scan",
            "error_class": "X",
            "error": "x",
        }
        for path in ("a.mkv", "sub/c.mkv")
    ]
    store.write_failures(failures)
    some = config(include=("*.mkv",), limit=2)
    work = preflight.find_work(preflight.prepare(some), some, no_ray, Console())
    assert {clip.path for clip in work.todo} == {"a.mkv", "b.mkv"} and work.n_videos == 2
    assert work.with_others([]) == failures[1:]
    assert {row["path"] for row in store.scan()} == {"a.mkv", "b.mkv", "sub/c.mkv", "notes.txt"}
    work = preflight.find_work(preflight.prepare(config()), config(), no_ray, Console())
    assert {clip.path for clip in work.todo} == {"a.mkv", "b.mkv", "sub/c.mkv"} and not work.with_others([])


def test_captions_of_one_file(without_ray: None, archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = archive / "captions.parquet"
    assert caption.run(CaptionConfig(str(archive / "sub" / "c.mkv"), str(table))) == 0
    assert {row["path"]: row["status"] for row in pq.read_table(table).to_pylist()} == {"c.mkv": "captioned"}
    assert "1 files: 1 captioned" in capsys.readouterr().out
    assert caption.run(CaptionConfig(str(archive), str(table))) == 2
