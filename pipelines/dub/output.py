"""The last step of a dubbed file: its parts become one track, the track goes into a copy of the file."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import storage
from pipelines.archive.scan import SILENT_STATES
from pipelines.dub import segments, track
from pipelines.dub.job import DubJob, DubTask
from pipelines.dub.part_reader import PartReader
from pipelines.dub.seal import Proof, Sealer
from pipelines.dub.state import State
from pipelines.dub.track import TrackPlan
from pipelines.mux import audio_file, child, remux, subtitles
from pipelines.mux.containers import LOSSLESS, container_of
from pipelines.mux.packet_hashes import Digests
from pipelines.mux.track import MuxResult
from pipelines.provenance import sidecar
from pipelines.soundtrack import ebur128, flags, mixing
from pipelines.soundtrack.levels import Meter

BESIDE = ".srt"
"""Added to the name of a dubbed film whose container holds no subtitles."""


def words_beside(job: DubJob, output: str) -> bool:
    """Whether captions are a file of their own."""
    return job.treatment.sidecar != "none" or not container_of(output).subtitles


def subtitles_at(output: str, job: DubJob) -> str:
    """Place of the captions of a film with subtitles: a file relative to OUT, or "track" in the film itself."""
    return output + BESIDE if words_beside(job, output) else "track"


def _write_output(
    task: DubTask, job: DubJob, making: TrackPlan, reader: PartReader, meter: Meter, output: str, proof: Proof,
    words: list[subtitles.Cue],
) -> MuxResult:  # fmt: skip
    """Make the sound of all tracks, once, and write it into the film's copy, or into sound files."""
    made, how, c = making.made, job.treatment, making.made.channels
    gains = track.settled(making, job, State(job.out), task)
    if track.measures(making, how):
        meter.r128 = ebur128.Meter(made.rate, c)
    meter.flags = flags.Watcher(made.rate, making.spans, reader.may_be_silent)
    parts = segments.join(reader.sounds(), job.overlap)
    samples = audio_file.Samples()
    sound = samples.watch(track.blocks(making, how, parts, gains), c)
    sound = meter.watch(reader.keep_opening(sound, c, made.rate), c)
    if words and words_beside(job, output):
        text = subtitles.srt(words).encode()
        storage.write_atomic(storage.join(job.out, output + BESIDE), text)
    with contextlib.ExitStack() as stack:
        if how.sidecar != "none":
            return _write_sounds(task, job, making, sound, samples, gains, output, proof)
        kept: tuple[storage.Pending, audio_file.Writer] | None = None
        if job.keep_sound and _codec(job, output) not in LOSSLESS:
            pending = stack.enter_context(storage.Pending(State(job.out).sound_uri(task.video_id)))
            writer = stack.enter_context(audio_file.Writer(Path(pending.path), "flac", made.rate, c))
            kept, sound = (pending, writer), audio_file.passing(sound, writer, c)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        destination = storage.join(job.out, output)
        remote = storage.is_remote(destination)
        storage.makedirs(storage.parent(destination))
        local = str(scratch / ("dubbed" + Path(output).suffix)) if remote else destination

        def seal(path: Path, found: MuxResult) -> None:
            if kept is not None:
                kept[1].close()
                kept[0].commit()
            _prove(task, found.source_sha256, proof)
            proof.facts = _facts(task, job, making, gains, output, samples, found)
            _sealer(job).seal(path, output, proof)

        result = child.mux_in_child(
            task.video["uri"],
            sound,
            local,
            n_samples=made.n_samples,
            video_start_s=float(task.video["video_start_s"]),
            channels=c,
            sample_rate=made.rate,
            title=making.title,
            tags=sidecar.tags(**_origin(task, job)),
            default=making.heard_first or task.video["audio_state"] in SILENT_STATES,
            codec=how.audio_codec,
            tracks=job.keep_top,
            captions=words,
            seal=seal,
        )
        if remote:
            storage.put_atomic(local, destination)
    return result


def _codec(job: DubJob, output: str) -> str:
    """FFmpeg's name of the encoder of a film's track. Raises MuxFailed."""
    try:
        return container_of(output).coded(job.treatment.audio_codec).codec
    except ValueError as error:
        raise remux.MuxFailed("ContainerCannotHold", str(error)) from error


def _write_sounds(
    task: DubTask,
    job: DubJob,
    making: TrackPlan,
    sound: Iterable[np.ndarray],
    samples: audio_file.Samples,
    gains: list[mixing.Gains],
    output: str,
    proof: Proof,
) -> MuxResult:
    """One sound file per track instead of a film. The first is there last: it stands for all."""
    made, kind = making.made, job.treatment.sidecar
    tags = sidecar.tags(**_origin(task, job))
    names = [audio_file.numbered(output, k) for k in range(1, job.keep_top + 1)]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(storage.Pending(storage.join(job.out, name))) for name in names]
        writers = [
            stack.enter_context(audio_file.Writer(Path(file.path), kind, made.rate, made.channels, tags))
            for file in files
        ]
        for block in sound:
            for k, writer in enumerate(writers):
                writer.feed(block[k * made.channels : (k + 1) * made.channels])
        found = [writer.close() for writer in writers]
        source_sha256 = track.source_sha256(task.video["uri"])
        for k in reversed(range(len(names))):
            own, path = proof if k == 0 else Proof(), Path(files[k].path)
            told = MuxResult(
                kind,
                audio_file.KINDS[kind],
                made.n_samples,
                0,
                (),
                source_sha256,
                Digests(generated=found[k]),
            )
            _prove(task, source_sha256, own)
            own.facts = _facts(task, job, making, gains, names[k], samples if k == 0 else None, told)
            _sealer(job).seal(path, names[k], own)
            told = replace(told, size=path.stat().st_size)
            files[k].commit()
            if k:
                _sealer(job).write_record(f"{task.video_id}.{k + 1}", names[k], own)
    return told


def _prove(task: DubTask, source_sha256: str, proof: Proof) -> None:
    """Note what the source was. Raises MuxFailed if it has changed meanwhile."""
    proof.source_sha256 = source_sha256
    before = task.video.get("sha256")
    if before and before != source_sha256:
        raise remux.MuxFailed(
            "SourceChanged",
            "the source was changed while it was dubbed: its sha256 is no longer the one of the scan; run the "
            "command again when nobody writes to it",
        )


def _facts(
    task: DubTask,
    job: DubJob,
    making: TrackPlan,
    gains: list[mixing.Gains],
    output: str,
    samples: audio_file.Samples | None,
    found: MuxResult,
) -> dict[str, Any]:
    """What the sidecar and the manifest say."""
    texts: dict[str, Any] = dict(job.texts(task.asked))
    return sidecar.sidecar(
        **_origin(task, job),
        **texts,
        source=task.video["path"],
        output=output,
        track=making.title,
        duration_s=float(task.video["duration_s"]),
        windows=task.n_windows,
        video_id=task.video_id,
        source_sha256=found.source_sha256,
        packets=found.digests.to_json(),
        samples_sha256=samples.sha256 if samples is not None else "",
        treatment=making.facts(job.treatment) | {"gains": [asdict(g) for g in gains]},
    )


def _sealer(job: DubJob) -> Sealer:
    return Sealer(job.out, job.version, job.sign_key, job.sign_cert)


def _origin(task: DubTask, job: DubJob) -> dict[str, Any]:
    return {
        "model": job.model_name,
        "model_sha256": job.model_sha256,
        "recipe": job.recipe,
        "seed": task.seed(job),
        "candidates": job.candidates,
        "version": job.version,
    }
