"""Temporary folders and processes do not outlive their owner, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipelines import safe_path, scratch

OWNER = """
import subprocess, sys, time
from pipelines import scratch
with scratch.{kind}(sys.argv[1]) as path:
    (path / "file").write_text("x")
    child = "import subprocess, time; subprocess.Popen(['sleep', '600']); print(1, flush=True); time.sleep(600)"
    leader = subprocess.Popen(
        [sys.executable, "-S", "-c", child], start_new_session=True, stdout=subprocess.PIPE)
    leader.stdout.readline()
    scratch.add_session(path, leader.pid)
    print(path, leader.pid, flush=True)
    sys.stdin.read()
"""


def owner(root: Path, kind: str) -> tuple[subprocess.Popen[str], Path, list[int]]:
    """A process that holds a folder, the folder, and the processes that belong to it."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", OWNER.format(kind=kind), str(root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(safe_path.ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    path, leader = process.stdout.readline().split()
    family = [int(leader), *(child.pid for child in psutil.Process(int(leader)).children())]
    assert len(family) == 2
    return process, Path(path), family


def alive(pids: list[int]) -> list[int]:
    return [
        pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    ]


def soon(condition: Callable[[], bool], within_s: float = 20.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_a_folder_is_there_for_the_block(tmp_path: Path) -> None:
    with scratch.folder(str(tmp_path)) as path:
        (path / "a").write_text("a")
        assert list(path.iterdir()) == [path / "a"]
        assert scratch.sweep(str(tmp_path)) == 0
        assert path.exists()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    process, path, family = owner(tmp_path, "folder")
    assert scratch.sweep(str(tmp_path)) == 0 and len(alive(family)) == 2
    process.kill()
    process.wait()
    assert path.exists()
    assert scratch.sweep(str(tmp_path)) == 1
    assert not path.exists() and not alive(family)


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "v2a-scratch-films").mkdir()
    (tmp_path / "v2a-scratch-films" / "reel.mp4").write_text("film")
    (tmp_path / "v2a-scratch-link").symlink_to(tmp_path / "v2a-scratch-films")
    assert scratch.sweep(str(tmp_path)) == 0
    assert (tmp_path / "v2a-scratch-films" / "reel.mp4").exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_a_guarded_folder_ends_with_its_owner(tmp_path: Path, how: signal.Signals | None) -> None:
    process, path, family = owner(tmp_path, "guarded")
    if how is None:
        assert process.stdin is not None
        process.stdin.close()
    else:
        process.send_signal(how)
    process.wait()
    assert soon(lambda: not alive(family))
    if how is None:
        assert list(tmp_path.iterdir()) == []
    else:
        assert (path / "file").exists()  # logs can be read until the next run
        assert scratch.sweep(str(tmp_path)) == 1 and list(tmp_path.iterdir()) == []


def test_a_kept_folder_is_there_until_the_next_sweep(tmp_path: Path) -> None:
    with scratch.folder(str(tmp_path)) as path:
        (path / "log").write_text("why")
        scratch.keep(path)
    assert (path / "log").read_text() == "why"
    scratch.keep(tmp_path)  # no folder of ours: nothing happens
    assert scratch.sweep(str(tmp_path)) == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_session_that_only_has_the_same_number_is_left_alone(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        (tmp_path / "sessions").write_text(f"{other.pid} 1\n")
        scratch.end_sessions(tmp_path)
        assert alive([other.pid])
    finally:
        other.kill()
        other.wait()


def test_a_torn_list_of_sessions_does_not_stop_the_sweep(tmp_path: Path) -> None:
    left = tmp_path / f"{scratch.PREFIX}left"
    left.mkdir()
    (left / "owner.lock").touch()
    (left / "sessions").write_bytes(b"\0\0\0\0 12\n999999 \xff\n\n12")
    assert scratch.sweep(str(tmp_path)) == 1
    assert not left.exists()
