"""Lists of files, as `find`, shells, spreadsheets and v2a's reports write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.archive.file_list import NOT_THERE, OUTSIDE, parse_list, resolve_list
from pipelines.storage import FileInfo


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"a.mp4\nsub/b c.mp4\n", ["a.mp4", "sub/b c.mp4"]),
        (b"a.mp4\r\n\r\n  \na.mp4\r\n", ["a.mp4"]),
        (b"\xef\xbb\xbf\xc3\xa9.mp4", ["é.mp4"]),
        ("é.mp4\nb.mp4".encode("utf-16"), ["é.mp4", "b.mp4"]),
        (b"a\nb.mp4\0c.mp4\0", ["a\nb.mp4", "c.mp4"]),
        (b"caf\xe9.mp4\n", ["caf\udce9.mp4"]),
        (b"", []),
    ],
)
def test_lists_of_many_forms_are_read(data: bytes, lines: list[str]) -> None:
    assert parse_list(data) == lines


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "films"
    for name in ("a.mp4", "sub/b.mp4", "sub/c.mp4", " odd .mp4", "back\\slash.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    (tmp_path / "outside.mp4").write_bytes(b"x")
    return root


def resolved(root: Path, *lines: str) -> dict[str, str]:
    """path -> problem, or "folder"."""
    entries = resolve_list(str(root), lines)
    return {
        e if isinstance(e, str) else e.path: "folder" if isinstance(e, str) else e.problem for e in entries
    }


def test_a_line_is_a_path_from_the_archive_or_from_the_current_folder(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(archive.parent)
    same = [
        "a.mp4",
        "./a.mp4",
        "films/a.mp4",
        "films/sub/../a.mp4",
        str(archive / "a.mp4"),
        f"file://{archive}/a.mp4",
    ]
    for line in same:
        assert resolved(archive, line) == {"a.mp4": ""}, line
    assert resolved(archive, *same) == {"a.mp4": ""}
    assert resolved(archive, "sub\\b.mp4 ", " odd .mp4", "back\\slash.mp4") == {
        "sub/b.mp4": "", " odd .mp4": "", "back\\slash.mp4": ""
    }  # fmt: skip


def test_links_on_the_way_to_the_archive_are_followed(archive: Path) -> None:
    link = archive.parent / "link"
    link.symlink_to(archive)
    assert resolved(link, str(archive / "a.mp4")) == {"a.mp4": ""}
    assert resolved(archive, str(link / "a.mp4")) == {"a.mp4": ""}


def test_files_that_are_not_there_or_lie_outside_have_a_problem(archive: Path) -> None:
    (archive / "away").symlink_to(archive.parent)
    found = resolved(archive, "none.mp4", "../outside.mp4", "/etc/passwd", "away/outside.mp4", "sub/b.mp4/x")
    assert found["none.mp4"] == found["sub/b.mp4/x"] == NOT_THERE
    assert found["../outside.mp4"] == found["/etc/passwd"] == OUTSIDE
    assert "link" in found["away/outside.mp4"]


def test_a_folder_stands_for_its_files_once(archive: Path) -> None:
    assert resolved(archive, "sub/b.mp4", "sub/", "a.mp4") == {"a.mp4": "", "sub": "folder"}


def test_names_of_any_bytes_are_found_as_they_are_and_as_reports_print_them(archive: Path) -> None:
    raw = os.fsencode(archive) + b"/caf\xe9.mp4"
    try:
        open(raw, "wb").close()
    except OSError:
        pytest.skip("this file system only takes UTF-8 names")
    for line in (os.fsdecode(b"caf\xe9.mp4"), "caf\\xe9.mp4"):
        [entry] = resolve_list(str(archive), [line])
        assert isinstance(entry, FileInfo) and (entry.path, entry.problem) == ("caf\\xe9.mp4", "")
