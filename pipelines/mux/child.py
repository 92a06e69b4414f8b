"""Both ends of muxing in a child process: the parent streams sound in, the child writes the file.

The child (`python -P -m pipelines.mux.child`) gets one line of JSON and then raw int16 samples (interleaved,
native byte order) on its standard input. It answers with a `.` now and then while it advances and with one
line of JSON at the end. Nothing is pickled: what comes back from a process that has parsed a hostile file is
only ever read as JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipelines import safe_path, storage
from pipelines.mux import remux
from pipelines.mux.containers import container_of
from pipelines.mux.files import disk_error
from pipelines.mux.packet_hashes import Digests
from pipelines.sandbox.decoder_child import limit_this_process

_BEAT_S = 0.5
_READ = 1 << 16


def run(
    source_uri: str,
    sound: Iterable[np.ndarray],
    destination: Path,
    track: remux.Track,
    memory_mb: int,
    stall_s: float,
    seal: remux.Seal | None = None,
) -> remux.MuxResult:
    """Parent's end of `mux.mux_in_child`."""
    container_of(destination).coded(
        track.codec
    )  # a wrong suffix is the caller's mistake: before any process is started
    temporary = Path(storage.temporary_name(str(destination.absolute())))
    if not storage.is_remote(source_uri):
        source_uri = storage.local_path(source_uri)  # absolute: the child has another working folder
    order = {
        "source": source_uri,
        "temporary": str(temporary),
        "memory_mb": memory_mb,
        "parent": os.getpid(),
        "track": dataclasses.asdict(track),
    }
    try:
        with tempfile.TemporaryFile() as log:
            answer = converse("pipelines.mux.child", order, sound, stall_s, log)
        result = _result(answer)
        if seal is not None:
            seal(temporary, result)
            result = dataclasses.replace(result, size=temporary.stat().st_size)
        temporary.replace(destination)
    except OSError as error:
        raise disk_error(destination, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return result


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


def _result(answer: dict[str, Any]) -> remux.MuxResult:
    kind = answer.get("error")
    message = str(answer.get("message", ""))
    if kind == "storage":
        raise storage.named(str(answer.get("error_class")))(message)
    if kind == "value":
        raise ValueError(message)
    if kind is not None:
        raise remux.MuxFailed(str(answer["error_class"]), message, str(answer["stage"]))
    return remux.MuxResult(
        container=str(answer["container"]),
        audio_codec=str(answer["audio_codec"]),
        n_samples=int(answer["n_samples"]),
        size=int(answer["size"]),
        dropped=tuple(map(str, answer["dropped"])),
        source_sha256=str(answer["source_sha256"]),
        digests=Digests.from_json(answer["digests"]),
    )


# ------------------------------------------------------------------------------------- in the child


def main() -> None:
    """Read the order and the sound on standard input, write the file, answer on standard output."""
    order = json.loads(sys.stdin.buffer.readline())
    limit_this_process(order["memory_mb"], order["parent"], may_write=True)
    try:
        answer = dataclasses.asdict(_obey(order, sys.stdin.buffer, _beater()))
    except remux.MuxFailed as error:
        answer = _error("mux", error.error_class, error.message, error.stage)
    except storage.StorageError as error:
        answer = _error("storage", type(error).__name__, str(error))
    except MemoryError:
        answer = _error("mux", "MuxerOutOfMemory", "more memory than it may have")
    except ValueError as error:
        answer = _error("value", "ValueError", str(error))
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()


def _obey(order: dict[str, Any], pipe: IO[bytes], beat: Callable[[], None]) -> remux.MuxResult:
    track = remux.Track(**order["track"])
    return remux.mux_to(
        order["source"], _read_sound(pipe, track.tracks * track.channels), order["temporary"], track, beat
    )


def _read_sound(pipe: IO[bytes], channels: int) -> Iterator[np.ndarray]:
    """int16 [channels, n] from interleaved bytes."""
    width = 2 * channels
    while data := pipe.read(_READ // width * width):
        yield np.frombuffer(data[: len(data) // width * width], np.int16).reshape(-1, channels).T


def _beater() -> Callable[[], None]:
    last = 0.0

    def beat() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > _BEAT_S:
            last = now
            sys.stdout.write(".")
            sys.stdout.flush()

    return beat


if __name__ == "__main__":
    main()
