"""A terminal of its own for a command, as a shell gives it: job control included."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

SHELL = """
import fcntl, os, signal, subprocess, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
job = subprocess.Popen(sys.argv[1:], process_group=0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
os.tcsetpgrp(0, job.pid)
sys.exit(job.wait())
"""
"""Run a job in the foreground of the terminal on its standard input, as a shell does."""

REACHES = """#!{python}
import os, sys, termios

def reach(name, terminal):
    with open({log!r}, "a") as log:
        print(name, "reached", file=log, flush=True)
        termios.tcsetattr(terminal, termios.TCSANOW, termios.tcgetattr(terminal))
        print(name, "set", file=log, flush=True)

if os.isatty(0):
    reach("stdin", 0)
try:
    terminal = os.open("/dev/tty", os.O_RDWR)
except OSError:
    pass
else:
    reach("tty", terminal)
with open({log!r}, "a") as log:
    print("ended", file=log)
"""


def reaching_program(folder: Path, name: str) -> tuple[Path, Path]:
    """A program of that name that sets up every terminal it can find, as ffmpeg does; it and its log."""
    folder.mkdir(parents=True, exist_ok=True)
    program, log = folder / name, folder / f"{name}.log"
    program.write_text(REACHES.format(python=sys.executable, log=str(log)))
    program.chmod(0o755)
    return program, log


def run_in_terminal(
    command: Sequence[str], timeout_s: float, cwd: Path, environment: Mapping[str, str] | None = None
) -> tuple[int | None, str]:
    """Run `command` in the foreground of a new terminal; its exit code (None: it ran too long, and was ended) and
    what the terminal showed."""
    shown: list[bytes] = []
    ours, theirs = pty.openpty()

    def read() -> None:
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while data := os.read(ours, 65536):
                shown.append(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    shell = subprocess.Popen(
        [sys.executable, "-c", SHELL, *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
    )
    os.close(theirs)
    code: int | None = None
    try:
        code = shell.wait(timeout_s)
    except subprocess.TimeoutExpired:
        started = [*psutil.Process(shell.pid).children(recursive=True), psutil.Process(shell.pid)]
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        shell.wait()
    finally:
        reader.join(10)
        os.close(ours)
    return code, b"".join(shown).decode(errors="replace")
