"""Muxing in a child process (`python -P -m pipelines.mux.child`), by the protocol of `pipelines.sandbox.child`.

The data that follows the order are raw int16 samples, interleaved, in native byte order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipelines import storage
from pipelines.mux import remux
from pipelines.mux.containers import container_of
from pipelines.mux.files import disk_error
from pipelines.mux.packet_hashes import Digests
from pipelines.mux.track import MuxResult, Seal, Track
from pipelines.sandbox.child import Beat, ChildFailed, converse, serve

_READ = 1 << 16
"""Bytes of sound that the child reads at a time, at most."""


def mux_in_child(
    source_uri: str,
    sound: Iterable[np.ndarray],
    destination: str | os.PathLike[str],
    track: Track,
    *,
    memory_mb: int = 2048,
    stall_s: float = 120.0,
    seal: Seal | None = None,
) -> MuxResult:
    """`remux.mux` in a process of its own, for untrusted files.

    The child has `memory_mb` of address space and is killed when it makes no progress for `stall_s` seconds
    (time spent waiting for `sound` does not count). A crash, a hang or too much memory is MuxFailed
    (`MuxerCrashed`, `MuxerTimeout`, `MuxerOutOfMemory`); whatever `sound` raises comes through as it is.

    If `seal` raises, nothing is left.
    """
    target = Path(destination)
    container_of(target).coded(track.codec)  # a wrong suffix is the caller's mistake: found before any start
    temporary = Path(storage.temporary_name(str(target.absolute())))
    if not storage.is_remote(source_uri):
        source_uri = storage.local_path(source_uri)  # absolute: the child has another working folder
    order = {"source": source_uri, "temporary": str(temporary), "track": dataclasses.asdict(track)}
    data = (np.ascontiguousarray(block.T).tobytes() for block in sound)
    try:
        result = _result(converse("pipelines.mux.child", order, memory_mb, stall_s, data))
        if seal is not None:
            seal(temporary, 1, result)
            result = dataclasses.replace(result, size=temporary.stat().st_size)
        temporary.replace(target)
    except ChildFailed as error:
        raise remux.MuxFailed(f"Muxer{error.reason}", error.message) from error
    except OSError as error:
        raise disk_error(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return result


def _result(answer: dict[str, Any]) -> MuxResult:
    """The result in an answer. Raises the error that it holds instead."""
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


def _mux(order: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    """Write the file of an order; its result as JSON, or the error in a form that `_result` reads."""
    track = Track(**order["track"])
    sound = _read_blocks(data, track.tracks * track.channels)
    try:
        return dataclasses.asdict(remux.mux_to(order["source"], sound, order["temporary"], track, Beat()))
    except remux.MuxFailed as error:
        facts = {"error_class": error.error_class, "message": error.message, "stage": error.stage}
        return {"error": "file", **facts}
    except storage.StorageError as error:
        return {"error": "storage", "error_class": type(error).__name__, "message": str(error)}
    except ValueError as error:
        return {"error": "value", "message": str(error)}


def _read_blocks(data: IO[bytes], channels: int) -> Iterator[np.ndarray]:
    """int16 [channels, n] from interleaved bytes."""
    width = 2 * channels
    while part := data.read(_READ // width * width):
        yield np.frombuffer(part[: len(part) // width * width], np.int16).reshape(-1, channels).T


if __name__ == "__main__":
    serve(_mux, may_write=True)
