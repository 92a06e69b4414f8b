"""The last step of a dubbed file: its parts become one track, the track goes into a copy of the file."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import (
    contactsheet,
    ebur128,
    flags,
    mux,
    provenance,
    segments,
    soundfiles,
    storage,
    subtitles,
    tracks,
    treatment,
)
from pipelines.containers import LOSSLESS, container_of
from pipelines.decode import DecodeFailed, damage_within
from pipelines.digests import Digests
from pipelines.dub import CARD_S, SILENT_STATES, THUMBS, Job, Task, failed_row, file_segments, report_row
from pipelines.parts import Failure, State
from pipelines.sealing import Proof, Sealer
from pipelines.tracks import Making
from v2a_models import grid

BESIDE = ".srt"
"""Added to the name of a dubbed film whose container holds no subtitles."""
MOST_LISTED = 20
"""Damaged or still stretches that the report names, one by one."""
MOST_SEAMS = 5


class Meter:
    """Level of a stream of int16 blocks, measured as it passes."""

    def __init__(self) -> None:
        self.peak = 0
        self.square_sum = 0.0
        self.n = 0
        self.r128: ebur128.Meter | None = None
        """Where loudness was asked for, or sounds were mixed."""
        self.flags: flags.Watcher | None = None

    def watch(self, blocks: Iterable[np.ndarray], channels: int) -> Iterator[np.ndarray]:
        """Pass the blocks on, int16 [any, n]; the first `channels` channels are measured."""
        for passed in blocks:
            block = passed[:channels]
            if self.flags is not None:
                self.flags.add(block)
            if self.r128 is not None:
                self.r128.add(block.astype(np.float32) / treatment.FULL_SCALE)
            if block.size:
                self.peak = max(self.peak, int(np.abs(block.astype(np.int32)).max()))
                self.square_sum += float(np.square(block, dtype=np.float64).sum())
                self.n += block.size
            yield passed

    @property
    def peak_dbfs(self) -> float:
        return dbfs(self.peak / segments.FULL_SCALE)

    @property
    def rms_dbfs(self) -> float:
        return dbfs(math.sqrt(self.square_sum / max(1, self.n)) / segments.FULL_SCALE)


def dbfs(level: float) -> float:
    """Level relative to full scale in dB, never below -120."""
    return max(-120.0, 20 * math.log10(level)) if level > 0 else -120.0


class Reader:
    """Reads the parts of a film in order, once, and keeps what the report needs of them."""

    def __init__(self, state: State, task: Task) -> None:
        self.state, self.task = state, task
        self.cost_s = self.gpu_s = 0.0
        self.thumbs: list[tuple[float, np.ndarray]] = []
        """Seconds and frame, of the first `CARD_S` seconds and the next one."""
        self.sheet = contactsheet.Picker(float(task.video["duration_s"]))
        self.told: list[subtitles.Cue] = []
        """Captions, and which stretches of the film they are about."""
        self.still: list[tuple[float, float]] = []
        """Stretches, in seconds, in which nothing moves."""
        self.scenes = 0
        self.seams: list[tuple[float, float]] = []
        """The worst joins of each segment: where, and how many times the usual jump."""
        self.unseen: list[tuple[int, str]] = []
        """Segments that cannot be seen, and why."""
        self.damage: list[tuple[float, float]] = []
        """Stretches, in seconds, in which older pictures stand in for damaged ones."""
        self.opening: list[np.ndarray] = []
        """int16 [channels, n] blocks of the first `CARD_S` seconds, as they go into the file."""

    def sounds(self) -> Iterator[np.ndarray]:
        """int16 [channels, n] of each part."""
        for index in range(self.task.n_segments):
            part = self.state.read_part(self.task.video_id, index)
            self.cost_s += part.cost_s
            self.gpu_s += part.gpu_s
            if part.unseen:
                self.unseen.append((index, part.unseen))
            self.damage += part.damage
            self.told += part.captions
            self.still += part.still
            self.scenes += part.scenes
            self.seams = sorted([*self.seams, *part.seams], key=lambda seam: -seam[1])[:MOST_SEAMS]
            for thumb in zip(part.thumb_times.tolist(), part.thumbs, strict=True):
                if not self.thumbs or self.thumbs[-1][0] < CARD_S:
                    self.thumbs.append(thumb)
                self.sheet.take([thumb])
            yield part.sound

    def silent_on_purpose(self, job: Job) -> list[tuple[float, float]]:
        """Stretches, in seconds, of what was read so far."""
        still = self.still if job.static == "silence" else []
        return [*still, *_unseen(self, job)]

    def cues(self) -> list[subtitles.Cue]:
        """Captions of what was read so far, with their times."""
        return subtitles.cues(self.told, float(self.task.video["duration_s"]))

    def keep_opening(self, blocks: Iterable[np.ndarray], channels: int, rate: int) -> Iterator[np.ndarray]:
        """Pass the blocks on and keep the first of them for the picture in the report."""
        room = grid.samples(CARD_S, rate)
        for block in blocks:
            if room > 0:
                self.opening.append(block[:channels, :room])
                room -= self.opening[-1].shape[1]
            yield block

    def strip(self, duration_s: float) -> np.ndarray:
        """The frames nearest to equally spaced times: uint8 [frames, h, w, 3]."""
        times = np.array([time_s for time_s, _ in self.thumbs])
        wanted = (np.arange(THUMBS) + 0.5) * duration_s / THUMBS
        nearest = np.abs(times[None] - wanted[:, None]).argmin(axis=1)
        return np.stack([self.thumbs[k][1] for k in nearest])


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
    made: mux.MuxResult | None = None
    words: list[subtitles.Cue] = []
    if job.subtitles:  # the muxer wants to know them from the start
        ahead = Reader(state, task)
        for _ in ahead.sounds():
            pass
        words = ahead.cues()
    for output in (task.output, task.fallback):
        reader, meter, proof = Reader(state, task), Meter(), Proof()
        try:
            making = tracks.making(task, job, state)
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
        "reason": _damage(reader, job, duration_s),
        "output": output,
        "output_size": made.size,
        "card": card,
        "contact_sheet": sheet,
        "n_windows": task.n_windows,
        "model": job.model_name,
        "seed": task.seed(job),
        **job.texts(task.asked),
        **_told(reader.cues(), words, output, job),
        "sound_peak_dbfs": meter.peak_dbfs,
        "sound_rms_dbfs": meter.rms_dbfs,
        "sound_lufs": loud.lufs if loud is not None and loud.loud else None,
        "sound_true_peak_dbtp": loud.true_peak_dbtp if loud is not None else None,
        **_shape(reader, job, duration_s),
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


def _told(found: list[subtitles.Cue], shown: list[subtitles.Cue], output: str, job: Job) -> dict[str, Any]:
    """Captions as columns of the report."""
    texts = [text for _, _, text in found]
    changes = [text for at, text in enumerate(texts) if text not in texts[at - 1 : at]]
    where = "" if not shown else output + BESIDE if _words_beside(job, output) else "track"
    return {
        "caption": "; ".join(changes),
        "captions": [dict(start_s=start_s, end_s=end_s, text=text) for start_s, end_s, text in found],
        "subtitles": where,
    }


def _shape(reader: Reader, job: Job, duration_s: float) -> dict[str, Any]:
    """Cuts, still stretches and seams as columns of the report."""
    still = damage_within(reader.still, 0.0, duration_s)
    return {
        "scenes": reader.scenes,
        "static_s": sum(last - first for first, last in still),
        "static": f"{job.static}: {_times(still, duration_s)}" if still else "",
        "seams": [{"at_s": at_s, "jump": jump} for at_s, jump in reader.seams],
    }


def _words_beside(job: Job, output: str) -> bool:
    """Whether captions are a file of their own."""
    return job.treatment.sidecar != "none" or not container_of(output).subtitles


def _damage(reader: Reader, job: Job, duration_s: float) -> str:
    """Where the pictures are damaged, and what became of the sound there, in words; empty if they are not."""
    said = []
    if unseen := _unseen(reader, job):
        said.append(f"damaged, so silent: {_times(unseen, duration_s)} ({reader.unseen[0][1]})")
    if reader.damage:
        said.append(f"damaged, older pictures stand in: {_times(reader.damage, duration_s)}")
    return "; ".join(said)


def _unseen(reader: Reader, job: Job) -> list[tuple[float, float]]:
    """Segments that cannot be seen, in seconds."""
    if not reader.unseen:
        return []
    cuts = file_segments(job, float(reader.task.video["duration_s"]))
    return [(cuts[k].start / job.rate, cuts[k].stop / job.rate) for k, _ in reader.unseen]


def _times(found: list[tuple[float, float]], duration_s: float) -> str:
    joined = damage_within(found, 0.0, duration_s)
    more = f" and {len(joined) - MOST_LISTED} more" if len(joined) > MOST_LISTED else ""
    return ", ".join(f"{first:.1f} to {last:.1f} s" for first, last in joined[:MOST_LISTED]) + more


def _of_run(row: dict[str, Any], job: Job) -> dict[str, Any]:
    return row | {"run_id": job.run_id}


def _write_output(
    task: Task, job: Job, making: Making, reader: Reader, meter: Meter, output: str, proof: Proof,
    words: list[subtitles.Cue],
) -> mux.MuxResult:  # fmt: skip
    """Make the sound of all tracks, once, and write it into the film's copy, or into sound files."""
    made, how, c = making.made, job.treatment, making.made.channels
    gains = tracks.settled(making, job, State(job.out), task)
    if tracks.measures(making, how):
        meter.r128 = ebur128.Meter(made.rate, c)
    meter.flags = flags.Watcher(made.rate, making.spans, lambda: reader.silent_on_purpose(job))
    parts = segments.join(reader.sounds(), job.overlap)
    samples = soundfiles.Samples()
    sound = samples.watch(tracks.blocks(making, how, parts, gains), c)
    sound = meter.watch(reader.keep_opening(sound, c, made.rate), c)
    if words and _words_beside(job, output):
        text = subtitles.srt(words).encode()
        storage.write_atomic(storage.join(job.out, output + BESIDE), text)
    with contextlib.ExitStack() as stack:
        if how.sidecar != "none":
            return _write_sounds(task, job, making, sound, samples, gains, output, proof)
        kept: tuple[storage.Pending, soundfiles.Writer] | None = None
        if job.keep_sound and _codec(job, output) not in LOSSLESS:
            pending = stack.enter_context(storage.Pending(State(job.out).sound_uri(task.video_id)))
            writer = stack.enter_context(soundfiles.Writer(Path(pending.path), "flac", made.rate, c))
            kept, sound = (pending, writer), soundfiles.passing(sound, writer, c)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        destination = storage.join(job.out, output)
        remote = storage.is_remote(destination)
        storage.makedirs(storage.parent(destination))
        local = str(scratch / ("dubbed" + Path(output).suffix)) if remote else destination

        def seal(path: Path, found: mux.MuxResult) -> None:
            if kept is not None:
                kept[1].close()
                kept[0].commit()
            _prove(task, found.source_sha256, proof)
            proof.facts = _facts(task, job, making, gains, output, samples, found)
            _sealer(job).seal(path, output, proof)

        result = mux.mux_in_child(
            task.video["uri"],
            sound,
            local,
            n_samples=made.n_samples,
            video_start_s=float(task.video["video_start_s"]),
            channels=c,
            sample_rate=made.rate,
            title=making.title,
            tags=provenance.tags(**_origin(task, job)),
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
        raise mux.MuxFailed("ContainerCannotHold", str(error)) from error


def _write_sounds(
    task: Task,
    job: Job,
    making: Making,
    sound: Iterable[np.ndarray],
    samples: soundfiles.Samples,
    gains: list[treatment.Gains],
    output: str,
    proof: Proof,
) -> mux.MuxResult:
    """One sound file per track instead of a film. The first is there last: it stands for all."""
    made, kind = making.made, job.treatment.sidecar
    tags = provenance.tags(**_origin(task, job))
    names = [soundfiles.numbered(output, k) for k in range(1, job.keep_top + 1)]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(storage.Pending(storage.join(job.out, name))) for name in names]
        writers = [
            stack.enter_context(soundfiles.Writer(Path(file.path), kind, made.rate, made.channels, tags))
            for file in files
        ]
        for block in sound:
            for k, writer in enumerate(writers):
                writer.feed(block[k * made.channels : (k + 1) * made.channels])
        found = [writer.close() for writer in writers]
        source_sha256 = tracks.source_sha256(task.video["uri"])
        for k in reversed(range(len(names))):
            own, path = proof if k == 0 else Proof(), Path(files[k].path)
            told = mux.MuxResult(
                kind,
                soundfiles.KINDS[kind],
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
        raise mux.MuxFailed(
            "SourceChanged",
            "the source was changed while it was dubbed: its sha256 is no longer the one of the scan; run the "
            "command again when nobody writes to it",
        )


def _facts(
    task: Task,
    job: Job,
    making: Making,
    gains: list[treatment.Gains],
    output: str,
    samples: soundfiles.Samples | None,
    found: mux.MuxResult,
) -> dict[str, Any]:
    """What the sidecar and the manifest say."""
    texts: dict[str, Any] = dict(job.texts(task.asked))
    return provenance.sidecar(
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
        from pipelines import report  # loads matplotlib: only where a file is finished

        with tempfile.TemporaryDirectory() as scratch:
            local = str(Path(scratch, "card.webp"))
            sound = np.concatenate(reader.opening, axis=1)
            report.card(reader.strip(duration_s), sound, rate, duration_s, local)
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
        contactsheet.draw(frames).save(picture, "webp", quality=80, method=4)
        storage.write_atomic(storage.join(job.out, relative), picture.getvalue())
    except (storage.StorageError, MemoryError):
        raise
    except Exception:  # as for the card
        return ""
    return relative
