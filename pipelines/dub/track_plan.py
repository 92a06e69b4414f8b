"""The sound policy of a job applied to one film: format, sources and gains of its generated tracks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pipelines import storage
from pipelines.archive.scan import SILENT_STATES
from pipelines.dub import segments
from pipelines.dub.job import DubJob, DubTask, part_shapes
from pipelines.dub.state import State
from pipelines.mux import audio_file, remux
from pipelines.mux.containers import container_of
from pipelines.sandbox.decoder import shared_sandbox
from pipelines.soundtrack import mixing, resampling, silence
from pipelines.soundtrack.mixing import AudioFormat, Gains, MixPolicy, Seconds, TrackSources
from pipelines.storage import hashing
from v2a_models import grid

TITLES = {
    "keep": remux.TITLE,
    "mix": "v2a (generated, mixed with the film's sound)",
    "replace-silent-parts": "v2a (generated where the film is silent)",
}


@dataclass(frozen=True)
class TrackPlan:
    """Format, policy and sources of the tracks of one film."""

    fmt: AudioFormat
    policy: MixPolicy
    """The job's policy, with `existing` as it applies to this film: "keep" for one without sound."""
    spans: tuple[Seconds, ...] | None
    """Stretches with generated sound, in seconds; None for the whole film."""
    uri: str
    """The source film."""
    video_start_s: float
    """Container time of its first picture."""
    duration_s: float
    generated_format: tuple[int, int, int]
    """Generated samples: rate, channels of a track, number of tracks."""

    @property
    def title(self) -> str:
        return TITLES[self.policy.existing]

    @property
    def holds_original(self) -> bool:
        """True if the film's own sound is part of the track, so that players should choose it."""
        return self.policy.existing != "keep"

    @property
    def is_plain(self) -> bool:
        """True if the sound is written as it was generated."""
        return (
            not self.holds_original
            and self.policy.loudness is None
            and self.spans is None
            and self.fmt.channels == self.generated_format[1]
        )

    @property
    def needs_loudness(self) -> bool:
        """True if the loudness of the written track is measured and reported."""
        return self.policy.loudness is not None or self.policy.existing == "mix"

    @property
    def generated_s(self) -> float:
        """Seconds of the film with generated sound."""
        if self.spans is None:
            return self.duration_s
        return sum(min(end, self.duration_s) - start for start, end in self.spans)

    def summary(self) -> str:
        """The policy in words, for the report; empty for a plain track."""
        policy, words = self.policy, list[str]()
        if self.holds_original:
            words.append(policy.existing)
        if policy.existing == "mix" and policy.mix_gain:
            words.append(f"generated {policy.mix_gain:+g} dB")
        if policy.loudness is not None:
            words.append(f"{policy.loudness:g} LUFS")
        return ", ".join(words)

    def facts(self) -> dict[str, Any]:
        """JSON values for the sidecar, from which redubbing makes the same track again."""
        facts: dict[str, Any] = {**asdict(self.policy), "made": asdict(self.fmt)}
        return facts | ({} if self.spans is None else {"heard_s": self.generated_s})

    def sources(self, generated: Any) -> TrackSources:
        """The generated sound and the film's own; `generated()` gives int16 [tracks * channels, n] blocks."""

        def original() -> Iterator[np.ndarray]:
            fmt = self.fmt
            with storage.reading_source():
                yield from shared_sandbox().iter_sound(
                    self.uri, fmt.n_samples, fmt.rate, fmt.channels, self.video_start_s
                )

        existing = original if self.holds_original else None
        return TrackSources(generated, *self.generated_format, existing, self.spans)


def plan_track(task: DubTask, job: DubJob, name: str) -> TrackPlan:
    """Plan the tracks of a film. name: path of its output.

    Raises DecodeFailed or SourceLost if its own sound is needed and cannot be read.
    """
    policy, video = job.policy(task.video), task.video
    duration_s = float(video["duration_s"])
    spans = State(job.out).read_request(task.video_id).get("spans")
    if video["audio_state"] in SILENT_STATES:
        policy = replace(policy, existing="keep")
    rate = container_of(name).sound_rate if policy.sidecar == "none" else None
    fmt = _format(rate or grid.SAMPLE_RATE, policy.channels or job.channels, duration_s)
    if policy.existing != "keep":
        with storage.reading_source():
            original = silence.format_of(shared_sandbox(), video["uri"], duration_s)
        channels = policy.channels or original.channels
        own = AudioFormat(original.rate, channels, original.n_samples)
        fmt = own if rate is None or rate == own.rate else _format(rate, channels, duration_s)
    return TrackPlan(
        fmt=fmt,
        policy=policy,
        spans=None if spans is None else tuple((float(a), float(b)) for a, b in spans),
        uri=video["uri"],
        video_start_s=float(video["video_start_s"]),
        duration_s=duration_s,
        generated_format=(job.rate, job.channels, job.keep_top),
    )


def _format(rate: int, channels: int, duration_s: float) -> AudioFormat:
    return AudioFormat(rate, channels, grid.samples(duration_s, rate))


def measure_gains(plan: TrackPlan, task: DubTask, job: DubJob) -> list[Gains]:
    """Gain of every track, found by measuring the parts of the film."""
    state = State(job.out)

    def generated() -> Iterator[np.ndarray]:
        shapes = enumerate(part_shapes(job, plan.duration_s))
        parts = (state.read_part(task.video_id, k, shape).sound for k, shape in shapes)
        return segments.join(parts, job.overlap)

    return mixing.track_gains(plan.sources(generated), plan.policy, plan.fmt)


def blocks(plan: TrackPlan, generated: Iterable[np.ndarray], gains: list[Gains]) -> Iterator[np.ndarray]:
    """The samples to encode, int16 [tracks * channels, n]. `generated` is read once."""
    if plan.is_plain:
        rate, channels, tracks = plan.generated_format
        return resampling.resampled(generated, channels * tracks, rate, plan.fmt.n_samples, plan.fmt.rate)
    return mixing.mixed_tracks(plan.sources(lambda: iter(generated)), plan.policy, plan.fmt, gains)


def broadcast(plan: TrackPlan, video: dict[str, Any], job: DubJob) -> dict[str, str]:
    """The chunk `bext` of the sound file of a sequence of pictures; empty for every other film.

    Its time reference is the time of the first picture by its number: scanners number pictures by their time code.
    """
    rate = storage.rate_of(plan.uri)
    if rate is None or not storage.is_sequence(plan.uri) or plan.policy.sidecar != "wav":
        return {}
    first = storage.first_number(str(video["path"]))
    reference = grid.samples(float(first / rate), plan.fmt.rate)
    words = f"Synthetic sound by v2a {job.version}, model {job.model_name}, for {video['path']}"
    return audio_file.broadcast(words, reference, plan.fmt.rate, plan.fmt.channels, job.version)


def source_sha256(uri: str) -> str:
    """SHA-256 of the file at `uri`, for an output that does not copy it. Raises SourceLost."""
    with storage.reading_source(), storage.reading(uri) as file:
        return hashing.sha256(file)
