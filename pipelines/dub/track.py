"""What the tracks of one film are made of, and how: the sound policy of a job applied to a film."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pipelines import storage
from pipelines.archive.scan import SILENT_STATES
from pipelines.dub import segments
from pipelines.dub.job import DubJob, DubTask
from pipelines.dub.state import State
from pipelines.mux import remux
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
    """How the tracks of one film are made."""

    made: AudioFormat
    existing: str
    """One of `treatment.EXISTING`: what is done in this film. A film without sound has nothing to mix or to keep."""
    spans: tuple[Seconds, ...] | None
    """Where generated sound is heard, in seconds; None for everywhere."""
    uri: str
    video_start_s: float
    job_format: tuple[int, int, int]
    """Of what is generated: rate, channels of a track, tracks."""
    words: str
    """For the report."""
    duration_s: float

    @property
    def title(self) -> str:
        return TITLES[self.existing]

    @property
    def heard_first(self) -> bool:
        """Whether the track holds the film's own sound too, so that players should choose it."""
        return self.existing != "keep"

    @property
    def heard_s(self) -> float:
        """Seconds in which generated sound is heard."""
        if self.spans is None:
            return self.duration_s
        return sum(min(end, self.duration_s) - start for start, end in self.spans)

    def facts(self, how: MixPolicy) -> dict[str, Any]:
        """For the sidecar: all that is needed to make such a track again."""
        facts: dict[str, Any] = {**asdict(how), "existing": self.existing, "made": asdict(self.made)}
        return facts | ({} if self.spans is None else {"heard_s": self.heard_s})

    def material(self, generated: Any, how: MixPolicy) -> TrackSources:
        """generated: gives int16 [tracks * channels, n] blocks, from the start."""
        rate, channels, tracks = self.job_format
        made = self.made

        def own() -> Iterator[np.ndarray]:
            return shared_sandbox().iter_sound(
                self.uri, made.n_samples, made.rate, made.channels, self.video_start_s
            )

        existing = own if self.existing != "keep" else None
        return TrackSources(generated, rate, channels, tracks, existing, self.spans)


def making(task: DubTask, job: DubJob, state: State) -> TrackPlan:
    """How the tracks of a film are made. Raises DecodeFailed if its own sound is to be used and cannot be read."""
    how, video = job.treatment, task.video
    duration_s = float(video["duration_s"])
    spans = state.read_asked(task.video_id).get("spans")
    existing = how.existing if video["audio_state"] not in SILENT_STATES else "keep"
    made = AudioFormat(grid.SAMPLE_RATE, how.channels or job.channels, grid.samples(duration_s))
    if existing != "keep":
        own = silence.format_of(shared_sandbox(), video["uri"], duration_s)
        made = AudioFormat(own.rate, how.channels or own.channels, own.n_samples)
    return TrackPlan(
        made=made,
        existing=existing,
        spans=None if spans is None else tuple((float(a), float(b)) for a, b in spans),
        uri=video["uri"],
        video_start_s=float(video["video_start_s"]),
        job_format=(job.rate, job.channels, job.keep_top),
        words=words(how, existing),
        duration_s=duration_s,
    )


def words(how: MixPolicy, existing: str) -> str:
    """What was done to the sound, for the report; empty for a plain track."""
    said = [existing] if existing != "keep" else []
    if existing == "mix" and how.mix_gain:
        said.append(f"generated {how.mix_gain:+g} dB")
    if how.loudness is not None:
        said.append(f"{how.loudness:g} LUFS")
    return ", ".join(said)


def plain(making: TrackPlan, how: MixPolicy) -> bool:
    """Whether the sound goes into the file as it was generated."""
    return (
        making.existing == "keep"
        and how.loudness is None
        and making.spans is None
        and making.made.channels == making.job_format[1]
    )


def measures(making: TrackPlan, how: MixPolicy) -> bool:
    """Whether loudness matters here, so that it is measured once more as it goes into the file."""
    return how.loudness is not None or making.existing == "mix"


def settled(making: TrackPlan, job: DubJob, state: State, task: DubTask) -> list[Gains]:
    """The gain of every track, from passes over the parts."""

    def generated() -> Iterator[np.ndarray]:
        parts = (state.read_part(task.video_id, k).sound for k in range(task.n_segments))
        return segments.join(parts, job.overlap)

    how = of_film(job.treatment, making)
    return mixing.settle(making.material(generated, how), how, making.made)


def blocks(
    making: TrackPlan, how: MixPolicy, generated: Iterable[np.ndarray], gains: list[Gains]
) -> Iterator[np.ndarray]:
    """int16 [tracks * channels, n]: what is encoded. `generated` is read once."""
    rate, channels, tracks = making.job_format
    if plain(making, how):
        made = making.made
        return resampling.resampled(generated, channels * tracks, rate, made.n_samples, made.rate)
    how = of_film(how, making)
    return mixing.treated(making.material(lambda: iter(generated), how), how, making.made, gains)


def of_film(how: MixPolicy, making: TrackPlan) -> MixPolicy:
    """The treatment as it is for this film."""
    return replace(how, existing=making.existing)


def source_sha256(uri: str) -> str:
    """Of a film that is not copied. Raises StorageError."""
    with storage.reading(uri) as file:
        return hashing.sha256(file)
