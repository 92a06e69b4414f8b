"""Batch inference over an archive: which files get sound, in which segments, through which stages.

    plan_file (driver) -> decode (tasks) -> Dubber (actors) -> close (tasks) -> driver
    plan_file (driver) -> Streamer (actors) -------------------> close (tasks) -> driver

One streaming Ray Data pipeline with no barrier. The unit of work is a segment (`pipelines.dub.segments`), so
memory does not grow with the length of a film. `decode`, `generate` and `finish` hold what each stage does; the
lower line is for models that go on from their own past (`generate.streaming`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipelines import storage
from pipelines.dub import segments
from pipelines.dub.job import SILENT_STATES, Job, Task
from pipelines.dub.state import Failure
from pipelines.soundtrack.mixing import Span
from v2a_models import grid

if TYPE_CHECKING:
    import ray.data

DUBBER_MEMORY = 3 << 29
"""Bytes that a generator and what it works on may need."""


def decide(row: dict[str, Any], only: str) -> tuple[str, str]:
    """What becomes of a scanned file: (dub | skipped | failed, reason)."""
    if row["status"] == "not_video":
        return "skipped", "not a video"
    if row["status"] == "audio_only":
        return "skipped", "sound without a picture"
    if row["status"] != "ok":
        return "failed", "cannot be read"
    if only == "silent" and row["audio_state"] not in SILENT_STATES:
        heard = "it cannot be decoded" if unreadable(row) else f"peak {row['peak_dbfs']:.1f} dBFS"
        return "skipped", f"has sound ({heard})"
    return "dub", f"sound track: {row['audio_state']}"


def unreadable(video: dict[str, Any]) -> bool:
    """True if the film has sound of which not one sample can be decoded: its level is not known."""
    return video["audio_state"] not in SILENT_STATES and video["peak_dbfs"] is None


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


def own_trouble(error: storage.StorageError) -> bool:
    """True for what may be wrong with one film's files alone, while OUT as a whole can be written."""
    kinds = (storage.StorageRefused, storage.StorageDenied, storage.StorageNotFound)
    return isinstance(error, kinds)


def unwritable_row(video: dict[str, Any], error: storage.StorageError) -> dict[str, Any]:
    """The report row of a film of which something cannot be read or written."""
    return failed_row(video, Failure("storage", type(error).__name__, str(error)))


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


def unique_output(wanted: str, video_id: str, taken: set[str], most: int | None = None) -> str:
    """An output name that no other file of the archive gets: `a.mp4.mkv` may already be someone's name.

    Its last part is cut to `most` bytes. Adds it to `taken`.
    """
    folder, slash, name = wanted.rpartition("/")
    too_long = most is not None and len(name.encode()) > most
    if wanted.casefold() in taken or too_long:
        stem, dot, suffix = name.rpartition(".")
        end = f".{video_id}{dot}{suffix}"
        if most is not None:
            stem = stem.encode()[: max(0, most - len(end.encode()))].decode(errors="ignore")
        name = stem + end
    output = folder + slash + name
    taken.add(output.casefold())
    return output


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

    from pipelines.dub import decode as decode_stage
    from pipelines.dub.generate import crossfade, streaming

    # Of one film's single segment there is nothing to share: an actor more would load the model for nothing.
    dubbers = min(gpus or dubbers_for(cpus, memory), len(tasks))
    cpus = min(max(1, cpus), len(tasks))
    # What stages ask for decides how many processes there are, of 200 MB and more each. Two cores run a generator each
    # and one task of either other stage: a third now and then is a twentieth of all memory, and no faster. (Ray Data
    # gives a pipeline what it asked for and whole cores of the rest.) Unlike ones, or it would fuse stages.
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
        calls = len(groups)
        # Each segment is handed on, and kept, as soon as it is made: a block of several would wait for all of them.
        context = ray.data.DataContext.get_current().copy()
        context.target_max_block_size = 1
        with ray.data.DataContext.current(context):
            source = _source([{"films": streaming.to_json(films)} for films in groups])
        dubbed = source.map_batches(streaming.Streamer, batch_size=1, **actors)
    else:
        decode: Any = decode_stage.decode
        decoded = _source([{"task": task.to_json()} for task in tasks]).map_batches(
            decode,
            fn_kwargs={"job": job},
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=0.625,
            concurrency=cpus,
        )
        size = rows_per_call(tasks, job.batch_size)
        calls = -(-len(tasks) // size)
        dubbed = decoded.map_batches(crossfade.Dubber, batch_size=size, **actors)
    close: Any = decode_stage.close
    return dubbed.map_batches(
        close,
        fn_kwargs={"job": job},
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0.5,
        # Of films of a few seconds it takes longer to close one than to generate its sound. What one call of the model
        # gives is one task: Ray Data warns where more could run than it ever gets.
        concurrency=min(cpus, calls),
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
