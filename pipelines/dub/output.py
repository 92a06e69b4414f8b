"""Output of a dubbed film: its track made from the film's parts, written and sealed, and the facts for the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import scratch, storage
from pipelines.archive.scan import SILENT_STATES
from pipelines.dub import segments, track_plan
from pipelines.dub.job import DubJob, DubTask
from pipelines.dub.output_names import SRT_SUFFIX, has_srt_file, left_out_at, proxy_name, subtitles_at
from pipelines.dub.part_reader import PartReader
from pipelines.dub.state import State
from pipelines.dub.track_plan import TrackPlan
from pipelines.mux import audio_file, remux, subtitles
from pipelines.mux.containers import LOSSLESS, container_of
from pipelines.mux.output_files import Target, write
from pipelines.mux.streams import proxy
from pipelines.mux.track import MuxResult, Track
from pipelines.provenance import sidecar, signing
from pipelines.provenance.sidecar import FileFacts, GeneratorFacts, TrackFacts
from pipelines.soundtrack import ebur128, flags
from pipelines.soundtrack.levels import LevelMeter
from pipelines.soundtrack.mixing import Gains
from pipelines.storage import hashing


@dataclass(frozen=True)
class WrittenFilm:
    """A film whose output is written, and the facts about it for the report."""

    name: str
    """Path of the output, relative to OUT."""
    subtitles: str
    """Place of its subtitles (`subtitles_at`); empty for none."""
    result: MuxResult
    plan: TrackPlan
    parts: PartReader
    """The film's parts, which have been read."""
    levels: LevelMeter
    """Levels and flags of the sound as it was written."""
    proof: Proof


def write_film(
    task: DubTask, job: DubJob, name: str, captions: Sequence[subtitles.Cue], proof: Proof
) -> WrittenFilm:
    """Write all tracks of a film, its subtitles and its records.

    name: path of the output, relative to OUT; captions: subtitles of the film; proof: filled on the way, and holds what
    is known if this fails. Raises DecodeFailed (MuxFailed among them) for what the film causes, and StorageError.
    """
    plan = track_plan.plan_track(task, job, name)
    gains = track_plan.measure_gains(plan, task, job)
    film = _FilmWriter(task, job, name, captions, plan, gains, proof)
    with storage.writing_one_file():
        if captions and has_srt_file(name, job):
            text = subtitles.srt(captions).encode()
            storage.write_atomic(storage.join(job.out, name + SRT_SUFFIX), text)
        result = film.write()
        if job.proxy != "none" and storage.is_sequence(task.video["uri"]):
            film.write_proxy()
    film.sealer.write_record(task.video_id, name, proof)
    place = subtitles_at(name, job) if captions else ""
    return WrittenFilm(name, place, result, plan, film.reader, film.meter, proof)


class _FilmWriter:
    """One attempt to write the output of a film."""

    def __init__(
        self,
        task: DubTask,
        job: DubJob,
        name: str,
        captions: Sequence[subtitles.Cue],
        plan: TrackPlan,
        gains: list[Gains],
        proof: Proof,
    ) -> None:
        self.task, self.job, self.name, self.captions = task, job, name, captions
        self.plan, self.gains, self.proof = plan, gains, proof
        self.reader, self.meter = PartReader(task, job), LevelMeter()
        self.samples = audio_file.Samples()
        self.sealer = Sealer(job.out, job.version, job.sign_key, job.sign_cert)

    def write(self) -> MuxResult:
        return write(self._target(), self._sound(), self._seal)

    def write_proxy(self) -> None:
        """Write the film to listen with: the pictures of a sequence coded anew, and the sound."""
        parts = segments.join(PartReader(self.task, self.job).sounds(), self.job.overlap)
        sound = track_plan.blocks(self.plan, parts, self.gains)
        name, made = proxy_name(self.name, self.job), Proof(self.proof.source_sha256)

        def seal(path: Path, number: int, result: MuxResult) -> None:
            result = replace(result, converted=(*result.converted, f"its pictures, as {self.job.proxy}"))
            made.facts = self._facts(name, made.source_sha256, result, self.samples.sha256)
            self.sealer.seal(path, name, made)

        with scratch.folder() as folder:
            pictures = folder / f"pictures{proxy.PROXY_SUFFIXES[self.job.proxy]}"
            proxy.encode_in_child(self.task.video["uri"], pictures, self.job.proxy)
            target = self._target()
            track = replace(target.track, video_start_s=0.0, broadcast={})
            film = replace(target, name=name, source=str(pictures), track=track, sidecar="none")
            write(film, sound, seal)
        self.sealer.write_record(f"{self.task.video_id}.proxy", name, made)

    def _sound(self) -> Iterator[np.ndarray]:
        """The samples of all tracks, int16 [tracks * channels, n]; measured and hashed while they pass."""
        fmt = self.plan.fmt
        if self.plan.needs_loudness:
            self.meter.r128 = ebur128.LoudnessMeter(fmt.rate, fmt.channels)
        self.meter.flags = flags.FlagDetector(fmt.rate, self.plan.spans, self.reader.may_be_silent)
        parts = segments.join(self.reader.sounds(), self.job.overlap)
        sound = self.samples.watch(track_plan.blocks(self.plan, parts, self.gains), fmt.channels)
        return self.meter.watch(self.reader.keep_opening(sound, fmt.channels, fmt.rate), fmt.channels)

    def _target(self) -> Target:
        job, plan, video = self.job, self.plan, self.task.video
        keeps = job.keep_sound and plan.policy.sidecar == "none" and self._codec() not in LOSSLESS
        return Target(
            out=job.out,
            name=self.name,
            source=video["uri"],
            track=Track(
                n_samples=plan.fmt.n_samples,
                video_start_s=float(video["video_start_s"]),
                channels=plan.fmt.channels,
                sample_rate=plan.fmt.rate,
                title=plan.title,
                tags=sidecar.tags(self._generator),
                default=plan.holds_original or video["audio_state"] in SILENT_STATES,
                codec=plan.policy.audio_codec,
                tracks=job.keep_top,
                captions=self.captions,
                strict=job.strict,
                broadcast=track_plan.broadcast(plan, self.task.video, job),
            ),
            sidecar=plan.policy.sidecar,
            left_out=left_out_at(self.name, job, video["container"]),
            samples_uri=State(job.out).sound_uri(self.task.video_id) if keeps else "",
        )

    def _codec(self) -> str:
        """FFmpeg's name of the track's encoder. Raises MuxFailed if the container cannot hold the codec."""
        try:
            return container_of(self.name).coded(self.plan.policy.audio_codec).codec
        except ValueError as error:
            raise remux.MuxFailed("ContainerCannotHold", str(error)) from error

    def _seal(self, path: Path, number: int, result: MuxResult) -> None:
        """Hash and sign a finished file. Raises MuxFailed if the source has changed since the scan."""
        source_sha256 = result.source_sha256 or self._source_sha256
        self.proof.source_sha256 = source_sha256
        if (scanned := self.task.video.get("sha256")) and scanned != source_sha256:
            raise remux.MuxFailed(
                "SourceChanged",
                "the source changed while it was dubbed: its sha256 is no longer the one of the scan; run the command "
                "again once the file is no longer being written",
            )
        name = audio_file.numbered(self.name, number)
        proof = self.proof if number == 1 else Proof(source_sha256)
        samples_sha256 = self.samples.sha256 if number == 1 else ""
        proof.facts = self._facts(name, source_sha256, result, samples_sha256)
        self.sealer.seal(path, name, proof)
        if number > 1:
            self.sealer.write_record(f"{self.task.video_id}.{number}", name, proof)

    @cached_property
    def _source_sha256(self) -> str:
        return track_plan.source_sha256(self.task.video["uri"])

    def _facts(self, name: str, source_sha256: str, result: MuxResult, samples_sha256: str) -> dict[str, Any]:
        """The sidecar of one file, which its signed manifest repeats."""
        video = self.task.video
        treatment = self.plan.facts() | {"gains": [asdict(gain) for gain in self.gains]}
        duration_s, windows = float(video["duration_s"]), self.task.n_windows
        rate = storage.rate_of(video["uri"])
        hashes = source_sha256, result.digests.to_json(), result.presented, result.dropped, result.converted
        known = {"recordedAt": video.get("recorded_at"), "recordedBy": video.get("recorded_by")}
        recorded = {key: str(value) for key, value in known.items() if value}
        return sidecar.sidecar(
            self._generator,
            TrackFacts(self.plan.title, duration_s, windows, samples_sha256, treatment),
            FileFacts(
                video["path"],
                name,
                self.task.video_id,
                *hashes,
                video.get("parts") or (),
                recorded,
                str(rate or ""),
            ),
        )

    @cached_property
    def _generator(self) -> GeneratorFacts:
        job, texts = self.job, self.job.texts(self.task.overrides)
        return GeneratorFacts(
            job.model_name,
            job.model_sha256,
            job.recipe,
            seed=self.task.seed(job),
            version=job.version,
            candidates=job.candidates,
            prompt=texts.get("prompt", ""),
            negative=texts.get("negative", ""),
            level=job.level,
        )


@dataclass
class Proof:
    """Hashes, facts and signature of one output file, collected while it is written."""

    source_sha256: str = ""
    output_sha256: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """Content of the sidecar and of the signed manifest."""
    manifest: bytes = b""
    """Signed C2PA manifest; empty if nothing is signed."""
    signer: str = ""
    signer_serial: str = ""
    """Serial number of the signer's certificate."""

    def record(self, output: str) -> dict[str, Any]:
        """The sidecar of the file that is written as OUT/`output`."""
        facts = self.facts | {"outputSha256": self.output_sha256}
        if self.manifest:
            where = "embedded" if signing.embeds(output) else output + signing.BESIDE
            facts |= {"manifest": where, "signer": self.signer, "signerSerial": self.signer_serial}
        return facts


@dataclass(frozen=True)
class Sealer:
    """Signs files with the key at `sign_key`, if there is one, and writes their records into OUT."""

    out: str
    version: str
    sign_key: str = ""
    sign_cert: str = ""

    def seal(self, path: Path, output: str, proof: Proof) -> None:
        """Sign the finished file `path`, which will be OUT/`output`, if there is a key, and hash it.

        Raises MuxFailed for a signature that cannot be made.
        """
        name = output.rpartition("/")[2]
        if self.sign_key:
            signer = signing.Signer(self.sign_key, self.sign_cert)
            definition = signing.manifest(proof.facts, name, proof.source_sha256, self.version)
            try:
                loaded = signing.load(signer)
                proof.signer, proof.signer_serial = loaded.name, loaded.serial
                proof.manifest = signing.sign_file(signer, definition, path, name)
            except signing.SigningError as error:
                raise remux.MuxFailed("SigningFailed", str(error), "sign") from error
            if not signing.embeds(output):  # before the film gets its name: no output is ever unsigned
                storage.write_atomic(storage.join(self.out, output + signing.BESIDE), proof.manifest)
        with path.open("rb") as file:
            proof.output_sha256 = hashing.sha256(file)

    def write_record(self, name: str, output: str, proof: Proof) -> None:
        """Write the sidecar and the signed manifest of a file into the state folder, as `name` (its video_id)."""
        state = State(self.out)
        if proof.manifest:
            state.write_manifest(name, proof.manifest)
        state.write_provenance(name, proof.record(output))
