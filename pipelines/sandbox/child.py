"""A child process with one order: both ends of its protocol.

The parent (`converse`) writes one line of JSON to the child's standard input, and raw bytes after it. The child
(`serve`) writes a dot to its standard output now and then while it advances, and one line of JSON at the end. Nothing
is pickled: what comes from a process that has parsed a hostile file is only ever read as JSON.

Muxing, signing and inspecting work like this: one file, one answer, and the process ends. Decoding does not: its
process (`pipelines.sandbox.decoder_child`) serves thousands of requests, because starting one takes longer than most
of them, and answers each with megabytes of pictures, which go through shared memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from pipelines import safe_path
from pipelines.sandbox.limits import limit_this_process

_BEAT_S = 0.5
"""Seconds between two signs of life."""

_LONGEST_ANSWER = 1 << 20
"""Bytes of an answer that are read."""

_OUT_OF_MEMORY = {"error": "memory"}
"""Answer of a child that ran out of memory and could still write."""


class ChildFailed(Exception):
    """The child gave no answer. `reason` is `Crashed`, `Timeout` or `OutOfMemory`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason, self.message = reason, message


# ------------------------------------------------------------------------------------ in the parent


def converse(
    module: str, order: dict[str, Any], memory_mb: int, stall_s: float, data: Iterable[bytes] = ()
) -> dict[str, Any]:
    """Answer of a child that runs `module` with `memory_mb` of address space.

    The child is killed when it makes no progress for `stall_s` seconds; time spent waiting for `data` does not count.
    Raises ChildFailed, OSError if no process can be started, and whatever `data` raises.
    """
    order = order | {"memory_mb": memory_mb, "parent": os.getpid()}
    with tempfile.TemporaryFile() as log:
        child = safe_path.start(module, stderr=log)
        assert child.stdin is not None and child.stdout is not None
        watch = _Watch(child, child.stdout, stall_s)
        try:
            with contextlib.suppress(BrokenPipeError):  # the child gave up: its answer says why
                child.stdin.write(json.dumps(order).encode() + b"\n")
                for chunk in watch.awaited(data):
                    child.stdin.write(chunk)
                child.stdin.close()
            return watch.answer(log)
        finally:
            child.kill()
            child.wait()
            watch.stop()
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
            child.stdout.close()


class _Watch:
    """Reads what the child writes, and kills the child when it has written nothing for too long."""

    def __init__(self, child: subprocess.Popen[bytes], answers: IO[bytes], stall_s: float) -> None:
        self._child, self._answers, self._stall_s = child, answers, stall_s
        self._last = time.monotonic()
        self._parent_works = False
        self._stalled = False
        self._done = threading.Event()
        self._text = b""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._guard = threading.Thread(target=self._kill_when_stalled, daemon=True)
        self._listener.start()
        self._guard.start()

    def awaited(self, data: Iterable[bytes]) -> Iterator[bytes]:
        """Pass `data` on; the time it takes to make is not held against the child."""
        chunks = iter(data)
        while True:
            self._parent_works = True
            chunk = next(chunks, None)
            self._last = time.monotonic()
            self._parent_works = False
            if chunk is None:
                return
            yield chunk

    def answer(self, log: IO[bytes]) -> dict[str, Any]:
        """Wait for the end of the child. Raises ChildFailed."""
        self._listener.join()
        code = self._child.wait()
        if self._stalled:
            raise ChildFailed("Timeout", f"no progress for {self._stall_s:g} s")
        answer = None
        with contextlib.suppress(ValueError):
            answer = json.loads(self._text.lstrip(b"."))
        if isinstance(answer, dict) and answer != _OUT_OF_MEMORY:
            return answer
        log.seek(0)
        printed = log.read()[-2000:].decode(errors="replace")
        if answer == _OUT_OF_MEMORY or "MemoryError" in printed:
            raise ChildFailed("OutOfMemory", "exceeded its memory limit")
        reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        last_line = (printed.strip().splitlines() or ["nothing printed"])[-1]
        raise ChildFailed("Crashed", f"{reason}: {last_line}")

    def stop(self) -> None:
        self._done.set()
        self._guard.join()
        self._listener.join()

    def _listen(self) -> None:
        while data := os.read(self._answers.fileno(), 4096):
            self._last = time.monotonic()
            self._text = (self._text + data).lstrip(b".")[:_LONGEST_ANSWER]

    def _kill_when_stalled(self) -> None:
        while not self._done.wait(0.2):
            if not self._parent_works and time.monotonic() - self._last > self._stall_s:
                self._stalled = self._child.poll() is None
                self._child.kill()
                return


# ------------------------------------------------------------------------------------- in the child


def serve(work: Callable[[dict[str, Any], IO[bytes]], dict[str, Any]], may_write: bool = False) -> None:
    """Read the order, limit this process, do the work and write its answer.

    work: gets the order and the stream of data that follows it; whatever it raises, MemoryError excepted, ends the
    process and is a crash to the parent.
    """
    order = json.loads(sys.stdin.buffer.readline())
    limit_this_process(order["memory_mb"], order["parent"], may_write)
    try:
        answer = work(order, sys.stdin.buffer)
    except MemoryError:
        answer = _OUT_OF_MEMORY
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()


class Beat:
    """A sign of life on standard output each time it is called, at most two a second."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self) -> None:
        if time.monotonic() - self._last > _BEAT_S:
            self._last = time.monotonic()
            sys.stdout.write(".")
            sys.stdout.flush()


class BeatingFile:
    """An open file that gives a sign of life whenever it is read or written."""

    def __init__(self, file: Any) -> None:
        self._file, self._beat = file, Beat()

    def read(self, n: int = -1) -> bytes:
        self._beat()
        return self._file.read(n)

    def write(self, data: bytes) -> int:
        self._beat()
        return self._file.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()
