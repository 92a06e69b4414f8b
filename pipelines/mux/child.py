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
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipelines import storage
from pipelines.mux import remux
from pipelines.mux.containers import container_of
from pipelines.mux.files import disk_error
from pipelines.mux.packet_hashes import Digests
from pipelines.mux.track import MuxResult, Track
from pipelines.sandbox.child import _BEAT_S, _READ, _error, converse
from pipelines.sandbox.limits import limit_this_process

Seal = Callable[[Path, MuxResult], None]


def run(
    source_uri: str,
    sound: Iterable[np.ndarray],
    destination: Path,
    track: remux.Track,
    memory_mb: int,
    stall_s: float,
    seal: Seal | None = None,
) -> MuxResult:
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


def _result(answer: dict[str, Any]) -> MuxResult:
    kind = answer.get("error")
    message = str(answer.get("message", ""))
    if kind == "storage":
        raise storage.named(str(answer.get("error_class")))(message)
    if kind == "value":
        raise ValueError(message)
    if kind is not None:
        raise remux.MuxFailed(str(answer["error_class"]), message, str(answer["stage"]))
    return MuxResult(
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


def _obey(order: dict[str, Any], pipe: IO[bytes], beat: Callable[[], None]) -> MuxResult:
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


def mux_in_child(
    source_uri: str,
    sound: Iterable[np.ndarray],
    destination: str | os.PathLike[str],
    *,
    memory_mb: int = 2048,
    stall_s: float = 120.0,
    seal: Seal | None = None,
    **track: Any,
) -> MuxResult:
    """`mux` in a process of its own, for files that nobody vouches for.

    The child has `memory_mb` of address space and is killed when it makes no headway for `stall_s` seconds
    (time spent waiting for `sound` does not count). A crash, a hang or too much memory is MuxFailed
    (`MuxerCrashed`, `MuxerTimeout`, `MuxerOutOfMemory`); whatever `sound` raises comes through as it is.

    seal: called with the finished file before it gets its name, and may replace it; what it raises leaves nothing.
    """
    from pipelines.mux import child  # which imports this module

    return child.run(source_uri, sound, Path(destination), Track(**track), memory_mb, stall_s, seal)


if __name__ == "__main__":
    main()
