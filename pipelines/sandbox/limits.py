"""Limits that a child process puts on itself."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time


def limit_this_process(memory_mb: int, parent_pid: int, may_write: bool = False) -> None:
    """Bounds what this process may use from now on, and ends it when its parent is gone.

    `memory_mb` of address space, no core dump, 64 open files, and no byte written to any file unless
    `may_write`. Limits that the system does not know (macOS) are left out.
    """
    import resource

    limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 64)]
    if not may_write:
        limits.append((resource.RLIMIT_FSIZE, 0))
    if sys.platform == "linux":
        limits.append((resource.RLIMIT_AS, memory_mb << 20))
    for what, bound in limits:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (bound, bound))

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(1)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
