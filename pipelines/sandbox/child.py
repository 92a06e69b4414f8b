"""Protocol of a child with one order: JSON in, dots while it works, one line of JSON back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import IO, Any

import numpy as np

from pipelines import safe_path

_BEAT_S = 0.5

_READ = 1 << 16


def converse(
    module: str, order: dict[str, Any], sound: Iterable[np.ndarray], stall_s: float, log: IO[bytes]
) -> dict[str, Any]:
    """Start a child that runs `module`, feed it, and return its answer (or an error in the same form)."""
    child = subprocess.Popen(
        safe_path.command(module),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        cwd=safe_path.ROOT,
        env=safe_path.environment(),
        start_new_session=True,  # Ctrl-C goes to the parent, which ends the child
    )
    assert child.stdin is not None and child.stdout is not None
    watch = _Watch(child, child.stdout, stall_s)
    try:
        with contextlib.suppress(BrokenPipeError):  # the child gave up: its answer says why
            child.stdin.write(json.dumps(order).encode() + b"\n")
            for chunk in watch.awaited(sound):
                child.stdin.write(np.ascontiguousarray(chunk.T).tobytes())
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
    """Listens to the child and kills it when it has been quiet for too long."""

    def __init__(self, child: subprocess.Popen[bytes], answers: IO[bytes], stall_s: float) -> None:
        self._child, self._answers, self._stall_s = child, answers, stall_s
        self._last = time.monotonic()
        self._our_turn = False
        self._stalled = False
        self._done = threading.Event()
        self._text = b""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._guard = threading.Thread(target=self._look, daemon=True)
        self._listener.start()
        self._guard.start()

    def awaited(self, sound: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass `sound` on; the time it takes to make is not held against the child."""
        chunks = iter(sound)
        while True:
            self._our_turn = True
            chunk = next(chunks, None)
            self._last = time.monotonic()
            self._our_turn = False
            if chunk is None:
                return
            yield chunk

    def answer(self, log: IO[bytes]) -> dict[str, Any]:
        """Wait for the end of the child."""
        self._listener.join()
        code = self._child.wait()
        if self._stalled:
            return _error("mux", "MuxerTimeout", f"no headway for {self._stall_s:g} s")
        with contextlib.suppress(ValueError):
            found = json.loads(self._text.lstrip(b"."))
            if isinstance(found, dict):
                return found
        log.seek(0)
        words = log.read()[-2000:].decode(errors="replace")
        if "MemoryError" in words:
            return _error("mux", "MuxerOutOfMemory", "more memory than it may have")
        reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return _error("mux", "MuxerCrashed", f"{reason}: {words.strip().splitlines()[-1:] or 'nothing said'}")

    def stop(self) -> None:
        self._done.set()
        self._guard.join()
        self._listener.join()

    def _listen(self) -> None:
        while data := os.read(self._answers.fileno(), 4096):
            self._last = time.monotonic()
            self._text = (self._text + data).lstrip(b".")[: 1 << 20]

    def _look(self) -> None:
        while not self._done.wait(0.2):
            if not self._our_turn and time.monotonic() - self._last > self._stall_s:
                self._stalled = self._child.poll() is None
                self._child.kill()
                return


def _error(kind: str, error_class: str, message: str, stage: str = "mux") -> dict[str, Any]:
    return {"error": kind, "error_class": error_class, "message": message, "stage": stage}


class Beating:
    """An open file that says on standard output that it is being used."""

    def __init__(self, file: Any) -> None:
        self._file, self._last = file, 0.0

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

    def _beat(self) -> None:
        if time.monotonic() - self._last > 0.5:
            self._last = time.monotonic()
            sys.stdout.write(".")
            sys.stdout.flush()
