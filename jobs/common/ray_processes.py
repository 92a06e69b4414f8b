"""Isolation of Ray's processes from the terminal."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def isolated_from_terminal() -> Iterator[None]:
    """Within the block, every process that Ray starts reads /dev/null, and on Linux has no controlling terminal.

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
        return popen(*args, stdin=stdin, start_new_session=session, **options)

    replaced: Any = services
    replaced.ConsolePopen = start
    try:
        yield
    finally:
        replaced.ConsolePopen = popen
