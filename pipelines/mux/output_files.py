"""Files of a dubbed film: a copy of it with its track, or sound files."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipelines import scratch, storage
from pipelines.mux import audio_file, child, presented
from pipelines.mux.packet_hashes import Digests
from pipelines.mux.track import MuxResult, Seal, Track


@dataclass(frozen=True)
class Target:
    """Files that a track is written to."""

    out: str
    """The output folder."""
    name: str
    """Path of the film or sound file, relative to `out`."""
    source: str
    """URI of the film to copy."""
    track: Track
    sidecar: str = "none"
    """"wav" or "flac" for a sound file per track instead of a film."""
    left_out: str = ""
    """Path of a file for streams that the copy cannot hold, relative to `out`; empty to leave them out."""
    samples_uri: str = ""
    """FLAC file that keeps the samples of the film's first track; empty for none."""


def write(target: Target, sound: Iterable[np.ndarray], seal: Seal) -> MuxResult:
    """Write int16 [tracks * channels, n] blocks into the files of `target`; nothing of them is there until it is whole.

    Raises MuxFailed for what the source causes and StorageError; errors of `sound` and `seal` come through.
    """
    try:
        if target.sidecar != "none":
            return _write_sound_files(target, sound, seal)
        return _write_copy(target, sound, seal)
    finally:
        # Where a mux ends early, the sound may still hold the film's decoder, which the next try needs.
        if isinstance(sound, Generator):
            sound.close()


def _write_copy(target: Target, sound: Iterable[np.ndarray], seal: Seal) -> MuxResult:
    destination = local = storage.join(target.out, target.name)
    with contextlib.ExitStack() as stack:
        samples: tuple[storage.Pending, audio_file.AudioFileWriter] | None = None
        if target.samples_uri:
            pending = stack.enter_context(storage.Pending(target.samples_uri))
            fmt = target.track.sample_rate, target.track.channels
            writer = stack.enter_context(audio_file.AudioFileWriter(Path(pending.path), "flac", *fmt))
            samples, sound = (pending, writer), audio_file.passing(sound, writer, target.track.channels)
        if storage.is_remote(destination):
            local = stack.enter_context(storage.Pending(destination)).path
        else:
            storage.makedirs(storage.parent(destination))

        def finished(path: Path, number: int, result: MuxResult) -> None:
            if samples is not None:
                samples[1].close()
                samples[0].commit()
            seal(path, number, result)

        beside = other = storage.join(target.out, target.left_out) if target.left_out else None
        if beside is not None and storage.is_remote(beside):
            other = str(Path(stack.enter_context(scratch.folder())) / beside.rpartition("/")[2])
        result = child.mux_in_child(target.source, sound, local, target.track, seal=finished, beside=other)
        if beside is not None and other != beside and result.beside:
            storage.put_atomic(str(other), beside)
        if storage.is_remote(destination):
            storage.put_atomic(local, destination)
    return result


def _write_sound_files(target: Target, sound: Iterable[np.ndarray], seal: Seal) -> MuxResult:
    """One sound file per track. The first gets its name last, since it stands for all."""
    kind, spec, channels = target.sidecar, target.track, target.track.channels
    uris = [storage.join(target.out, audio_file.numbered(target.name, k)) for k in range(1, spec.tracks + 1)]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(storage.Pending(uri)) for uri in uris]
        writers = [
            stack.enter_context(
                audio_file.AudioFileWriter(
                    Path(file.path), kind, spec.sample_rate, channels, spec.tags, spec.broadcast
                )
            )
            for file in files
        ]
        for block in sound:
            for k, writer in enumerate(writers):
                writer.feed(block[k * channels : (k + 1) * channels])
        digests = [Digests(generated=writer.close()) for writer in writers]
        for number, file, digest in reversed(
            list(zip(range(1, len(files) + 1), files, digests, strict=True))
        ):
            path = Path(file.path)
            with path.open("rb") as written:
                described = presented.describe(written)
            facts = kind, audio_file.KINDS[kind], spec.n_samples, path.stat().st_size
            result = MuxResult(*facts, digests=digest, presented=described)
            seal(path, number, result)
            result = replace(result, size=path.stat().st_size)
            file.commit()
    return result
