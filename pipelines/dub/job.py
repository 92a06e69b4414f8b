"""A dub job: all that its stages need to know, and a segment of a film, the unit of their work. Plain values."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.dub import segments
from pipelines.soundtrack.mixing import MixPolicy, Seconds
from v2a_models import grid
from v2a_models.longform import Layout
from v2a_models.recipe import View

CUTS = ("window", "overlap", "segment_s", "joins", "scenes", "static")
"""What may decide how films are cut; a job names those that do."""

TEXTS = ("prompt", "negative")
"""Named in what decides the sound only where they are given, so that what was made without them stays valid."""


@dataclass(frozen=True)
class DubJob:
    """All that the stages need to know. Plain values, so that it travels to every worker."""

    out: str
    model: str
    """Name or path that the worker loads."""
    model_name: str
    model_sha256: str
    recipe: str
    """The recipe's hash."""
    seed: int
    rate: int
    """Samples per second that the model makes; all that is counted in samples here is counted at this rate."""
    channels: int
    window: int
    """Samples of a window."""
    overlap: int
    """Samples that neighbouring windows share."""
    views: dict[str, View]
    """The pictures that the model looks at, by name."""
    batch_size: int
    """Windows generated at a time. Always exactly so many: a last batch is filled up with repeats."""
    windows_per_segment: int
    version: str
    run_id: str
    """Names this run of the command, so that a retried task knows what it did itself."""
    precision: str = "float32"
    """Arithmetic of the model's transformers."""
    candidates: int = 1
    """Sounds drawn for each window, of which the one that fits best is kept."""
    scav_sha256: str = ""
    """Of what judges the candidates."""
    prompt: str = ""
    """What is to be heard, for a model that follows text; empty: what the picture suggests."""
    negative: str = ""
    """What is not to be heard."""
    captions: bool = False
    """Whether the model says what it takes each segment to sound like."""
    subtitles: bool = False
    """Whether it says so of each window, and films get that as subtitles."""
    streams: bool = False
    """Whether the model goes on from its own past. A segment is one window then, and no two overlap."""
    frame: int = 1
    """Samples that a picture lasts; a model that streams makes the sound of whole pictures."""
    context: int = 0
    """Samples before a segment that such a model goes on from, a whole number of pictures."""
    sign_key: str = ""
    """Path of the private key that signs what is made; nothing is signed if empty. Never the key itself."""
    sign_cert: str = ""
    treatment: MixPolicy = MixPolicy()
    """How the sound goes into a film."""
    keep_top: int = 1
    """Tracks that a film gets: the best candidate of every window, the second best, and so on."""
    layout: Layout | None = None
    """How windows are painted towards each other (`v2a_models.longform`), of a model that does; `overlap` is 0 then,
    since segments do not overlap. None: windows are crossfaded, or there are none."""
    scenes: bool = True
    """Whether windows end at hard cuts; with a `layout` only."""
    static: str = "ambience"
    """What is heard where nothing moves: one `ambience`, `silence`, or what the model makes of it (`generate`). With a
    `layout` only."""
    motion_level: float = 4.0
    """Below which nothing moves (`looking.movement`)."""
    keep_sound: bool = True
    """Whether the samples of tracks that are coded with loss are kept for `v2a redub`."""

    @property
    def fastest(self) -> str:
        """The view with the most pictures per second."""
        return max(self.views, key=lambda name: self.views[name].fps)

    @property
    def made_channels(self) -> int:
        """Channels of all tracks that are generated."""
        return self.channels * self.keep_top

    def identity(self) -> dict[str, Any]:
        """What decides the sound. Two runs may share an output only if these are equal.

        `selection`, `captions` and `signed` are named only where there is one, so that what was made before there
        was any stays valid. The length of segments matters to a model that streams, since each has a seed of its own,
        and to one that paints, since windows lie between a segment's borders.
        """
        cut: dict[str, Any] = {"window": self.window, "overlap": self.overlap}
        if self.streams:
            cut = {"segment_s": grid.seconds(self.window, self.rate)}
        if self.layout is not None:
            cut = {
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
            **cut,
            "batch_size": self.batch_size,
            "precision": self.precision,
        }
        if self.candidates > 1:
            facts["selection"] = f"best of {self.candidates} by SCAV {self.scav_sha256[:16]}"
        if self.subtitles:
            facts["captions"] = "subtitles"
        if self.sign_key:
            # As a whole or not at all, by whichever certificate is valid at the time.
            facts["signed"] = "yes"
        if self.keep_top > 1:
            facts["keep_top"] = self.keep_top
        facts |= self.treatment.identity()
        return facts | {name: text for name in TEXTS if (text := getattr(self, name))}

    def options(self, asked: dict[str, Any]) -> dict[str, Any]:
        """How the generator is called for a film. Not every one can choose among candidates or follow text; one that
        cannot is never asked to."""
        found: dict[str, Any] = {"candidates": self.candidates} if self.candidates > 1 else {}
        found |= {"keep": self.keep_top} if self.keep_top > 1 else {}
        return found | {
            {"prompt": "prompts"}.get(name, name): text for name, text in self.texts(asked).items()
        }

    def texts(self, asked: dict[str, Any]) -> dict[str, str]:
        """Prompt and negative of a film of which something else may be `asked`; only those that there are."""
        return {name: text for name in TEXTS if (text := asked.get(name, getattr(self, name)))}


@dataclass(frozen=True)
class DubTask:
    """One segment of one file."""

    video: dict[str, Any]
    """Its scan row."""
    output: str
    """Where the dubbed file goes, relative to OUT."""
    fallback: str
    """Where it goes instead if its container turns out not to hold it: a Matroska name."""
    segment: segments.Segment
    n_segments: int
    n_windows: int
    """Of the whole file."""
    seconds: float
    """Footage it accounts for; the tasks of a file add up to its duration."""
    have_part: bool = False
    """Generated by an earlier run already: only what comes after is left to do."""
    needless: bool = False
    """Nothing of it is to be heard: neither looked at nor generated."""
    asked: dict[str, Any] = field(default_factory=dict)
    """What is asked for this film and not for all: prompt, negative, seed."""
    part: Seconds | None = None
    """The stretch of the film, in seconds, outside of which its sound will not be used; None: it will be everywhere."""

    @property
    def video_id(self) -> str:
        return str(self.video["video_id"])

    def seed(self, job: DubJob) -> int:
        """From which the seeds of its windows follow."""
        return int(self.asked.get("seed", job.seed))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> DubTask:
        values = json.loads(text)
        return cls(**{**values, "segment": segments.Segment(**values["segment"])})


def file_segments(job: DubJob, duration_s: float) -> list[segments.Segment]:
    """The segments of a film."""
    n_samples = grid.samples(duration_s, job.rate)
    if job.layout is not None:
        return list(segments.painted(n_samples, job.layout))
    return list(segments.segments(n_samples, job.window, job.overlap, job.windows_per_segment))


def stretch(job: DubJob, segment: segments.Segment) -> tuple[int, int]:
    """First sample of the footage that the sound of a segment is made of, and one past its last (which may lie
    behind the film's end)."""
    if job.layout is not None:
        return segments.seen(segment, job.layout)
    if not job.streams:
        hop = job.window - job.overlap
        return segment.start, segment.start + (segment.n_windows - 1) * hop + job.window
    return max(0, segment.start - job.context), segment.start + call_length(job, segment)


def call_length(job: DubJob, segment: segments.Segment) -> int:
    """Samples that a model which streams makes in its one call for a segment: those of all its pictures.

    Films that are made together need calls of equal length: their last segments are made as long as a whole one, a
    half, a quarter and so on.
    """
    needed = -(-(segment.stop - segment.start) // job.frame)
    if job.batch_size == 1:
        return needed * job.frame
    frames = job.window // job.frame
    while frames > 1 and -(-frames // 2) >= needed:
        frames = -(-frames // 2)
    return frames * job.frame


def first_missing(done: Collection[int]) -> int:
    """The first segment that is not in `done`: where a model that streams goes on."""
    return next(index for index in itertools.count() if index not in done)


def within(job: DubJob, cut: segments.Segment, span: Seconds) -> bool:
    """Whether something of a stretch of the film, in seconds, belongs to a segment."""
    # A hair more on both sides: positions are rounded to samples of one rate here, and to those of another later.
    return span[0] * job.rate < cut.stop + 2 and span[1] * job.rate > cut.start - 2
