"""Limits that a child process puts on itself."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time


def limit_this_process(memory_mb: int, parent_pid: int, may_write: bool = False) -> None:
    """Limit this process from now on, and end it when its parent is gone.

    It gets `memory_mb` of address space, no core dump and 64 open files, and can write to no file unless `may_write`.
    Limits that the system does not have (macOS) are left out.
    """
    import resource

    limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 64)]
    if not may_write:
        limits.append((resource.RLIMIT_FSIZE, 0))
    if sys.platform == "linux":
        limits.append((resource.RLIMIT_AS, memory_mb << 20))
    for resource_id, bound in limits:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource_id, (bound, bound))

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(1)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
