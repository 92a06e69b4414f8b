"""Isolation of Ray's processes from the terminal."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines import scratch


@contextlib.contextmanager
def isolated_from_terminal(folder: Path | None = None) -> Iterator[None]:
    """Within the block, every process that Ray starts reads /dev/null, and on Linux has no controlling terminal.

    folder: a folder of `pipelines.scratch.guarded`, which they belong to from then on.

    Otherwise, workers are background processes of the terminal. If a library there starts a program that configures the
    terminal, as ffmpeg does, the kernel stops both program and worker (SIGTTOU) until somebody continues them.
    """
    # Ray has no option for it. Its version is pinned, and a test runs a job in a terminal.
    from ray._private import services

    popen: Any = services.ConsolePopen

    def start(*args: Any, stdin: int | None = None, **options: Any) -> Any:
        # Linux ends these processes with the one that started them. Elsewhere Ray ends their process group,
        # which they would leave with a new session.
        session = sys.platform == "linux"
        stdin = subprocess.DEVNULL if stdin is None else stdin
        process = popen(*args, stdin=stdin, start_new_session=session, **options)
        if folder is not None and session:
            scratch.add_session(folder, process.pid)
        return process

    replaced: Any = services
    replaced.ConsolePopen = start
    try:
        yield
    finally:
        replaced.ConsolePopen = popen
