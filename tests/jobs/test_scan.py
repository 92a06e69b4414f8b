"""`v2a scan` as people call it: exit code, table on the screen, Parquet file; local, on Ray and on S3."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs import scan
from pipelines import storage
from pipelines.archive import ray_scan
from pipelines.archive import scan as archive_scan
from pipelines.storage import FileInfo
from tests.support import REPOSITORY, media_files, servers


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command line."""
    return subprocess.run(
        [sys.executable, "-m", "jobs.scan", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "160", **environment},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos, two of them silent, and three other files, one of them broken."""
    root = tmp_path_factory.mktemp("small")
    (root / "sub [x]").mkdir()
    media_files.write_video(root / "mute.mp4", duration_s=2)
    media_files.write_video(root / "sub [x]" / "quiet.mkv", duration_s=1, sound="silent")
    media_files.write_video(root / "sub [x]" / "loud 'é'.mkv", duration_s=1, sound="audible")
    media_files.write_video(root / "empty track.mkv", duration_s=1, sound="empty")
    media_files.write_sound(root / "song.wav", 0.5)
    (root / "notes.txt").write_text("notes")
    (root / "broken.mp4").write_bytes(b"broken")
    return root


EXPECTED = {
    "broken.mp4": ("failed", None),
    "empty track.mkv": ("ok", "empty"),
    "mute.mp4": ("ok", "none"),
    "notes.txt": ("not_video", None),
    "song.wav": ("audio_only", None),
    "sub [x]/loud 'é'.mkv": ("ok", "audible"),
    "sub [x]/quiet.mkv": ("ok", "silent"),
}


def states(rows: list[dict[str, Any]]) -> dict[str, tuple[str, str | None]]:
    return {row["path"]: (row["status"], row["audio_state"]) for row in rows}


def test_the_command_prints_every_file_and_the_silent_hours_and_writes_parquet(
    small: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "table.parquet"
    done = command(str(small), "--out", str(out))
    assert done.returncode == 1, done.stderr  # one file failed
    for name in EXPECTED:
        assert name in done.stdout
    assert "7 files: 4 videos, 1 sound only, 1 no footage, 1 failed" in done.stdout
    assert "passed over: 1 sound file, 1 text file\n" in done.stdout
    assert "0 min 5 s" in done.stdout and "0 min 4 s" in done.stdout  # all footage; the silent part
    table = pq.read_table(out)
    assert table.schema.equals(archive_scan.SCAN_SCHEMA)
    assert states(table.to_pylist()) == EXPECTED
    assert not any(small.rglob(".v2a*"))


def test_exit_code_0_if_every_file_could_be_read(tmp_path: Path) -> None:
    media_files.write_video(tmp_path / "a.mp4", duration_s=0.2)
    (tmp_path / "notes.txt").write_text("notes")
    assert scan.run(scan.ScanConfig(str(tmp_path))).exit_code == 0


def test_an_empty_archive_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = scan.run(scan.ScanConfig(str(tmp_path)))
    assert (result.exit_code, result.table.num_rows) == (0, 0)
    assert "0 files" in capsys.readouterr().out


def test_control_characters_in_names_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "evil \x1b[2J \n.mp4").write_bytes(b"")
    scan.run(scan.ScanConfig(str(tmp_path)))
    text = capsys.readouterr().out
    assert "\x1b[2J" not in text
    assert "\\x1b[2J" in text


def test_long_lists_are_cut_on_the_screen_only(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = scan.run(scan.ScanConfig(str(small), show=2))
    text = capsys.readouterr().out
    assert "and 5 more files" in text and "song.wav" not in text
    assert len(result.rows) == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/no/such/folder"], "no such folder"),
        ([__file__, "--include", "*.py"], "already names the files"),
        ([".", "--include", "*.nothing"], "leaves no file"),
        ([".", "--out", "table.csv"], ".parquet"),
        ([".", "--out", "/proc/nothing/t.parquet"], "cannot write"),
        ([".", "--num-workers", "0"], "at least 1"),
        (["https://example.org/films"], "s3://"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_the_fix(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs import cli

    assert cli.main(["scan", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_selection_is_scanned_from_the_command_line(small: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs.scan", str(small), "--files", "-", "--include", "*.mp4", "*.mov"],
        cwd=REPOSITORY,
        input="mute.mp4\nlost.mp4\nnotes.txt\n",
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 1, done.stderr
    assert "2 files: 1 videos, 0 sound only, 0 no footage, 1 failed" in done.stdout
    assert "lost.mp4" in done.stdout and "not there" in done.stdout
    assert "Nothing matches --include '*.mov'." in done.stdout


@pytest.mark.parametrize("name", ["mute.mp4", "sub [x]/quiet.mkv", "notes.txt"])
def test_one_file_may_be_given_as_the_archive(small: Path, name: str) -> None:
    result = scan.run(scan.ScanConfig(str(small / name)))
    assert result.exit_code == 0
    assert states(result.rows) == {name.rpartition("/")[2]: EXPECTED[name]}


def test_unknown_flags_are_wrong_usage() -> None:
    done = command(".", "--ouput", "x")
    assert done.returncode == 2
    assert "--out" in done.stdout + done.stderr


def test_on_ray_the_rows_are_the_same(small: Path, ray_session: Any) -> None:
    seen: list[dict[str, Any]] = []
    rows = ray_scan.scan_rows(str(small), ray_session.cpus, on_row=seen.append)
    assert states(rows) == EXPECTED
    assert list(states(rows)) == sorted(EXPECTED)
    assert len(seen) == 7
    from pipelines.sandbox.decoder import Sandbox

    with Sandbox(threads=1) as sandbox:
        assert archive_scan.to_table(archive_scan.scan(str(small), sandbox)).equals(
            archive_scan.to_table(rows)
        )


# ---- very many names


def names(n: int, asked: list[int], then: Exception | None = None) -> Callable[[str], Iterator[FileInfo]]:
    """A stand-in for `storage.list_tree`, which appends to `asked` whenever a name is taken."""

    def list_tree(root: str, everything: bool = False, below: str = "") -> Iterator[FileInfo]:
        for k in range(n):
            asked.append(k)
            yield FileInfo(f"{k:06}.txt", f"{root}/{k:06}.txt", 1, "1", "not to be opened")
        if then is not None:
            raise then

    return list_tree


def test_files_are_read_while_the_archive_is_listed(
    tmp_path: Path, ray_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    asked_by_then: list[int] = []
    monkeypatch.setattr(storage, "list_tree", names(3000, asked))
    result = scan.run(scan.ScanConfig(str(tmp_path)), on_rows=lambda rows: asked_by_then.append(len(asked)))
    assert asked_by_then[0] <= scan.FEW_FILES + 100
    assert [row["path"] for row in result.rows] == [f"{k:06}.txt" for k in range(3000)]


@pytest.mark.parametrize("n", [3, 300])
def test_a_listing_that_breaks_off_is_told_with_what_was_read(
    n: int, tmp_path: Path, ray_session: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.setattr(storage, "list_tree", names(n, [], storage.StorageError("the server is gone")))
    out = tmp_path / "table.parquet"
    result = scan.run(scan.ScanConfig(str(tmp_path), out=str(out)))
    said = capsys.readouterr()
    assert result.exit_code == 1
    assert f"failed after {n} files: the server is gone" in said.err
    assert f"{n} files: 0 videos" in said.out
    # Whoever waits for the table must not take a part of it for the whole.
    assert not out.exists()
    assert pq.read_table(tmp_path / "table.partial.parquet").num_rows == n
    with pytest.raises(storage.StorageError, match=f"failed after {n} files"):
        ray_scan.scan_rows(str(tmp_path), ray_session.cpus)


def test_an_archive_that_cannot_be_listed_at_all_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "list_tree", names(0, [], storage.StorageError("no")))
    assert scan.run(scan.ScanConfig(str(tmp_path))).exit_code == 2


# ---- S3


def test_an_archive_on_s3(small: Path, s3_port: int, tmp_path: Path) -> None:
    servers.client(s3_port).create_bucket(Bucket="films")
    s3 = servers.environment(s3_port)
    # One process of its own for everything: S3 clients keep the settings they were made with.
    script = tmp_path / "upload.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom pipelines import storage\n"
        "root = Path(sys.argv[1])\n"
        "for path in root.rglob('*'):\n"
        "    if path.is_file():\n"
        "        name = path.relative_to(root).as_posix()\n"
        "        storage.put_atomic(str(path), storage.join('s3://films/reel 1', name))\n"
        "storage.write_atomic('s3://films/reel 1/_v2a/report.html', b'ours')\n"
        "assert storage.exists('s3://films/reel 1/mute.mp4')\n"
        "assert storage.size('s3://films/reel 1/broken.mp4') == 6\n"
        "storage.check_writable('s3://films/out')\n"
        "assert not storage.exists('s3://films/out')\n"
    )
    environment = {**os.environ, **s3, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, str(script), str(small)], env=environment, check=True, timeout=100)
    done = command("s3://films/reel 1", "--out", str(tmp_path / "table.parquet"), **s3)
    assert done.returncode == 1, done.stdout + done.stderr
    rows = pq.read_table(tmp_path / "table.parquet").to_pylist()
    assert states(rows) == EXPECTED | {"_v2a": ("not_video", None)}
    assert "not looked at: 1\n  _v2a: records of an earlier run of v2a" in done.stdout
    assert all(row["uri"] == f"s3://films/reel 1/{row['path']}" for row in rows)
    assert all(row["version"] for row in rows if row["path"] != "_v2a")
    missing = command("s3://no-such-bucket/x", **s3)
    assert missing.returncode == 2
    assert "no such bucket" in missing.stderr
