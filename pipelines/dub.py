"""Batch inference over an archive: which files get sound, in which segments, through which stages.

    plan_file (driver) -> decode (tasks) -> Dubber (actors) -> close (tasks) -> driver
    plan_file (driver) -> Streamer (actors) -------------------> close (tasks) -> driver

One streaming Ray Data pipeline with no barrier. The unit of work is a segment (`pipelines.segments`), so
memory does not grow with the length of a film. What each stage does is in `pipelines.stages` and
`pipelines.dubber`; the lower line is for models that go on from their own past (`pipelines.streaming`).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines import segments
from pipelines.parts import Failure
from pipelines.treatment import Span, Treatment
from v2a_models import grid
from v2a_models.longform import Layout
from v2a_models.recipe import View

if TYPE_CHECKING:
    import ray.data

ONLY = ("silent", "all")
"""Which videos get sound: those whose sound is none, empty or silent, or all of them."""

SILENT_STATES = ("none", "empty", "silent")

DUBBER_MEMORY = 3 << 29
"""Bytes that a generator and what it works on may need."""

THUMBS = 12
"""Frames of the film strip in the report."""

THUMB_HEIGHT = 96

CARD_S = 120.0
"""The report's picture shows at most so much of a film: more would be too fine to see."""


CUTS = ("window", "overlap", "segment_s", "joins", "scenes", "static")
"""What may decide how films are cut; a job names those that do."""

TEXTS = ("prompt", "negative")
"""Named in what decides the sound only where they are given, so that what was made without them stays valid."""


@dataclass(frozen=True)
class Job:
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
    treatment: Treatment = Treatment()
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
        and to one that paints, since windows are spread evenly between a segment's borders.
        """
        cut: dict[str, Any] = {"window": self.window, "overlap": self.overlap}
        if self.streams:
            cut = {"segment_s": grid.seconds(self.window, self.rate)}
        if self.layout is not None:
            cut = {
                "window": self.window,
                "joins": "two-wave",
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
class Task:
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
    part: Span | None = None
    """The stretch of the film, in seconds, outside of which its sound will not be used; None: it will be everywhere."""

    @property
    def video_id(self) -> str:
        return str(self.video["video_id"])

    def seed(self, job: Job) -> int:
        """From which the seeds of its windows follow."""
        return int(self.asked.get("seed", job.seed))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        values = json.loads(text)
        return cls(**{**values, "segment": segments.Segment(**values["segment"])})


def decide(row: dict[str, Any], only: str) -> tuple[str, str]:
    """What becomes of a scanned file: (dub | skipped | failed, reason)."""
    if row["status"] == "not_video":
        return "skipped", "not a video"
    if row["status"] == "audio_only":
        return "skipped", "sound without a picture"
    if row["status"] != "ok":
        return "failed", "cannot be read"
    if only == "silent" and row["audio_state"] not in SILENT_STATES:
        return "skipped", f"has sound (peak {row['peak_dbfs']:.1f} dBFS)"
    return "dub", f"sound track: {row['audio_state']}"


def report_row(video: dict[str, Any], status: str, reason: str = "", **known: Any) -> dict[str, Any]:
    """A row of the report from a row of the scan."""
    row: dict[str, Any] = {"status": status, "reason": reason, "output": "", "card": "", "model": ""}
    row |= {"stage": "", "error_class": "", "message": "", "n_windows": 0, "seed": None}
    row |= {"sound_peak_dbfs": None, "sound_rms_dbfs": None, "core_seconds": 0.0, "x_realtime": None}
    row |= {"prompt": "", "negative": "", "caption": "", "captions": [], "subtitles": ""}
    row |= {"treatment": "", "sound_lufs": None, "sound_true_peak_dbtp": None, "heard_s": None, "tracks": 0}
    row |= {
        "gpu_seconds": 0.0,
        "scenes": 0,
        "static_s": 0.0,
        "static": "",
        "seams": [],
        "flags": [],
        "n_flags": 0,
    }
    row |= {"contact_sheet": ""}
    copied = ("video_id", "path", "duration_s", "fps", "width", "height", "video_codec", "container")
    row |= {name: video.get(name) for name in (*copied, "audio_state", "peak_dbfs")}
    row |= {
        "source_sha256": video.get("sha256") or "",
        "source_sha256_after": "",
        "output_sha256": "",
        "signer": "",
    }
    return row | known


def failed_row(video: dict[str, Any], failure: Failure) -> dict[str, Any]:
    """The report row of a file that got no sound because of `failure`."""
    return report_row(video, "failed", failure.message, **asdict(failure))


def file_segments(job: Job, duration_s: float) -> list[segments.Segment]:
    """The segments of a film."""
    n_samples = grid.samples(duration_s, job.rate)
    if job.layout is not None:
        return list(segments.painted(n_samples, job.layout))
    return list(segments.segments(n_samples, job.window, job.overlap, job.windows_per_segment))


def stretch(job: Job, segment: segments.Segment) -> tuple[int, int]:
    """First sample of the footage that the sound of a segment is made of, and one past its last (which may lie
    behind the film's end)."""
    if job.layout is not None:
        return segments.seen(segment, job.layout)
    if not job.streams:
        hop = job.window - job.overlap
        return segment.start, segment.start + (segment.n_windows - 1) * hop + job.window
    return max(0, segment.start - job.context), segment.start + call_length(job, segment)


def call_length(job: Job, segment: segments.Segment) -> int:
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


def plan_file(
    job: Job,
    video: dict[str, Any],
    output: str,
    fallback: str,
    done: frozenset[int] = frozenset(),
    asked: dict[str, Any] | None = None,
    spans: Sequence[Span] | None = None,
) -> list[Task]:
    """The tasks of one file; `done` are the segments whose part is there already, `spans` the stretches (seconds) in
    which generated sound is heard, where not everywhere.

    Raises ValueError if the film is too short for a single sample.
    """
    cuts = file_segments(job, video["duration_s"])
    if not cuts:
        raise ValueError(f"a film of {video['duration_s']} s has no room for sound")
    if job.streams:
        done = frozenset(range(first_missing(done)))
    n_windows = sum(cut.n_windows for cut in cuts)

    def task(cut: segments.Segment) -> Task:
        fresh = cut.stop - cut.start - (0 if cut.is_first else job.overlap)
        seconds = grid.seconds(fresh, job.rate)
        return Task(
            video, output, fallback, cut, len(cuts), n_windows, seconds, cut.index in done,
            needless=not (job.streams or spans is None or any(within(job, cut, span) for span in spans)),
            asked=asked or {},
        )  # fmt: skip

    todo = [task(cut) for cut in cuts if cut.index not in done]
    # All parts there and no row: the earlier run ended between its last part and the mux.
    return todo or [task(cuts[-1])]


def within(job: Job, cut: segments.Segment, span: Span) -> bool:
    """Whether something of a stretch of the film, in seconds, belongs to a segment."""
    # A hair more on both sides: positions are rounded to samples of one rate here, and to those of another later.
    return span[0] * job.rate < cut.stop + 2 and span[1] * job.rate > cut.start - 2


def unique_output(wanted: str, video_id: str, taken: set[str]) -> str:
    """An output name that no other file of the archive gets: `a.mp4.mkv` may already be someone's name.

    Adds it to `taken`.
    """
    name = wanted
    if name.casefold() in taken:
        stem, dot, suffix = wanted.rpartition(".")
        name = f"{stem}.{video_id}{dot}{suffix}"
    taken.add(name.casefold())
    return name


def rows_per_call(tasks: Sequence[Task], batch_size: int, limit: int = 16) -> int:
    """How many segments a Dubber takes at once: enough for short films to fill its batches together."""
    if not tasks:
        return 1
    mean = sum(task.segment.n_windows for task in tasks) / len(tasks)
    return int(min(max(1, round(2 * batch_size / mean)), limit))


def dubbers_for(cpus: int, memory: int) -> int:
    """How many generators run at once on processor cores, one core each.

    One thread per generator: sums over several threads round otherwise, and a sampled token may flip, so
    that the sound would depend on the machine. It is also the faster use of the cores. About a fifth of
    them is left to decoding and muxing. `memory` in bytes bounds the number; 0 if it is not known.
    """
    by_cores = max(1, round(0.8 * cpus))
    return min(by_cores, max(1, memory // DUBBER_MEMORY)) if memory else by_cores


def dataset(
    tasks: Sequence[Task], job: Job, load: Callable[[str], Any], *, cpus: int, gpus: int = 0, memory: int = 0
) -> ray.data.Dataset:
    """The pipeline over `tasks`, not started yet.

    Its rows are what `stages.close` gives: video_id, seconds, row (JSON, empty unless the file is finished)
    and fatal (a message if nothing more can be written).
    """
    import ray.data

    from pipelines import dubber, stages, streaming

    # Of one film's single segment there is nothing to share: an actor more would load the model for nothing.
    dubbers = min(gpus or dubbers_for(cpus, memory), len(tasks))
    cpus = min(max(1, cpus), len(tasks))
    # The fractions let one core run all three stages; how many run at once is set by `concurrency`.
    # Ray's stubs know no Arrow batches.
    actors: dict[str, Any] = dict(
        fn_constructor_kwargs={"job": job, "load": load, "device": "cuda" if gpus else "cpu"},
        batch_format="pyarrow",
        num_cpus=0.25,
        num_gpus=1 if gpus else None,
        compute=ray.data.ActorPoolStrategy(size=dubbers, max_tasks_in_flight_per_actor=2),
    )
    if job.streams:
        groups = streaming.together(tasks, job.batch_size, dubbers)
        # Each segment is handed on, and kept, as soon as it is made: a block of several would wait for all of them.
        context = ray.data.DataContext.get_current().copy()
        context.target_max_block_size = 1
        with ray.data.DataContext.current(context):
            source = _source([{"films": streaming.to_json(films)} for films in groups])
        dubbed = source.map_batches(streaming.Streamer, batch_size=1, **actors)
    else:
        decode: Any = stages.decode
        decoded = _source([{"task": task.to_json()} for task in tasks]).map_batches(
            decode,
            fn_kwargs={"job": job},
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=0.5,
            concurrency=cpus,
        )
        size = rows_per_call(tasks, job.batch_size)
        dubbed = decoded.map_batches(dubber.Dubber, batch_size=size, **actors)
    close: Any = stages.close
    return dubbed.map_batches(
        close,
        fn_kwargs={"job": job},
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0.2,
        concurrency=max(1, cpus // 2),
    )


def _source(rows: list[dict[str, str]]) -> ray.data.Dataset:
    """Rows for the first stage. A call of several would wait for all of them; one row per block starts at once. Very
    many blocks burden the scheduler instead."""
    import ray.data

    return ray.data.from_items(rows, override_num_blocks=min(len(rows), 2000))


def results(pipeline: ray.data.Dataset) -> Iterator[dict[str, Any]]:
    """Run the pipeline and yield its rows as they come."""
    batches: Any = pipeline.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    for batch in batches:
        yield from batch.to_pylist()
