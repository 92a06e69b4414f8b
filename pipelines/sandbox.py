"""Decoding in a child process, because the files are untrusted and decoders are large C programs.

`Sandbox` owns one child (`python -m pipelines.sandbox`) and starts it again when it dies. The child opens
files itself and has a memory limit, no right to write files, few descriptors and no core dumps; the
parent measures the time. Whatever a file does to the child, the parent sees one exception.

The two talk in lines of JSON: a request per line, an answer per line, arrays as raw bytes after it. Nothing
is unpickled and nothing in an answer is believed before it was checked against what was asked for.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from pipelines import decode, storage
from pipelines.decode import DecodeFailed, Probe, View
from v2a_models import grid

__all__ = ["DecodeFailed", "Probe", "Sandbox", "View", "limit_this_process"]

_LONGEST_LINE = 1 << 20
_PATIENCE = 30
"""How many times `timeout_s` a request that keeps reporting progress may take in all."""

_START_S = 180.0
"""Time for a child to start, on a machine under load."""

_MAX_CHANNELS = 64
_STORAGE_ERRORS: dict[str, type[storage.StorageError]] = {
    kind.__name__: kind for kind in (storage.StorageError, storage.StorageNotFound, storage.StorageDenied)
}


class Sandbox:
    """One decoding child, kept between calls. A context manager; safe to share between threads.

    `memory_mb` bounds the address space of the child, `timeout_s` the time without any progress (a long
    film that keeps decoding may take 30 times as long). A child that crashes gets `retries` more tries,
    in case the machine and not the file was the reason.

    All methods raise DecodeFailed for what the file causes and StorageError for what storage causes.
    """

    def __init__(
        self, memory_mb: int = 2048, timeout_s: float = 120.0, threads: int = 2, retries: int = 1
    ) -> None:
        self.memory_mb, self.timeout_s = memory_mb, timeout_s
        self.threads, self.retries = threads, retries
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.RLock()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the child, if one runs."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    def close(self) -> None:
        """Ends the child, at once even if it is at work for another thread, and for good."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            child.wait()

    def probe(self, uri: str) -> Probe:
        """`decode.probe` of the file at `uri`."""
        answer, _ = self._ask("probe", uri, {}, [])
        try:
            facts = Probe(**answer)
            for name in ("duration_s", "fps", "video_start_s"):
                if not math.isfinite(float(getattr(facts, name))):
                    raise ValueError(name)
        except (TypeError, ValueError) as error:
            raise DecodeFailed("DecoderCrashed", f"the decoder answered nonsense: {error}", "probe") from None
        return facts

    def decode_views(self, uri: str, views: Sequence[View], start_s: float, end_s: float) -> list[np.ndarray]:
        """`decode.decode_views` of the file at `uri`: one uint8 [T, H, W, 3] per view."""
        _check_span(start_s, end_s)
        request = {
            "views": [[view.fps, view.width, view.height] for view in views],
            "start_s": start_s,
            "end_s": end_s,
            "threads": self.threads,
        }
        shapes = decode.view_shapes(views, start_s, end_s)
        return self._ask("decode", uri, request, [(np.dtype(np.uint8), shape) for shape in shapes])[1]

    def decode_sound(
        self, uri: str, start_s: float, end_s: float, sample_rate: int = grid.SAMPLE_RATE
    ) -> np.ndarray:
        """`decode.decode_sound` of the file at `uri`: float32 [channels, n]."""
        _check_span(start_s, end_s)
        n_samples = grid.samples(end_s - start_s, sample_rate)
        request = {"start_s": start_s, "end_s": end_s, "sample_rate": sample_rate}
        return self._ask("sound", uri, request, [(np.dtype(np.float32), (-1, n_samples))])[1][0]

    def _ask(
        self, verb: str, uri: str, request: dict[str, Any], expected: list[tuple[np.dtype, tuple[int, ...]]]
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        if not storage.is_remote(uri):
            uri = storage.local_path(uri)  # the child has another working folder
        line = json.dumps({"verb": verb, "uri": uri, **request}).encode() + b"\n"
        with self._lock:
            for attempts_left in range(self.retries, -1, -1):
                try:
                    return self._ask_once(verb, line, expected)
                except DecodeFailed as error:
                    if error.error_class != "DecoderCrashed" or attempts_left == 0:
                        raise
                except storage.StorageError:
                    raise
                except BaseException:
                    # Interrupted between request and answer: this child's next answer would be stale.
                    self._end()
                    raise
        raise AssertionError("every attempt returns or raises")

    def _ask_once(
        self, verb: str, line: bytes, expected: list[tuple[np.dtype, tuple[int, ...]]]
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        child = self._running()
        assert child.stdin is not None and child.stdout is not None
        reader = _Reader(child.stdout.fileno(), self.timeout_s, self.timeout_s * _PATIENCE)
        try:
            child.stdin.write(line)
            child.stdin.flush()
            while "tick" in (answer := json.loads(reader.line())):
                reader.progress()
            if "failed" in answer:
                error_class, message, stage = (str(part) for part in answer["failed"])
                if error_class == "DecoderOutOfMemory":
                    self._end()  # its heap is in pieces: start afresh
                raise DecodeFailed(error_class, message, stage)
            if "storage" in answer:
                kind, message = (str(part) for part in answer["storage"])
                raise _STORAGE_ERRORS.get(kind, storage.StorageError)(message)
            shapes = _agree(answer["shapes"], expected)
            arrays = [reader.array(shape, dtype) for shape, (dtype, _) in zip(shapes, expected, strict=True)]
            return dict(answer["result"]), arrays
        except TimeoutError:
            self._end()
            message = f"no progress for {self.timeout_s:g} s" if reader.stalled else "takes far too long"
            raise DecodeFailed("DecoderTimeout", message, verb) from None
        except (OSError, EOFError):
            raise self._autopsy(verb) from None
        except (ValueError, KeyError, TypeError) as error:
            self._end()
            raise DecodeFailed("DecoderCrashed", f"the decoder answered nonsense: {error}", verb) from None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise RuntimeError("this sandbox is closed")
        if self._child is None or self._child.poll() is not None:
            self._end()
            child = self._child = _start(self.memory_mb)
            assert child.stdout is not None
            try:  # starting is not the file's affair: neither its time nor its fault
                _Reader(child.stdout.fileno(), _START_S, _START_S).line()
            except (OSError, EOFError, ValueError) as error:
                reason = (
                    "no sign of life" if isinstance(error, TimeoutError) else self._autopsy("open").message
                )
                self._end()
                raise RuntimeError(f"the decoding process does not start: {reason}") from error
        return self._child

    def _autopsy(self, verb: str) -> DecodeFailed:
        """Why the child is gone."""
        child, words = self._child, ""
        if child is not None and child.stderr is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=5)
            os.set_blocking(child.stderr.fileno(), False)
            words = (child.stderr.read() or b"").decode(errors="replace").strip()
        code = child.poll() if child is not None else None
        self._end()
        if "MemoryError" in words or "Cannot allocate memory" in words:
            return DecodeFailed("DecoderOutOfMemory", f"needs more than {self.memory_mb} MB", verb)
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return DecodeFailed("DecoderCrashed", f"ended by {signal.Signals(-code).name}", verb)
        last = words.splitlines()[-1] if words else f"exit code {code}"
        return DecodeFailed("DecoderCrashed", last, verb)


class _Reader:
    """Reads lines and arrays from a pipe against two clocks: one per silence, one for everything."""

    def __init__(self, fd: int, stall_s: float, total_s: float) -> None:
        self.fd, self.stall_s, self.stalled = fd, stall_s, False
        self.end = time.monotonic() + total_s
        self.buffer = bytearray()
        self.poll = select.poll()
        self.poll.register(fd, select.POLLIN)
        self.progress()

    def progress(self) -> None:
        self.stall = time.monotonic() + self.stall_s

    def line(self) -> bytes:
        while (end := self.buffer.find(b"\n")) < 0:
            if len(self.buffer) > _LONGEST_LINE:
                raise ValueError("endless line")
            self._wait()
            if not (part := os.read(self.fd, 65536)):
                raise EOFError
            self.buffer += part
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        return line

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        array = np.empty(shape, dtype)
        view = array.reshape(-1).view(np.uint8).data
        at = min(len(self.buffer), len(view))
        view[:at] = self.buffer[:at]
        del self.buffer[:at]
        while at < len(view):
            self._wait()
            if not (n := os.readv(self.fd, [view[at:]])):
                raise EOFError
            at += n
        return array

    def _wait(self) -> None:
        while True:
            now = time.monotonic()
            left = min(self.stall, self.end) - now
            if left <= 0:
                self.stalled = self.stall <= self.end
                raise TimeoutError
            if self.poll.poll(min(left, 1.0) * 1000):
                return


def _agree(
    shapes: Sequence[Sequence[int]], expected: list[tuple[np.dtype, tuple[int, ...]]]
) -> list[tuple[int, ...]]:
    """The announced shapes, if they are what was asked for (-1: any small number)."""
    if len(shapes) != len(expected):
        raise ValueError("another number of arrays than asked for")
    for got, (_, wanted) in zip(shapes, expected, strict=True):
        fits = len(got) == len(wanted) and all(
            g == w or (w == -1 and 0 < g <= _MAX_CHANNELS) for g, w in zip(got, wanted, strict=True)
        )
        if not fits:
            raise ValueError(f"an array of {tuple(got)} instead of {wanted}")
    return [tuple(int(n) for n in shape) for shape in shapes]


def _check_span(start_s: float, end_s: float) -> None:
    if not 0 <= start_s < end_s:
        raise ValueError(f"not a stretch of time: {start_s} to {end_s}")


def _start(memory_mb: int) -> subprocess.Popen[bytes]:
    few = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    read_end, write_end = os.pipe()
    # What goes to stderr is read only after a crash: a full pipe must drop words, not block the child.
    os.set_blocking(write_end, False)
    child = subprocess.Popen(
        [sys.executable, "-m", "pipelines.sandbox", str(memory_mb), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=write_end,
        cwd=Path(__file__).resolve().parent.parent,
        env={**os.environ, **few, "PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,  # Ctrl-C reaches the parent only, which then ends the child
    )
    os.close(write_end)
    child.stderr = open(read_end, "rb", buffering=0)  # noqa: SIM115 (closed with the child)
    with contextlib.suppress(AttributeError, OSError):
        assert child.stdout is not None
        fcntl.fcntl(child.stdout.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)
    return child


# ---- in the child


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


class _Watched:
    """A file that remembers what went wrong in storage while FFmpeg was reading. It has no name, so
    that formats are told by content alone."""

    def __init__(self, file: BinaryIO, uri: str) -> None:
        self.file, self.uri = file, uri
        self.error: storage.StorageError | None = None

    def read(self, n: int = -1) -> bytes:
        try:
            return self.file.read(n)
        except MemoryError:
            raise
        except Exception as error:
            self.error = storage.StorageError(f"{self.uri}: {error}")
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self.file.seek(offset, whence)
        except (OSError, ValueError):
            return -1  # a place before the start, which only a broken index asks for

    def tell(self) -> int:
        return self.file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


_pool = decode.Pool()


def _serve(
    verb: str, request: dict[str, Any], file: Any, tick: Any
) -> tuple[dict[str, Any], list[np.ndarray]]:
    if verb == "probe":
        return decode.probe(file, tick=tick).to_json(), []
    start_s, end_s = request["start_s"], request["end_s"]
    if verb == "decode":
        views = [View(*view) for view in request["views"]]
        return {}, decode.decode_views(
            file, views, start_s, end_s, request["threads"], tick=tick, allocate=_pool
        )
    return {}, [decode.decode_sound(file, start_s, end_s, request["sample_rate"], tick=tick)]


def _answer(request: dict[str, Any], out: BinaryIO) -> bool:
    """Serves one request; returns whether this process can go on."""
    verb, uri = request["verb"], request["uri"]
    last = time.monotonic()

    def tick() -> None:
        nonlocal last
        if time.monotonic() - last > 1:
            last = time.monotonic()
            _send(out, {"tick": 1})

    watched: _Watched | None = None
    try:
        with storage.open_read(uri) as file:
            watched = _Watched(file, uri)
            result, arrays = _serve(verb, request, watched, tick)
        if watched.error is not None:  # FFmpeg took it for the end of the file
            raise watched.error
    except MemoryError as error:
        _send(out, {"failed": ["DecoderOutOfMemory", str(error) or "more memory than allowed", verb]})
        return False
    except Exception as raised:
        cause = watched.error if watched is not None and watched.error is not None else raised
        if isinstance(cause, DecodeFailed) and isinstance(cause.__cause__, MemoryError):
            _send(out, {"failed": ["DecoderOutOfMemory", "more memory than allowed", cause.stage]})
            return False
        if isinstance(cause, storage.StorageError):
            _send(out, {"storage": [type(cause).__name__, str(cause)]})
        elif isinstance(cause, DecodeFailed):
            _send(out, {"failed": [cause.error_class, cause.message, cause.stage]})
        else:
            _send(out, {"failed": [type(cause).__name__, str(cause), verb]})
        return True
    _send(out, {"result": result, "shapes": [list(array.shape) for array in arrays]})
    for array in arrays:
        out.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    out.flush()
    return True


def _send(out: BinaryIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()


def main() -> None:
    """The child: reads requests until the parent closes the pipe."""
    limit_this_process(memory_mb=int(sys.argv[1]), parent_pid=int(sys.argv[2]))
    # Keep the channel to ourselves: what a library prints must not end up between the answers.
    with os.fdopen(os.dup(1), "wb", buffering=1 << 16) as out:
        os.dup2(2, 1)
        _send(out, {"ready": 1})
        while line := sys.stdin.buffer.readline():
            if not _answer(json.loads(line), out):
                break


if __name__ == "__main__":
    main()
