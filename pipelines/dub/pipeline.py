"""Batch inference over an archive: which files get sound, in which segments, through which stages.

    plan_file (driver) -> decode (tasks) -> Dubber (actors) -> close (tasks) -> driver
    plan_file (driver) -> Streamer (actors) -------------------> close (tasks) -> driver

One streaming Ray Data pipeline with no barrier. The unit of work is a segment (`pipelines.dub.segments`), so
memory does not grow with the length of a film. `decode`, `generate` and `finish` hold what each stage does; the
lower line is for models that go on from their own past (`generate.streaming`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.dub.job import DubJob, DubTask

if TYPE_CHECKING:
    import ray.data

DUBBER_MEMORY = 3 << 29
"""Bytes that a generator and what it works on may need."""


def rows_per_call(tasks: Sequence[DubTask], batch_size: int, limit: int = 16) -> int:
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
    tasks: Sequence[DubTask],
    job: DubJob,
    load: Callable[[str], Any],
    *,
    cpus: int,
    gpus: int = 0,
    memory: int = 0,
) -> ray.data.Dataset:
    """The pipeline over `tasks`, not started yet.

    Its rows are what `stages.close` gives: video_id, seconds, row (JSON, empty unless the file is finished)
    and fatal (a message if nothing more can be written).
    """
    import ray.data

    from pipelines.dub import decode as decode_stage
    from pipelines.dub import finish as finish_stage
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
    finish: Any = finish_stage.finish
    return dubbed.map_batches(
        finish,
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
