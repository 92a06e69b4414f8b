"""Generate one part of a dubbed film again, from another seed; every other sample stays as it was.

    samples of the old track ─────────────────────────────┐
    windows that reach into the part -> generated, mixed ─┴─> old outside, new inside, with ramps inside the ends
                                                               -> in the place of the old track

The old samples come from the film if its track is lossless, and from OUT/_v2a/sound otherwise; their SHA-256 must be
the sidecar's. The gains of the first dubbing are kept: a part that is louder or softer than before must not change the
level of the rest. A kill leaves the old film or the new one (`pipelines.redub.dubbed`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import storage
from pipelines.dub import decode, plan, segments, track_plan
from pipelines.dub.generate.dubber import Dubber
from pipelines.dub.job import DubJob, DubTask
from pipelines.dub.output import Proof, Sealer
from pipelines.dub.segment_facts import Part
from pipelines.dub.state import State
from pipelines.mux import audio_file, output_files
from pipelines.mux.packet_hashes import Digests
from pipelines.mux.track import MuxResult, Track
from pipelines.provenance import inspection
from pipelines.provenance.sidecar import facts_of, tags_of
from pipelines.redub import dubbed
from pipelines.redub.dubbed import Dubbed, RedubError
from pipelines.sandbox.decoder import shared_sandbox
from pipelines.soundtrack import flags, mixing
from pipelines.soundtrack.levels import LevelMeter
from pipelines.soundtrack.mixing import AudioFormat, Envelope, Seconds
from v2a_models import pcm

WINDOWS = 8
"""Windows per segment when redubbing with crossfades."""


def redub(film: Dubbed, video: dict[str, Any], job: DubJob, span: Seconds) -> dict[str, Any]:
    """Generate the part `span` (seconds) again; the film's new report row.

    video: scan row of the original; job: as the film was dubbed, but for seed and texts of the part.
    Raises RedubError, DecodeFailed (MuxFailed among them) for what a file causes, StorageError.
    """
    state, job = State(job.out), replace(job, keep_top=1)
    if job.layout is None:
        # Crossfaded windows do not depend on each other, so short segments are enough.
        job = replace(job, windows_per_segment=WINDOWS)
    streams = _inspect(film, job)
    video = video | {"video_id": film.video_id}
    tasks = plan.plan_file(job, video, film.output, film.output, overrides={}, spans=[span])
    edit = RedubbedPart(film, job, span, [replace(t, overrides={"seed": job.seed}, part=span) for t in tasks])
    state.drop_parts(edit.parts_id)
    try:
        _generate(edit)
        _write(edit, streams)
    finally:
        state.drop_parts(edit.parts_id)
    return dubbed.commit(state, film.video_id)


@dataclass
class RedubbedPart:
    """A part to be redubbed, and what is known of it once it is generated."""

    film: Dubbed
    job: DubJob
    span: Seconds
    tasks: list[DubTask]
    """Segments of the whole film; those outside of the part are `needless`."""
    still: list[Seconds] = field(default_factory=list)
    """Stretches without motion, in seconds."""

    @property
    def parts_id(self) -> str:
        """Name of the folder of generated segments."""
        return f"{self.film.video_id}.redub"

    def sounds(self) -> Iterator[np.ndarray]:
        """int16 [channels, n] of every segment: silence outside of the part. Collects `still`."""
        for task in self.tasks:
            if task.needless:
                yield np.zeros((self.job.channels, task.segment.stop - task.segment.start), np.int16)
            else:
                part = State(self.job.out).read_part(self.parts_id, task.segment.index)
                self.still += part.facts.still
                yield part.sound

    def sidecar(
        self, digests: Digests, samples_sha256: str, presented: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Sidecar of the new film: that of the old one, with the redubbed part as an edit."""
        facts, span = facts_of(self.film.sidecar), self.span
        segments_made = [task.segment for task in self.tasks if not task.needless]
        first = segments_made[0].first_window
        stop = segments_made[-1].first_window + segments_made[-1].n_windows
        edit: dict[str, Any] = {"start_s": span[0], "end_s": span[1], "seed": self.job.seed}
        edit |= self.job.texts({})
        # Two keys: C2PA's library takes a list of small numbers for bytes.
        edit["windows"] = {"first": first, "number": stop - first}
        return facts | {
            "packets": digests.to_json(),
            "presented": presented or {},
            "track": facts["track"] | {"samplesSha256": samples_sha256},
            "edits": [*facts.get("edits", []), edit],
            "software": {"name": "v2a", "version": self.job.version},
        }


def _inspect(film: Dubbed, job: DubJob) -> inspection.Inspection:
    """The streams of the dubbed file. Raises RedubError if it has changed since it was dubbed."""
    streams = inspection.inspect(storage.join(job.out, film.output))
    if streams.sha256 != film.sidecar.get("outputSha256"):
        raise RedubError(
            f"{film.output} has changed since it was dubbed; run v2a verify to see what changed, or dub it again with "
            "v2a dub --restart"
        )
    return streams


def _generate(edit: RedubbedPart) -> None:
    """Generate the segments that reach into the part, into the state folder. Raises RedubError."""
    job = edit.job
    state, dubber = State(job.out), Dubber(job)
    for task in edit.tasks:
        if task.needless:
            continue
        [item] = dubber.generate([decode.decode_task(task, job, shared_sandbox())])
        if item.failure is not None:
            raise RedubError(f"{item.failure.stage}: {item.failure.error_class}: {item.failure.message}")
        state.write_part(edit.parts_id, task.segment.index, Part(item.arrays["sound"], facts=item.facts))


def _write(edit: RedubbedPart, streams: inspection.Inspection) -> None:
    """Write the new film, or sound file, in the place of the old one, and stage what belongs to it."""
    film, job, span = edit.film, edit.job, edit.span
    state, destination = State(job.out), storage.join(job.out, film.output)
    is_film = job.treatment.sidecar == "none"
    start_s = shared_sandbox().probe(destination).video_start_s if is_film else 0.0
    planned = track_plan.plan_track(edit.tasks[0], job, film.output)
    fmt, policy = planned.fmt, planned.policy
    samples, meter, proof, old_digests = audio_file.Samples(), LevelMeter(), Proof(), film.digests
    whole_film = [(0.0, planned.duration_s)]
    fresh = mixing.intersection([span], whole_film if planned.spans is None else planned.spans)
    meter.flags = flags.FlagDetector(fmt.rate, fresh, lambda: edit.still)

    def seal(path: Path, number: int, result: MuxResult) -> None:
        proof.source_sha256 = film.sidecar["sourceSha256"]
        proof.facts = edit.sidecar(_digests(old_digests, result.digests), samples.sha256, result.presented)
        Sealer(job.out, job.version, job.sign_key, job.sign_cert).seal(path, film.output, proof)
        dubbed.stage(state, _row(edit, path, proof, meter), proof.record(film.output), proof.manifest)

    target = output_files.Target(
        out=job.out,
        name=film.output,
        source=destination,
        track=Track(
            n_samples=fmt.n_samples,
            video_start_s=start_s,
            channels=fmt.channels,
            sample_rate=fmt.rate,
            title=planned.title,
            tags=tags_of(edit.sidecar(Digests(), "")),
            old_comment=tags_of(film.sidecar)["comment"],
            codec=policy.audio_codec,
            replaces=streams.sound.index(old_digests.generated) if is_film else None,
            broadcast=track_plan.broadcast(planned, edit.tasks[0].video, job),
        ),
        sidecar=policy.sidecar,
        samples_uri="" if film.is_lossless else dubbed.staged_uri(state, film.video_id, "flac"),
    )
    with ExitStack() as stack:
        # The old samples and the film's own sound come from one sandbox: the new track is made first, and kept.
        pending = stack.enter_context(storage.Pending(state.uri("parts", edit.parts_id, "new.flac")))
        with audio_file.AudioFileWriter(Path(pending.path), "flac", fmt.rate, fmt.channels) as writer:
            parts = segments.join(edit.sounds(), job.overlap)
            for block in track_plan.blocks(planned, parts, film.gains[:1]):
                writer.feed(block)
            writer.close()
        sound = patched(
            _old_samples(film, job, streams, start_s), audio_file.read(Path(pending.path)), span, fmt
        )
        output_files.write(target, meter.watch(samples.watch(sound, fmt.channels), fmt.channels), seal)


def _old_samples(
    film: Dubbed, job: DubJob, streams: inspection.Inspection, start_s: float
) -> Iterator[np.ndarray]:
    """The samples of the old track, int16 [channels, n]. Raises RedubError if they are not those that were dubbed."""
    fmt, uri, index = film.fmt, storage.join(job.out, film.output), 0
    if film.is_lossless:
        index = streams.sound.index(film.digests.generated)
    else:
        uri, start_s = State(job.out).sound_uri(film.video_id), 0.0
        if not storage.exists(uri):
            raise RedubError(
                f"the track of {film.output} is lossy and its samples were not kept (--no-keep-sound): "
                "dub the film again with v2a dub --restart"
            )
    samples = audio_file.Samples()
    sound = shared_sandbox().iter_sound(uri, fmt.n_samples, fmt.rate, fmt.channels, start_s, index)
    yield from samples.watch((pcm.quantise_exact(block) for block in sound), fmt.channels)
    if samples.sha256 != film.sidecar["track"]["samplesSha256"]:
        raise RedubError(f"the samples in {uri} have changed since the film was dubbed: dub it again")


def patched(
    old: Iterable[np.ndarray], new: Iterable[np.ndarray], span: Seconds, fmt: AudioFormat
) -> Iterator[np.ndarray]:
    """Old samples outside of `span`, new ones inside, with ramps inside its ends: int16 [channels, n] blocks."""
    envelope, position = Envelope([span], fmt), 0
    for before, after in zip(mixing.cut(old), mixing.cut(new), strict=True):
        weight = envelope.at(position, before.shape[1])
        change = (after.astype(np.float32) - before) * weight
        position += before.shape[1]
        yield (before + np.rint(change).astype(np.int32)).astype(np.int16)


def _digests(old: Digests, written: Digests) -> Digests:
    """Digests of the new film by role: copied tracks are the source's own or alternatives."""
    rest = Counter(written.kept) - Counter(old.alternatives)
    kept = tuple(digest for digest in old.kept if digest in rest)
    return Digests(written.video, kept, written.generated, old.alternatives)


def _row(edit: RedubbedPart, path: Path, proof: Proof, meter: LevelMeter) -> dict[str, Any]:
    """The new report row of a film whose new file is at `path`."""
    row, span = edit.film.row, edit.span
    words = f"{span[0]:g} to {span[1]:g} s regenerated (seed {edit.job.seed})"
    assert meter.flags is not None
    return row | {
        "treatment": ", ".join(text for text in (row.get("treatment"), words) if text),
        "output_size": path.stat().st_size,
        "output_sha256": proof.output_sha256,
        "signer": proof.signer,
        "sound_peak_dbfs": meter.peak_dbfs,
        "sound_rms_dbfs": meter.rms_dbfs,
        **flags.with_new_part(row, span, meter.flags),
        # How windows meet inside of the part was not measured.
        "seams": [seam for seam in row.get("seams") or [] if not span[0] <= seam["at_s"] <= span[1]],
    }
