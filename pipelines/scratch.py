"""Temporary folders that do not outlive their process, and removal of those that a killed process left.

The owner of a folder holds a lock on a file in it, which ends with the process however it ends. Whoever gets the lock
may remove the folder, and ends the processes that belong to it first. This happens when the owner leaves it, or when
the next process makes one (`sweep`); until then, logs in it can be read. Processes of a folder (`guarded`) end at once:
a small process waits for the end of the owner. This module imports nothing but Python's own, because that process runs
it as a script.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "v2a-scratch-"

_LOCK, _SESSIONS, _KEPT, _FILES = "owner.lock", "sessions", "kept", "files"
"""Entries of a scratch folder: a file that its owner locks, a list of processes, a mark, and what it is for."""

_SESSION = re.compile(r"(\d{1,10}) (\d{1,20})", re.ASCII)
"""Line of that list: the session's leader, and its start in clock ticks."""

_PATIENCE_S = 2.0
"""Time for processes to end by themselves."""

_swept: set[str] = set()


@contextlib.contextmanager
def folder(root: str = "") -> Iterator[Path]:
    """A new temporary folder for the block, below `root` or where temporary files go."""
    root = root or tempfile.gettempdir()
    if root not in _swept:
        _swept.add(root)
        sweep(root)
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
    lock = _locked(path, create=True)
    try:
        (path / _FILES).mkdir()
        yield path / _FILES
    finally:
        if not (path / _KEPT).exists():
            _remove(path)
        if lock is not None:
            os.close(lock)


@contextlib.contextmanager
def guarded(root: str = "") -> Iterator[Path]:
    """`folder`, whose processes (`add_session`) end at once when this process does, even if it is killed."""
    with folder(root) as path:
        command = [sys.executable, "-S", "-E", "-P", str(Path(__file__).resolve()), str(path.parent)]
        guard = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield path
        finally:
            assert guard.stdin is not None
            end_sessions(path.parent)
            guard.kill()
            guard.wait()
            guard.stdin.close()


def add_session(path: Path, leader: int) -> None:
    """Record that the processes of the session that `leader` leads belong to the folder `path`."""
    with contextlib.suppress(OSError), (path.parent / _SESSIONS).open("a") as file:
        file.write(f"{leader} {_facts(leader)[1]}\n")


def keep(path: Path) -> None:
    """Leave the folder `path` to the next `sweep`, because somebody is told to look into it."""
    if path.parent.name.startswith(PREFIX):
        with contextlib.suppress(OSError):
            (path.parent / _KEPT).touch()


def sweep(root: str = "") -> int:
    """Remove the folders of this user's dead processes. Returns their number.

    A folder without a lock is none of ours, or is being made at this moment.
    """
    removed = 0
    for path in Path(root or tempfile.gettempdir()).glob(PREFIX + "*"):
        with contextlib.suppress(OSError):
            if path.is_symlink() or path.lstat().st_uid != os.getuid():
                continue
            lock = _locked(path, create=False)
            if lock is not None:
                end_sessions(path)
                _remove(path)
                os.close(lock)
                removed += 1
    return removed


def end_sessions(path: Path) -> None:
    """Kill what is left of the sessions of a folder, after a moment in which they may end by themselves."""
    try:
        lines = (path / _SESSIONS).read_text("ascii", "replace").splitlines()
    except OSError:
        return
    # A line may be torn: a power cut, or a kill between two writes.
    found = [match for line in lines if (match := _SESSION.fullmatch(line))]
    sessions = {int(match[1]): int(match[2]) for match in found}
    until = time.monotonic() + _PATIENCE_S
    while left := _members(sessions):
        if time.monotonic() > until:
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _members(sessions: dict[int, int]) -> list[int]:
    """Processes of sessions, which are given by leader and its start; none where there is no /proc."""
    members = []
    for entry in Path("/proc").glob("[0-9]*") if sessions else ():
        session, started = _facts(int(entry.name))
        # A number may belong to another session by now: its leader is younger than ours.
        if (
            session in sessions
            and started >= sessions[session]
            and _facts(session)[1] in (0, sessions[session])
        ):
            members.append(int(entry.name))
    return members


def _facts(pid: int) -> tuple[int, int]:
    """Session of a process and its start in clock ticks; (0, 0) if it is gone or about to be collected."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0
    return (0, 0) if fields[0] == "Z" else (int(fields[3]), int(fields[19]))


def _locked(path: Path, create: bool) -> int | None:
    """The lock of a folder; None if another process holds it, or if there is none and `create` is false."""
    import fcntl

    try:
        lock = os.open(path / _LOCK, os.O_RDWR | (os.O_CREAT if create else 0) | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _remove(path: Path) -> None:
    # Twice: a process that is about to end may still write.
    for _ in range(2):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.1)


def main() -> None:
    """Wait for the end of the owner of a folder, then end its processes."""
    sys.stdin.buffer.read()
    end_sessions(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
