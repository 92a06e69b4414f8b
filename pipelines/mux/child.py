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
from pipelines.mux import presented, remux
from pipelines.mux.containers import container_of
from pipelines.mux.files import check_disk, disk_error
from pipelines.mux.packet_hashes import Digests
from pipelines.mux.streams import left_out
from pipelines.mux.track import MuxResult, Seal, Track
from pipelines.sandbox.child import Beat, ChildFailed, converse, load_decoders, serve
from pipelines.sandbox.lent_files import LentFile, borrowed, lend
from pipelines.storage import hashing

_READ = 1 << 16
"""Bytes of sound that the child reads at a time, at most."""

_SLACK = 1 << 20
"""Bytes between the limit at which the child stops writing and the one at which the kernel does."""


def mux_in_child(
    source_uri: str,
    sound: Iterable[np.ndarray],
    destination: str | os.PathLike[str],
    track: Track,
    *,
    memory_mb: int = 2048,
    stall_s: float = 120.0,
    seal: Seal | None = None,
    beside: str | os.PathLike[str] | None = None,
) -> MuxResult:
    """`remux.mux` in a process of its own, for untrusted files.

    The child has `memory_mb` of address space and is killed when it makes no progress for `stall_s` seconds
    (time spent waiting for `sound` does not count). A crash, a hang or too much memory is MuxFailed
    (`MuxerCrashed`, `MuxerTimeout`, `MuxerOutOfMemory`); whatever `sound` raises comes through as it is.

    beside: path of a file for streams that the copy cannot hold; there is none if all are in it.

    If `seal` raises, nothing is left.
    """
    target = Path(destination)
    container_of(target).coded(track.codec)  # a wrong suffix is the caller's mistake: found before any start
    temporary = Path(storage.temporary_name(str(target.absolute())))
    other = None if beside is None else Path(storage.temporary_name(os.path.abspath(beside)))
    data = (np.ascontiguousarray(block.T).tobytes() for block in sound)
    try:
        with contextlib.ExitStack() as stack:
            with storage.reading_source():
                source = stack.enter_context(lend(source_uri))
            output = stack.enter_context(temporary.open("xb+", buffering=0))
            order: dict[str, Any] = {
                "source": source.to_json(),
                "output": output.fileno(),
                "name": f"film{target.suffix}",
                "track": dataclasses.asdict(track),
            }
            fds, limit = [source.fd, output.fileno()], remux.size_limit(source.size, track)
            if other is not None:
                fds.append(stack.enter_context(other.open("xb+", buffering=0)).fileno())
                order["beside"] = fds[-1]
            answer = converse(
                "pipelines.mux.child", order, memory_mb, stall_s, data, fds=fds, writes=limit + _SLACK
            )
            result = _result(answer, source, output.fileno())
        if other is not None:
            result = _with_beside(result, other, Path(str(beside)))
        if seal is not None:
            seal(temporary, 1, result)
            result = dataclasses.replace(result, size=temporary.stat().st_size)
        if other is not None and result.beside:
            storage.rename(other, Path(str(beside)))
        storage.rename(temporary, target)
    except ChildFailed as error:
        raise remux.MuxFailed(f"Muxer{error.reason}", error.message) from error
    except OSError as error:
        raise disk_error(target, error) from error
    finally:
        for path in filter(None, (temporary, other)):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    return result


def _with_beside(result: MuxResult, written: Path, name: Path) -> MuxResult:
    """The result with the name, the hash and the size of the file beside the film, as the parent finds it."""
    with written.open("rb") as file:
        sha256 = hashing.sha256(file)
    size = written.stat().st_size if result.beside else 0
    dropped = left_out.named(result.dropped, name.name, sha256) if size else result.dropped
    return dataclasses.replace(result, beside=size, dropped=dropped)


def _result(answer: dict[str, Any], source: LentFile, output: int) -> MuxResult:
    """The result in an answer. Raises the error that it holds instead.

    The child may lie: an error of storage counts only if this process meets it as well.
    """
    from pipelines.sandbox import answers  # for the parent only: see `pipelines.sandbox.child`

    try:
        kind = answer.pop("error", None)
        if kind is None:
            fields = answers.checked(answers.MuxAnswer, answer).model_dump()
            presented.check(fields["presented"])
            digests = Digests.from_json(fields.pop("digests"))
            words = {name: tuple(fields[name]) for name in ("dropped", "converted")}
            return MuxResult(**fields | words | {"digests": digests})
        if kind == "value":
            raise ValueError(str(answer["message"])[:1000])
        failed = answers.checked(answers.FailedAnswer, answer)
    except (KeyError, presented.NotDescribed, answers.ValidationFailed) as error:
        raise remux.MuxFailed("MuxerCrashed", f"invalid reply from the muxer: {error}") from None
    with storage.reading_source():
        source.check()
    if kind == "source":
        raise storage.SourceLost(f"the source can no longer be read: {source.failed(failed.message)}")
    if kind == "output":
        check_disk(output)
    raise remux.MuxFailed(failed.error_class, failed.message, failed.stage)


# ------------------------------------------------------------------------------------- in the child


def _mux(order: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    """Write the file of an order; its result as JSON, or the error in a form that `_result` reads."""
    track = Track(**order["track"])
    sound = _read_blocks(data, track.tracks * track.channels)
    kind = container_of(order["name"]).coded(track.codec)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(borrowed(order["source"]))
        output = stack.enter_context(open(order["output"], "wb", buffering=0))
        beside = stack.enter_context(open(order["beside"], "wb", buffering=0)) if "beside" in order else None
        try:
            return dataclasses.asdict(remux.mux_files(source, output, sound, kind, track, Beat(), beside))
        except remux.MuxFailed as error:
            return _failure("file", error.error_class, error.message, error.stage)
        except storage.SourceLost as error:
            return _failure("source", "SourceLost", str(error))
        except OSError as error:
            return _failure("output", "OutputUnwritable", error.strerror or str(error))
        except ValueError as error:
            return _failure("value", "WrongSound", str(error))


def _failure(kind: str, error_class: str, message: str, stage: str = "mux") -> dict[str, Any]:
    message = message.encode(errors="replace").decode()[:2000]
    return {"error": kind, "error_class": error_class, "message": message, "stage": stage}


def _read_blocks(data: IO[bytes], channels: int) -> Iterator[np.ndarray]:
    """int16 [channels, n] from interleaved bytes."""
    width = 2 * channels
    while part := data.read(_READ // width * width):
        yield np.frombuffer(part[: len(part) // width * width], np.int16).reshape(-1, channels).T


if __name__ == "__main__":
    serve(_mux, load_decoders)
