"""A selection narrows the listing of an archive and changes nothing else about its files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import storage
from pipelines.archive.file_list import NOT_THERE
from pipelines.archive.selection import Selection
from pipelines.storage import FileInfo
from tests.support import servers

NAMES = ("a.mp4", "b.mov", "notes.txt", "sub/c.mp4", "sub/deep/d.mp4", "z/e.mp4")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "films"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def paths(selection: Selection) -> list[str]:
    return [info.path for info in selection]


def test_all_files_are_taken_by_default(archive: Path) -> None:
    selection = Selection(str(archive))
    assert selection.whole and paths(selection) == list(NAMES) and not selection.nothing()
    assert selection.names_all("any.mp4")


def test_patterns_include_and_exclude(archive: Path) -> None:
    assert paths(Selection(str(archive), ["*.mp4"], ["deep/"])) == ["a.mp4", "sub/c.mp4", "z/e.mp4"]
    assert paths(Selection(str(archive), exclude=["*.txt", "/z"])) == [
        "a.mp4",
        "b.mov",
        "sub/c.mp4",
        "sub/deep/d.mp4",
    ]
    assert paths(Selection(str(archive), ["sub/*.mp4", "z"])) == ["sub/c.mp4", "z/e.mp4"]


@pytest.mark.parametrize(
    "include", [["/sub/c.mp4"], ["sub/*.mp4", "/a.mp4", "/none.mp4"], ["*.mp4"], ["sub"]]
)
def test_a_file_is_the_same_in_every_selection(archive: Path, include: list[str]) -> None:
    whole = {info.path: info for info in storage.list_tree(str(archive), everything=True)}
    for info in Selection(str(archive), include):
        assert info == whole[info.path]


def test_only_the_folders_of_the_patterns_are_listed(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(
        os, "scandir", lambda place: opened.append(os.path.relpath(place, archive)) or scandir(place)
    )
    assert paths(Selection(str(archive), ["sub/deep/*.mp4", "/a.mp4"])) == ["a.mp4", "sub/deep/d.mp4"]
    assert set(opened) <= {".", "sub/deep"} and opened.count("sub/deep") == 1


def test_listed_files_are_taken_and_missing_ones_are_entries_with_a_problem(archive: Path) -> None:
    selection = Selection(str(archive), lines=["z", "none.mp4", "a.mp4", "./a.mp4"])
    assert [(info.path, info.problem) for info in selection] == [
        ("a.mp4", ""),
        ("none.mp4", NOT_THERE),
        ("z/e.mp4", ""),
    ]
    assert not selection.names_all("a.mp4")
    assert paths(Selection(str(archive), ["*.mov"], lines=["a.mp4", "b.mov"])) == ["b.mov"]


def test_nothing_is_taken_from_the_output_folder_in_the_archive(archive: Path) -> None:
    aside = str(archive / "sub")
    assert paths(Selection(str(archive), ["*.mp4"], aside=aside)) == ["a.mp4", "z/e.mp4"]
    listed = {
        info.path: info.problem for info in Selection(str(archive), lines=["a.mp4", "sub/c.mp4"], aside=aside)
    }
    assert not listed["a.mp4"] and "output folder" in listed["sub/c.mp4"]


def test_a_selection_without_a_file_has_a_reason(archive: Path) -> None:
    reason = Selection(str(archive), ["*.mpv", "/A.mp4"]).nothing()
    assert "--include '*.mpv' '/A.mp4'" in reason and "a.mp4" in reason and "upper and lower case" in reason
    assert "--exclude '*'" in Selection(str(archive), exclude=["*"]).nothing()
    assert "names no file" in Selection(str(archive), lines=[]).nothing()
    assert (
        not Selection(str(archive), ["*.mp4"]).nothing()
        and not Selection(str(archive), lines=["no"]).nothing()
    )


def test_patterns_that_match_nothing_are_named(archive: Path) -> None:
    selection = Selection(str(archive), ["*.mp4", "*.mkv"])
    assert paths(selection) and selection.notes() == ["Nothing matches --include '*.mkv'."]
    assert Selection(str(archive)).notes() == []


def films(selection: Selection, statuses: str) -> tuple[str, list[int]]:
    """Statuses of the rows up to the limit, and the files read in each round. `statuses`: one letter per file."""
    words = {"o": "ok", "f": "failed", "n": "not_video"}
    rounds: list[int] = []

    def read(infos: Iterable[FileInfo]) -> Iterator[pa.Table]:
        files = list(infos)
        rounds.append(len(files))
        yield from (pa.table({"status": [words[statuses[info.size]]]}) for info in files)

    names = [FileInfo(str(k), "", k, "") for k in range(len(statuses))]
    rows = [row for table in selection.films(names, read) for row in table["status"].to_pylist()]
    return "".join(row[0] for row in rows), rounds


def test_a_limit_counts_films_and_reads_few_more(archive: Path) -> None:
    assert films(Selection(str(archive), limit=2), "nonfooo") == ("nonf", [2, 1, 2])
    assert films(Selection(str(archive), limit=9), "nono")[0] == "nono"
    assert films(Selection(str(archive)), "nooo") == ("nooo", [4])
    taken, rounds = films(Selection(str(archive), limit=1), "n" * 1000 + "oo")
    assert taken == "n" * 1000 + "o" and len(rounds) < 12


def test_selections_of_a_bucket(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in servers.environment(s3_port).items():
        monkeypatch.setenv(name, value)
    client = servers.client(s3_port)
    client.create_bucket(Bucket="selected")
    for name in (*NAMES, "sub/_v2a/config.json"):
        client.put_object(Bucket="selected", Key=f"films/{name}", Body=b"x")
    root = "s3://selected/films"
    whole = {info.path: info for info in storage.list_tree(root, everything=True)}
    assert paths(Selection(root, ["*.mp4"], ["deep/"])) == ["a.mp4", "sub/c.mp4", "z/e.mp4"]
    for selection in (
        Selection(root, ["sub/*.mp4", "/a.mp4"]),
        Selection(root, lines=["a.mp4", f"{root}/sub/c.mp4"]),
    ):
        assert list(selection) == [whole["a.mp4"], whole["sub/c.mp4"]]
    problems = {
        info.path: info.problem for info in Selection(root, lines=["none", "s3://other/x.mp4", "sub/_v2a/x"])
    }
    assert len(problems) == 3 and all(problems.values())
    assert paths(Selection(root, lines=["z"])) == ["z/e.mp4"]
    assert storage.look_up(root, "sub") == "sub" and storage.look_up(root, "su") is None
    assert paths(Selection(root, ["*.mp4"], aside=f"{root}/sub")) == ["a.mp4", "z/e.mp4"]
