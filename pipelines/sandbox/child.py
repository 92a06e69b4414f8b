"""A child process with one order: both ends of its protocol.

The parent (`converse`) writes one line of JSON to the child's standard input, and raw bytes after it. The child
(`serve`) is confined before it looks at a file. It writes a dot to its standard output once it is, and now and then
while it advances, and one line of JSON at the end. Nothing is pickled: what comes from a process that has parsed a
hostile file is only ever read as JSON. Files are lent to it as descriptors (`pipelines.sandbox.lent_files`), and the
order holds their numbers.

Muxing, signing and inspecting work like this: one file, one answer, and the process ends. Decoding does not: its
process (`pipelines.sandbox.decoder_child`) serves thousands of requests, because starting one takes longer than most
of them, and answers each with megabytes of pictures, which go through shared memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import math
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

from pipelines.sandbox import starter
from pipelines.sandbox.confinement import Limits, NotConfined, confine

_BEAT_S = 0.5
"""Seconds between two signs of life."""

_LONGEST_ANSWER = 1 << 20
"""Bytes of the longest answer; a child that says more is ended."""

_PATIENCE = 30
"""Time limit of a child that keeps reporting progress, as a multiple of its `stall_s`. Its CPU time has the same."""

_PROGRAMS = {"av.__main__", "av.datasets"}
"""Modules of PyAV that are no part of the library."""

_OUT_OF_MEMORY = {"error": "memory"}
"""Answer of a child that ran out of memory and could still write."""


class ChildFailed(Exception):
    """The child gave no answer. `reason` is `Crashed`, `Timeout` or `OutOfMemory`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason, self.message = reason, message


# ------------------------------------------------------------------------------------ in the parent


def converse(
    module: str,
    order: dict[str, Any],
    memory_mb: int,
    stall_s: float,
    data: Iterable[bytes] = (),
    *,
    fds: Sequence[int] = (),
    writes: int = 0,
) -> dict[str, Any]:
    """Answer of a child that runs `module` with `memory_mb` of address space.

    fds: descriptors that it keeps, under the same numbers. writes: bytes up to which a file may grow by its writing.

    The child is killed when it makes no progress for `stall_s` seconds, or takes 30 times as long in all; time spent
    waiting for `data` does not count. Raises ChildFailed, NotConfined, OSError if no process can be started, and
    whatever `data` raises.
    """
    limits = Limits(memory_mb, writes, max(1, math.ceil(stall_s * _PATIENCE)))
    order = order | {"limits": dataclasses.asdict(limits), "parent": os.getpid()}
    # Nobody reads what it prints before it has ended: what does not fit into the pipe is dropped and blocks nothing.
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    with os.fdopen(read_end, "rb", buffering=0) as log:
        try:
            child = starter.start(module, stderr=write_end, pass_fds=fds)
        finally:
            os.close(write_end)
        assert child.stdin is not None and child.stdout is not None
        watch = _Watch(child, child.stdout, stall_s)
        try:
            with contextlib.suppress(BrokenPipeError):  # the child gave up: its answer says why
                child.stdin.write(json.dumps(order).encode() + b"\n")
                for chunk in watch.awaited(data):
                    child.stdin.write(chunk)
                child.stdin.close()
            answer = watch.answer(log)
        finally:
            child.kill()
            child.wait()
            watch.stop()
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
            child.stdout.close()
    if "refused" in answer and not watch.confined:
        raise NotConfined(str(answer["refused"]))
    return answer


class _Watch:
    """Reads what the child writes, and kills the child when it has written nothing for too long."""

    def __init__(self, child: subprocess.Popen[bytes], output: IO[bytes], stall_s: float) -> None:
        self._child, self._output, self._stall_s = child, output, stall_s
        self._last = time.monotonic()
        self._end = self._last + stall_s * _PATIENCE
        self._parent_works = False
        self._killed_for = ""
        self._done = threading.Event()
        self._text = bytearray()
        self.confined = False
        """True once the child has reported that it is confined: from then on a film may speak for it."""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._guard = threading.Thread(target=self._kill_when_stalled, daemon=True)
        self._listener.start()
        self._guard.start()

    def awaited(self, data: Iterable[bytes]) -> Iterator[bytes]:
        """Pass `data` on; the time it takes to make is not held against the child."""
        chunks = iter(data)
        while True:
            self._parent_works, since = True, time.monotonic()
            chunk = next(chunks, None)
            self._last = time.monotonic()
            self._end += self._last - since
            self._parent_works = False
            if chunk is None:
                return
            yield chunk

    def answer(self, log: IO[bytes]) -> dict[str, Any]:
        """Wait for the end of the child. Raises ChildFailed."""
        from pipelines.sandbox import (
            answers,  # for the parent only: pydantic takes as long to load as all the rest
        )

        self._listener.join()
        code = self._child.wait()
        if self._killed_for:
            raise ChildFailed("Timeout", self._killed_for)
        answer = None
        with contextlib.suppress(ValueError):
            answer = answers.parse(bytes(self._text))
        if answer is not None and answer != _OUT_OF_MEMORY:
            return answer
        printed = (log.read() or b"")[-2000:].decode(errors="replace")
        if answer == _OUT_OF_MEMORY or "MemoryError" in printed:
            raise ChildFailed("OutOfMemory", "exceeded its memory limit")
        reason = signal_name(-code) if code < 0 else f"exit code {code}"
        last_line = (printed.strip().splitlines() or ["nothing printed"])[-1]
        raise ChildFailed("Crashed", f"{reason}: {last_line}")

    def stop(self) -> None:
        self._done.set()
        self._guard.join()
        self._listener.join()

    def _listen(self) -> None:
        while data := os.read(self._output.fileno(), 1 << 16):
            self._last = time.monotonic()
            if not self._text:
                self.confined = self.confined or data.startswith(b".")
                data = data.lstrip(b".")
            self._text += data
            if len(self._text) > _LONGEST_ANSWER:
                self._child.kill()
                return

    def _kill_when_stalled(self) -> None:
        while not self._done.wait(0.2):
            now = time.monotonic()
            stalled = now - self._last > self._stall_s
            if not self._parent_works and (stalled or now > self._end):
                if self._child.poll() is None:
                    self._killed_for = (
                        f"no progress for {self._stall_s:g} s" if stalled else "takes too long in all"
                    )
                self._child.kill()
                return


def signal_name(number: int) -> str:
    """Name of a signal, also of one that Python has no name for."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# ------------------------------------------------------------------------------------- in the child


def serve(work: Callable[[dict[str, Any], IO[bytes]], dict[str, Any]], *loaders: Callable[[], None]) -> None:
    """Read the order, confine this process, do the work and write its answer.

    work: gets the order, with the measures that are `missing`, and the stream of data that follows it. Whatever it
    raises, MemoryError excepted, ends the process and is a crash to the parent. loaders: load what `work` needs and has
    not imported, while this is possible.
    """
    for load in loaders:
        load()
    order = json.loads(sys.stdin.buffer.readline())
    try:
        order["missing"] = confine(order["parent"], Limits(**order["limits"]))
        Beat()()
        answer = work(order, sys.stdin.buffer)
    except NotConfined as error:
        answer = {"refused": str(error)}
    except MemoryError:
        answer = _OUT_OF_MEMORY
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()


def load_decoders() -> None:
    """Load all of PyAV, and what Python needs for errors and texts.

    Which of these modules a film needs shows only when it is read, and a confined process can load nothing.
    """
    import av

    names = {module.name for module in pkgutil.walk_packages(av.__path__, "av.")} - _PROGRAMS
    for name in (
        *sorted(names),
        "encodings.idna",
        "encodings.latin_1",
        "encodings.unicode_escape",
        "linecache",
    ):
        importlib.import_module(name)


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
        self.parts, self.rate = getattr(file, "parts", ()), getattr(file, "rate", "")

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
