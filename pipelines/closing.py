"""The last step of a dubbed file: its parts become one track, the track goes into a copy of the file."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import hashing, mux, provenance, resampling, segments, signing, storage, subtitles
from pipelines.containers import container_of
from pipelines.dub import CARD_S, SILENT_STATES, THUMBS, Job, Task, failed_row, report_row
from pipelines.parts import Failure, State
from v2a_models import grid

BESIDE = ".srt"
"""Added to the name of a dubbed film whose container holds no subtitles."""


class Meter:
    """Level of a stream of int16 blocks, measured as it passes."""

    def __init__(self) -> None:
        self.peak = 0
        self.square_sum = 0.0
        self.n = 0

    def watch(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass the blocks on, int16 [channels, n]."""
        for block in blocks:
            if block.size:
                self.peak = max(self.peak, int(np.abs(block.astype(np.int32)).max()))
                self.square_sum += float(np.square(block, dtype=np.float64).sum())
                self.n += block.size
            yield block

    @property
    def peak_dbfs(self) -> float:
        return dbfs(self.peak / segments.FULL_SCALE)

    @property
    def rms_dbfs(self) -> float:
        return dbfs(math.sqrt(self.square_sum / max(1, self.n)) / segments.FULL_SCALE)


@dataclass
class Proof:
    """What is known of a file before it gets its name."""

    source_sha256: str = ""
    output_sha256: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """Of its sidecar and its manifest."""
    manifest: bytes = b""
    """Signed; empty where nothing is signed."""
    signer: str = ""


def dbfs(level: float) -> float:
    """Level relative to full scale in dB, never below -120."""
    return max(-120.0, 20 * math.log10(level)) if level > 0 else -120.0


class Reader:
    """Reads the parts of a film in order, once, and keeps what the report needs of them."""

    def __init__(self, state: State, task: Task) -> None:
        self.state, self.task = state, task
        self.cost_s = 0.0
        self.thumbs: list[tuple[float, np.ndarray]] = []
        self.told: dict[int, str] = {}
        """Captions by number of their window."""
        self.opening: list[np.ndarray] = []
        """int16 [channels, n] blocks of the first `CARD_S` seconds, as they go into the file."""

    def sounds(self) -> Iterator[np.ndarray]:
        """int16 [channels, n] of each part."""
        for index in range(self.task.n_segments):
            part = self.state.read_part(self.task.video_id, index)
            self.cost_s += part.cost_s
            self.told |= part.captions
            self.thumbs += zip(part.thumb_times.tolist(), part.thumbs, strict=True)
            yield part.sound

    def cues(self, job: Job) -> list[subtitles.Cue]:
        """Captions of what was read so far, with their times."""
        window_s, overlap_s = (grid.seconds(n, job.rate) for n in (job.window, job.overlap))
        return subtitles.cues(self.told, window_s, overlap_s, float(self.task.video["duration_s"]))

    def keep_opening(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass the blocks on and keep the first of them for the picture in the report."""
        room = grid.samples(CARD_S)
        for block in blocks:
            if room > 0:
                self.opening.append(block[:, :room])
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
    made: mux.MuxResult | None = None
    words: list[subtitles.Cue] = []
    if job.subtitles:  # the muxer wants to know them from the start
        ahead = Reader(state, task)
        for _ in ahead.sounds():
            pass
        words = ahead.cues(job)
    for output in (task.output, task.fallback):
        reader, meter, proof = Reader(state, task), Meter(), Proof()
        try:
            made = _write_video(task, job, reader, meter, output, proof, words)
            break
        except mux.MuxFailed as error:
            if error.error_class == "ContainerCannotHold" and output != task.fallback:
                continue
            failure = Failure(error.stage, error.error_class, error.message)
            row = failed_row(task.video, failure) | {"source_sha256_after": proof.source_sha256}
            return _of_run(row, job)
    assert made is not None
    _write_provenance(task, job, output, proof)
    card = _write_card(task, job, reader)
    cost = reader.cost_s + time.perf_counter() - started
    duration_s = float(task.video["duration_s"])
    known: dict[str, Any] = {
        "output": output,
        "output_size": made.size,
        "card": card,
        "n_windows": task.n_windows,
        "model": job.model_name,
        "seed": job.seed,
        "prompt": job.prompt,
        "negative": job.negative,
        **_told(reader.cues(job), words, output),
        "sound_peak_dbfs": meter.peak_dbfs,
        "sound_rms_dbfs": meter.rms_dbfs,
        "core_seconds": cost,
        "x_realtime": duration_s / cost,
        "source_sha256_after": proof.source_sha256,
        "output_sha256": proof.output_sha256,
        "signer": proof.signer,
    }
    return _of_run(report_row(task.video, "dubbed", **known), job)


def _told(found: list[subtitles.Cue], shown: list[subtitles.Cue], output: str) -> dict[str, Any]:
    """Captions as columns of the report."""
    texts = [text for _, _, text in found]
    changes = [text for at, text in enumerate(texts) if text not in texts[at - 1 : at]]
    where = "" if not shown else "track" if container_of(output).subtitles else output + BESIDE
    return {
        "caption": "; ".join(changes),
        "captions": [dict(start_s=start_s, end_s=end_s, text=text) for start_s, end_s, text in found],
        "subtitles": where,
    }


def _of_run(row: dict[str, Any], job: Job) -> dict[str, Any]:
    return row | {"run_id": job.run_id}


def _write_video(
    task: Task, job: Job, reader: Reader, meter: Meter, output: str, proof: Proof, words: list[subtitles.Cue]
) -> mux.MuxResult:
    destination = storage.join(job.out, output)
    tags = provenance.tags(**_origin(job))

    def seal(path: Path, made: mux.MuxResult) -> None:
        _seal(task, job, output, path, made, proof)
        if words and not container_of(output).subtitles:
            text = subtitles.srt(words).encode()
            storage.write_atomic(storage.join(job.out, output + BESIDE), text)

    with tempfile.TemporaryDirectory() as scratch:
        remote = storage.is_remote(destination)
        storage.makedirs(storage.parent(destination))
        local = str(Path(scratch, "dubbed" + Path(output).suffix)) if remote else destination
        n_samples = grid.samples(float(task.video["duration_s"]))
        joined = segments.join(reader.sounds(), job.overlap)
        sound = resampling.resampled(joined, job.channels, job.rate, n_samples)
        made = mux.mux_in_child(
            task.video["uri"],
            meter.watch(reader.keep_opening(sound)),
            local,
            n_samples=n_samples,
            video_start_s=float(task.video["video_start_s"]),
            channels=job.channels,
            tags=tags,
            default=task.video["audio_state"] in SILENT_STATES,
            captions=words,
            seal=seal,
        )
        if remote:
            storage.put_atomic(local, destination)
    return made


def _seal(task: Task, job: Job, output: str, path: Path, made: mux.MuxResult, proof: Proof) -> None:
    """Check the source, sign the finished file `path` and note what it is, before it gets its name.

    Raises MuxFailed for a source that has changed meanwhile and for a signature that cannot be made.
    """
    proof.source_sha256 = made.source_sha256
    before = task.video.get("sha256")
    if before and before != made.source_sha256:
        raise mux.MuxFailed(
            "SourceChanged",
            "the source was changed while it was dubbed: its sha256 is no longer the one of the scan; run the "
            "command again when nobody writes to it",
        )
    proof.facts = provenance.sidecar(
        **_origin(job),
        source=task.video["path"],
        output=output,
        track=mux.TITLE,
        duration_s=float(task.video["duration_s"]),
        windows=task.n_windows,
        video_id=task.video_id,
        source_sha256=made.source_sha256,
        packets=made.digests.to_json(),
    )
    name = output.rpartition("/")[2]
    if job.sign_key:
        signer = signing.Signer(job.sign_key, job.sign_cert)
        definition = signing.manifest(proof.facts, name, made.source_sha256, job.version)
        try:
            proof.signer = signing.load(signer).name
            proof.manifest = signing.sign_file(signer, definition, path, name)
        except signing.SigningError as error:
            raise mux.MuxFailed("SigningFailed", str(error), "sign") from error
        if not signing.embeds(output):  # there before the film is: no unsigned file is ever seen
            storage.write_atomic(storage.join(job.out, output + signing.BESIDE), proof.manifest)
    with path.open("rb") as file:
        proof.output_sha256 = hashing.sha256(file)


def _origin(job: Job) -> dict[str, Any]:
    return {
        "model": job.model_name,
        "model_sha256": job.model_sha256,
        "recipe": job.recipe,
        "seed": job.seed,
        "candidates": job.candidates,
        "version": job.version,
    }


def _write_provenance(task: Task, job: Job, output: str, proof: Proof) -> None:
    state, facts = State(job.out), proof.facts | {"outputSha256": proof.output_sha256}
    if proof.manifest:
        where = "embedded" if signing.embeds(output) else output + signing.BESIDE
        facts |= {"manifest": where, "signer": proof.signer}
        state.write_manifest(task.video_id, proof.manifest)
    state.write_provenance(task.video_id, facts)


def _write_card(task: Task, job: Job, reader: Reader) -> str:
    """Draw the report's picture of the file; its path relative to OUT, or nothing if it cannot be drawn."""
    relative = f"_v2a/cards/{task.video_id}.webp"
    duration_s = min(float(task.video["duration_s"]), CARD_S)
    try:
        from pipelines import report  # loads matplotlib: only where a file is finished

        with tempfile.TemporaryDirectory() as scratch:
            local = str(Path(scratch, "card.webp"))
            sound = np.concatenate(reader.opening, axis=1)
            report.card(reader.strip(duration_s), sound, grid.SAMPLE_RATE, duration_s, local)
            storage.put_atomic(local, storage.join(job.out, relative))
    except (storage.StorageError, MemoryError):
        raise
    except Exception:  # a dubbed file without its picture is still a dubbed file
        return ""
    return relative
