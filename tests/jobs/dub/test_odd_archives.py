"""Archives with folders, links and files that cannot be read: each is a row with its reason, the films are dubbed."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from jobs import scan as scan_verb
from pipelines.storage import listing
from tests.support.dubbing import quickly
from tests.support.media_files import write_video

DEEP = 1200


def odd_archive(root: Path) -> Path:
    film = write_video(root / "a.mp4", duration_s=0.2)
    (root / "closed").mkdir()
    shutil.copy(film, root / "closed" / "b.mp4")
    (root / "closed" / "open").mkdir()
    (root / "loop").symlink_to("loop")
    (root / "loop.mp4").symlink_to("ring.mp4")
    (root / "ring.mp4").symlink_to("loop.mp4")
    (root / "to itself").symlink_to(".")
    (root / "dangling.mp4").symlink_to("nothing.mp4")
    (root / "zero.mp4").symlink_to("/dev/zero")
    os.mkfifo(root / "pipe.mp4")
    (root / "folder.mp4").mkdir()
    return root


def plug(place: Path) -> socket.socket:
    """A socket of that name, which must be short."""
    plugged = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(place.parent)
    try:
        plugged.bind(place.name)
    finally:
        os.chdir(here)
    return plugged


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of the name `closed` cannot be listed, not even by root."""
    scandir = os.scandir

    def refuse(place: Any) -> Any:
        if os.path.basename(place) == "closed":
            raise PermissionError(13, "Permission denied", place)
        return scandir(place)

    monkeypatch.setattr(listing.os, "scandir", refuse)


@pytest.mark.usefixtures("closed")
def test_what_cannot_be_read_is_a_row_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "archive").mkdir()
    root = odd_archive(tmp_path / "archive")
    with plug(root / "socket.mp4"):
        rows = quickly(root, tmp_path / "out")
        assert scan_verb.run(scan_verb.ScanConfig(str(root))).exit_code == 1
    said = {path: f"{row['status']} {row['reason']}" for path, row in rows.items()}
    assert said == {
        "a.mp4": "dubbed ",
        # There may be films in it: that is not "not a video".
        "closed": "failed folder cannot be listed: Permission denied",
        "dangling.mp4": "failed broken symbolic link",
        "loop": "skipped not looked at: broken symbolic link",
        "loop.mp4": "failed broken symbolic link",
        "pipe.mp4": "failed not a regular file",
        "ring.mp4": "failed broken symbolic link",
        "socket.mp4": "failed not a regular file",
        "to itself": "skipped not looked at: symbolic link to a folder: not followed",
        "zero.mp4": "failed symbolic link that leaves the archive: not followed",
    }
    last = capsys.readouterr().out
    assert "not looked at: 2\n" in last and "  loop: broken symbolic link\n" in last


def test_a_film_below_a_thousand_folders_is_dubbed(tmp_path: Path) -> None:
    """Deeper than Python's calls may be; the last folders lie beyond what a path may hold."""
    root = tmp_path / "archive"
    root.mkdir()
    write_video(root / "a.mp4", duration_s=0.2)
    here = os.getcwd()
    try:
        os.chdir(root)
        for depth in range(2 * DEEP):
            if depth == DEEP:
                shutil.copy(root / "a.mp4", "b.mp4")
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)
    try:
        rows = quickly(root, tmp_path / "out")
        deep = "d/" * DEEP + "b.mp4"
        assert {path for path, row in rows.items() if row["status"] == "dubbed"} == {"a.mp4", deep}
        assert (tmp_path / "out" / deep).exists()
        [beyond] = rows.keys() - {"a.mp4", deep}
        assert rows[beyond]["status"] == "failed" and "File name too long" in rows[beyond]["reason"]
    finally:
        for folder in (root, tmp_path / "out"):  # shutil.rmtree calls itself for each folder
            os.system(f"rm -rf '{folder}'")
