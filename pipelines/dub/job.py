"""A dub job, which every stage gets, and its unit of work: a segment of a film. Plain values."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pipelines import storage
from pipelines.dub import segments
from pipelines.soundtrack.mixing import MixPolicy, Seconds
from v2a_models import grid
from v2a_models.longform import Layout
from v2a_models.recipe import View, fastest

CUTTING_KEYS = ("window", "overlap", "segment_s", "joins", "scenes", "static")
"""Keys of a job's identity that decide how films are cut; a job has those that apply."""

LONG_FILM_S = 3600.0
"""Films of this length wait for all shorter ones."""

TEXTS = ("prompt", "negative")
"""Keys of a job's identity that it has only if they are given, so that older outputs stay valid."""


@dataclass(frozen=True)
class DubJob:
    """Settings of all stages; plain values that travel to every worker."""

    out: str
    model: str
    """Name or path that the worker loads."""
    model_name: str
    model_sha256: str
    recipe: str
    """The recipe's hash."""
    seed: int
    rate: int
    """Samples per second that the model makes; all counts of samples here are at this rate."""
    channels: int
    window: int
    """Samples of a window."""
    overlap: int
    """Samples that neighbouring windows share."""
    views: dict[str, View]
    """The pictures that the model looks at, by name."""
    batch_size: int
    """Windows per call of the model. A last batch is filled with repeats, so that all are equal in size."""
    windows_per_segment: int
    version: str
    run_id: str
    """Identifies this run of the command, so that a retried task recognises its own work."""
    precision: str = "float32"
    """Arithmetic of the model's transformers."""
    level: str = ""
    """Level at which the model's sound leaves its codec; empty for the codec's own."""
    candidates: int = 1
    """Candidates per window; the best match to the picture is kept."""
    scav_sha256: str = ""
    """SHA-256 of the SCAV that ranks candidates; empty for one candidate."""
    prompt: str = ""
    """Sound to generate, for a model that follows text; empty for what the picture suggests."""
    negative: str = ""
    """Sound to avoid, for a model that follows text."""
    captions: bool = False
    """True if the model captions each segment."""
    subtitles: bool = False
    """True if it captions each window, and films get the captions as subtitles."""
    streams: bool = False
    """True if the model continues from its own past sound. A segment is then one window, without overlap."""
    frame: int = 1
    """Samples per picture; a streaming model makes the sound of whole pictures."""
    context: int = 0
    """Samples before a segment that a streaming model continues from: a whole number of pictures."""
    sign_key: str = ""
    """Path of the private key that signs outputs, never the key itself; empty to sign nothing."""
    sign_cert: str = ""
    treatment: MixPolicy = MixPolicy()
    """Policy for mixing, loudness and encoding of the sound."""
    keep_top: int = 1
    """Tracks per film: the best candidate of every window, the second best, and so on."""
    layout: Layout | None = None
    """Layout of two-wave in-painting (`v2a_models.longform`), with an `overlap` of 0, since segments do not overlap.
    None for a model that crossfades windows or streams."""
    scenes: bool = True
    """True if windows end at hard cuts; with a `layout` only."""
    static: str = "ambience"
    """Sound of still stretches: one `ambience`, `silence`, or windows like any other (`generate`); with a `layout`
    only."""
    motion_level: float = 4.0
    """Windows whose motion (`media.shots.peak_motion`) is below this are still."""
    proxy: str = "none"
    """Film to listen with of each sequence of pictures: `none`, `mp4` or `ffv1`."""
    max_hours: float = 24.0
    """Hours of the longest film that is dubbed; 0 for any length. Has no effect on the sound."""
    keep_sound: bool = True
    """True if the samples of lossy tracks are kept for `v2a redub`."""
    keep_left_out: bool = False
    """True if streams that a copy cannot hold go into a file beside it. Has no effect on the sound."""
    strict: bool = False
    """True if a film fails whose copy would leave out a stream or a fact. Has no effect on the sound."""

    @property
    def fastest(self) -> str:
        """The view with the most pictures per second."""
        return fastest(self.views)

    def policy(self, video: dict[str, Any]) -> MixPolicy:
        """The policy for a film (its scan row): of a sequence of pictures only the sound is written, as no film holds
        it."""
        if self.treatment.sidecar == "none" and storage.is_sequence(str(video.get("uri", ""))):
            return replace(self.treatment, sidecar="wav", audio_codec="auto")
        return self.treatment

    @property
    def made_channels(self) -> int:
        """Channels of all generated tracks together."""
        return self.channels * self.keep_top

    def identity(self) -> dict[str, Any]:
        """Settings that decide the sound. Two runs may share an output only if these are equal.

        Options that older releases lack appear only if they are used, so that older outputs stay valid. The length of
        segments matters to a streaming model, whose segments have seeds of their own, and to in-painting, which
        places windows between the borders of a segment.
        """
        cutting: dict[str, Any] = {"window": self.window, "overlap": self.overlap}
        if self.streams:
            cutting = {"segment_s": grid.seconds(self.window, self.rate)}
        if self.layout is not None:
            cutting = {
                "window": self.window,
                "joins": "two-wave, windows and steps as needed",
                "segment_s": self.windows_per_segment * self.layout.hop / self.layout.fps,
                "scenes": "on" if self.scenes else "off",
                "static": self.static
                if self.static == "generate"
                else f"{self.static} below {self.motion_level:g}",
            }
        facts: dict[str, Any] = {
            "model": self.model_name,
            "model_sha256": self.model_sha256,
            "recipe": self.recipe,
            "seed": self.seed,
            **cutting,
            "batch_size": self.batch_size,
            "precision": self.precision,
        }
        if self.candidates > 1:
            facts["selection"] = f"best of {self.candidates} by SCAV {self.scav_sha256[:16]}"
        if self.level:
            facts["level"] = self.level
        if self.subtitles:
            facts["captions"] = "subtitles"
        if self.sign_key:
            # An output is signed as a whole or not at all; the certificate may change.
            facts["signed"] = "yes"
        if self.keep_top > 1:
            facts["keep_top"] = self.keep_top
        if self.proxy != "none":
            facts["proxy"] = self.proxy
        facts |= self.treatment.identity()
        return facts | {name: text for name in TEXTS if (text := getattr(self, name))}

    def options(self, overrides: dict[str, Any]) -> dict[str, Any]:
        """Keyword arguments of the generator for a film; only those that it needs to understand."""
        options: dict[str, Any] = {"candidates": self.candidates} if self.candidates > 1 else {}
        options |= {"keep": self.keep_top} if self.keep_top > 1 else {}
        return options | {
            {"prompt": "prompts"}.get(name, name): text for name, text in self.texts(overrides).items()
        }

    def texts(self, overrides: dict[str, Any]) -> dict[str, str]:
        """Prompt and negative of a film, by name, without empty ones; those in `overrides` replace the job's."""
        return {name: text for name in TEXTS if (text := overrides.get(name, getattr(self, name)))}


@dataclass(frozen=True)
class DubTask:
    """One segment of one file."""

    video: dict[str, Any]
    """Scan row of the file."""
    output: str
    """Path of the output, relative to OUT."""
    fallback: str
    """Path of the Matroska file to write if the container of `output` cannot hold the film."""
    segment: segments.Segment
    n_segments: int
    n_windows: int
    """Windows of the whole file."""
    seconds: float
    """Seconds of footage; the tasks of a file add up to its duration."""
    have_part: bool = False
    """True if an earlier run generated the part, so that only the film is left to finish."""
    needless: bool = False
    """True if none of its sound is used: it is neither decoded nor generated."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Prompt, negative and seed of this film, where they differ from the job's."""
    part: Seconds | None = None
    """Stretch of the film, in seconds, whose sound is used; None for all of it."""

    @property
    def video_id(self) -> str:
        return str(self.video["video_id"])

    def seed(self, job: DubJob) -> int:
        """Seed from which the seeds of its windows follow."""
        return int(self.overrides.get("seed", job.seed))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> DubTask:
        values = json.loads(text)
        return cls(**{**values, "segment": segments.Segment(**values["segment"])})


def turn(video: dict[str, Any]) -> int:
    """Turn of a film (its scan row): 0 for films shorter than LONG_FILM_S, and so on.

    One long film would otherwise keep all behind it waiting, for days if its time stamps lie.
    """
    return int(video["duration_s"] // LONG_FILM_S)


def file_segments(job: DubJob, duration_s: float) -> list[segments.Segment]:
    """The segments of a film."""
    n_samples = grid.samples(duration_s, job.rate)
    if job.layout is not None:
        return list(segments.two_wave_segments(n_samples, job.layout))
    return list(segments.segments(n_samples, job.window, job.overlap, job.windows_per_segment))


def part_shapes(job: DubJob, duration_s: float) -> list[tuple[int, int]]:
    """Channels and samples of the sound of every segment of a film."""
    return [(job.made_channels, segment.stop - segment.start) for segment in file_segments(job, duration_s)]


def stretch(job: DubJob, segment: segments.Segment) -> tuple[int, int]:
    """First sample of the footage that a segment's sound depends on, and one past its last (maybe past the film's
    end)."""
    if job.layout is not None:
        return segments.footage(segment, job.layout)
    if not job.streams:
        hop = job.window - job.overlap
        return segment.start, segment.start + (segment.n_windows - 1) * hop + job.window
    return max(0, segment.start - job.context), segment.start + call_length(job, segment)


def call_length(job: DubJob, segment: segments.Segment) -> int:
    """Samples that a streaming model makes in its one call for a segment: those of all its pictures.

    Films generated together need calls of equal length, so a last segment is rounded up to a whole segment, a half, a
    quarter and so on.
    """
    needed = -(-(segment.stop - segment.start) // job.frame)
    if job.batch_size == 1:
        return needed * job.frame
    frames = job.window // job.frame
    while frames > 1 and -(-frames // 2) >= needed:
        frames = -(-frames // 2)
    return frames * job.frame


def first_missing(done: Collection[int]) -> int:
    """The first segment that is not in `done`, where a streaming model continues."""
    return next(index for index in itertools.count() if index not in done)


def within(job: DubJob, segment: segments.Segment, span: Seconds) -> bool:
    """True if a segment overlaps a stretch of the film, in seconds."""
    # A hair more on both sides: positions are rounded to samples of one rate here, and to those of another later.
    return span[0] * job.rate < segment.stop + 2 and span[1] * job.rate > segment.start - 2
