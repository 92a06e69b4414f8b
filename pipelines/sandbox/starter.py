"""Start of child processes, by one thread that lives as long as this process.

Linux can end a child together with the thread that started it. Threads of a pool end long before the process does, so
none of them may start a child itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import IO

from pipelines import safe_path

_Order = tuple[Callable[[], subprocess.Popen[bytes]], "Future[subprocess.Popen[bytes]]"]


class _Starter:
    """A daemon thread that starts children, made anew in a process that was forked from this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._orders: SimpleQueue[_Order] = SimpleQueue()

    def start(self, make: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._orders = os.getpid(), SimpleQueue()
                threading.Thread(target=_serve, args=[self._orders], daemon=True, name="v2a starter").start()
        done: Future[subprocess.Popen[bytes]] = Future()
        self._orders.put((make, done))
        return done.result()


def _serve(orders: SimpleQueue[_Order]) -> None:
    while True:
        make, done = orders.get()
        try:
            done.set_result(make())
        except BaseException as error:
            done.set_exception(error)


_starter = _Starter()


def start(
    module: str,
    *arguments: object,
    stderr: IO[bytes] | int,
    stdin: int = subprocess.PIPE,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a child that runs one of our modules, with a pipe to its standard output.

    pass_fds: descriptors that it keeps, under the same numbers; all others are closed. Raises OSError.
    """
    return _starter.start(
        lambda: subprocess.Popen(
            [sys.executable, "-P", "-m", module, *map(str, arguments)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=safe_path.ROOT,
            env=safe_path.environment(),
            pass_fds=pass_fds,
            start_new_session=True,  # Ctrl-C goes to the parent only, which then ends the child
        )
    )
