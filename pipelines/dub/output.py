"""The last step of a dubbed file: its parts become one track, the track goes into a copy of the file."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import storage
from pipelines.dub import segments, track
from pipelines.dub.job import CARD_S, SILENT_STATES, Job, Task
from pipelines.dub.part_reader import Reader, damaged, shape, told
from pipelines.dub.pipeline import failed_row, report_row
from pipelines.dub.seal import Proof, Sealer
from pipelines.dub.state import Failure, State
from pipelines.dub.track import Making
from pipelines.media.video import DecodeFailed
from pipelines.mux import audio_file, remux, subtitles
from pipelines.mux.containers import LOSSLESS, container_of
from pipelines.mux.packet_hashes import Digests
from pipelines.provenance import sidecar
from pipelines.reports import contact_sheet
from pipelines.soundtrack import ebur128, flags, mixing
from pipelines.soundtrack.levels import Meter

BESIDE = ".srt"
"""Added to the name of a dubbed film whose container holds no subtitles."""


def finish(task: Task, job: Job) -> dict[str, Any]:
    """Mux a file of which every segment is there; its report row. Safe to do twice, even at once.

    Raises storage.StorageError if OUT cannot be written, storage.StorageNotFound if a part has gone.
    """
    started = time.perf_counter()
    state = State(job.out)
    failed = [index for index, is_failure in state.segments_done(task.video_id).items() if is_failure]
    if failed:
        return _of_run(failed_row(task.video, state.read_failure(task.video_id, min(failed))), job)
    if (whole := state.unseen(task.video_id, task.n_segments)) is not None:
        return _of_run(failed_row(task.video, whole), job)
    made: remux.MuxResult | None = None
    words: list[subtitles.Cue] = []
    if job.subtitles:  # the muxer wants to know them from the start
        ahead = Reader(state, task)
        for _ in ahead.sounds():
            pass
        words = ahead.cues()
    for output in (task.output, task.fallback):
        reader, meter, proof = Reader(state, task), Meter(), Proof()
        try:
            making = track.making(task, job, state)
            made = _write_output(task, job, making, reader, meter, output, proof, words)
            break
        except DecodeFailed as error:
            if error.error_class == "ContainerCannotHold" and output != task.fallback:
                continue
            failure = Failure(error.stage, error.error_class, error.message)
            row = failed_row(task.video, failure) | {"source_sha256_after": proof.source_sha256}
            return _of_run(row, job)
    assert made is not None
    Sealer(job.out, job.version).write_record(task.video_id, output, proof)
    card = _write_card(task, job, reader, making.made.rate)
    sheet = _write_sheet(task, job, reader)
    cost = reader.cost_s + time.perf_counter() - started
    duration_s = float(task.video["duration_s"])
    loud = meter.r128.levels() if meter.r128 is not None else None
    known: dict[str, Any] = {
        "reason": damaged(reader, job, duration_s),
        "output": output,
        "output_size": made.size,
        "card": card,
        "contact_sheet": sheet,
        "n_windows": reader.windows,
        "model": job.model_name,
        "seed": task.seed(job),
        **job.texts(task.asked),
        **told(reader.cues(), words, output + BESIDE if words_beside(job, output) else "track"),
        "sound_peak_dbfs": meter.peak_dbfs,
        "sound_rms_dbfs": meter.rms_dbfs,
        "sound_lufs": loud.lufs if loud is not None and loud.loud else None,
        "sound_true_peak_dbtp": loud.true_peak_dbtp if loud is not None else None,
        **shape(reader, job, duration_s),
        **(meter.flags.columns() if meter.flags is not None else {}),
        "treatment": making.words,
        "heard_s": making.heard_s,
        "tracks": job.keep_top,
        "core_seconds": cost,
        "gpu_seconds": reader.gpu_s,
        "x_realtime": duration_s / cost,
        "source_sha256_after": proof.source_sha256,
        "output_sha256": proof.output_sha256,
        "signer": proof.signer,
    }
    return _of_run(report_row(task.video, "dubbed", **known), job)


def words_beside(job: Job, output: str) -> bool:
    """Whether captions are a file of their own."""
    return job.treatment.sidecar != "none" or not container_of(output).subtitles


def _of_run(row: dict[str, Any], job: Job) -> dict[str, Any]:
    return row | {"run_id": job.run_id}


def _write_output(
    task: Task, job: Job, making: Making, reader: Reader, meter: Meter, output: str, proof: Proof,
    words: list[subtitles.Cue],
) -> remux.MuxResult:  # fmt: skip
    """Make the sound of all tracks, once, and write it into the film's copy, or into sound files."""
    made, how, c = making.made, job.treatment, making.made.channels
    gains = track.settled(making, job, State(job.out), task)
    if track.measures(making, how):
        meter.r128 = ebur128.Meter(made.rate, c)
    meter.flags = flags.Watcher(made.rate, making.spans, lambda: reader.may_be_silent(job))
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

        def seal(path: Path, found: remux.MuxResult) -> None:
            if kept is not None:
                kept[1].close()
                kept[0].commit()
            _prove(task, found.source_sha256, proof)
            proof.facts = _facts(task, job, making, gains, output, samples, found)
            _sealer(job).seal(path, output, proof)

        result = remux.mux_in_child(
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


def _codec(job: Job, output: str) -> str:
    """FFmpeg's name of the encoder of a film's track. Raises MuxFailed."""
    try:
        return container_of(output).coded(job.treatment.audio_codec).codec
    except ValueError as error:
        raise remux.MuxFailed("ContainerCannotHold", str(error)) from error


def _write_sounds(
    task: Task,
    job: Job,
    making: Making,
    sound: Iterable[np.ndarray],
    samples: audio_file.Samples,
    gains: list[mixing.Gains],
    output: str,
    proof: Proof,
) -> remux.MuxResult:
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
            told = remux.MuxResult(
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


def _prove(task: Task, source_sha256: str, proof: Proof) -> None:
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
    task: Task,
    job: Job,
    making: Making,
    gains: list[mixing.Gains],
    output: str,
    samples: audio_file.Samples | None,
    found: remux.MuxResult,
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


def _sealer(job: Job) -> Sealer:
    return Sealer(job.out, job.version, job.sign_key, job.sign_cert)


def _origin(task: Task, job: Job) -> dict[str, Any]:
    return {
        "model": job.model_name,
        "model_sha256": job.model_sha256,
        "recipe": job.recipe,
        "seed": task.seed(job),
        "candidates": job.candidates,
        "version": job.version,
    }


def _write_card(task: Task, job: Job, reader: Reader, rate: int) -> str:
    """Draw the report's picture of the file; its path relative to OUT, or nothing if it cannot be drawn."""
    relative = f"_v2a/cards/{task.video_id}.webp"
    duration_s = min(float(task.video["duration_s"]), CARD_S)
    try:
        from pipelines.reports import dub_page  # loads matplotlib: only where a file is finished

        with tempfile.TemporaryDirectory() as scratch:
            local = str(Path(scratch, "card.webp"))
            sound = np.concatenate(reader.opening, axis=1)
            dub_page.card(reader.strip(duration_s), sound, rate, duration_s, local)
            storage.put_atomic(local, storage.join(job.out, relative))
    except (storage.StorageError, MemoryError):
        raise
    except Exception:  # a dubbed file without its picture is still a dubbed file
        return ""
    return relative


def _write_sheet(task: Task, job: Job, reader: Reader) -> str:
    """Draw frames over the whole of a film that is longer than its card; the picture's path relative to OUT, or nothing
    if there is none."""
    relative = f"_v2a/cards/{task.video_id}.sheet.webp"
    frames = reader.sheet.frames
    if float(task.video["duration_s"]) <= CARD_S or not frames:
        return ""
    try:
        picture = io.BytesIO()
        contact_sheet.draw(frames).save(picture, "webp", quality=80, method=4)
        storage.write_atomic(storage.join(job.out, relative), picture.getvalue())
    except (storage.StorageError, MemoryError):
        raise
    except Exception:  # as for the card
        return ""
    return relative
