"""The Ray Data pipeline of a dub: the stages, and the resources that each gets.

    plan (driver) -> decode (tasks) -> Dubber (actors) -> finish (tasks) -> driver
    plan (driver) -> Streamer (actors) ----------------> finish (tasks) -> driver

One streaming pipeline without a barrier. Its unit of work is a segment (`pipelines.dub.segments`), so that memory does
not grow with the length of a film. The lower line is for models that continue from their own past
(`generate.streaming`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.dub.job import DubJob, DubTask

if TYPE_CHECKING:
    import ray.data

DUBBER_MEMORY = 3 << 29
"""Bytes that a generator and its batch may need."""


def rows_per_call(tasks: Sequence[DubTask], batch_size: int, limit: int = 16) -> int:
    """Segments per call of a Dubber: enough for short films to fill its batches together."""
    if not tasks:
        return 1
    mean = sum(task.segment.n_windows for task in tasks) / len(tasks)
    return int(min(max(1, round(2 * batch_size / mean)), limit))


def dubbers_for(cpus: int, memory: int) -> int:
    """Number of generators on processor cores, one core each; about a fifth of the cores is left to the other stages.

    Each has one thread: sums over several threads round differently, and a sampled token may flip, so that the sound
    would depend on the machine. One thread each is also faster. `memory` in bytes bounds the number; 0 if unknown.
    """
    by_cores = max(1, round(0.8 * cpus))
    return min(by_cores, max(1, memory // DUBBER_MEMORY)) if memory else by_cores


def dataset(
    tasks: Sequence[DubTask], job: DubJob, *, cpus: int, gpus: int = 0, memory: int = 0
) -> ray.data.Dataset:
    """The pipeline over `tasks`, not started yet.

    Its rows are those of `finish.finish`: video_id, segment, seconds, row (JSON, empty unless the film is finished),
    fatal (a message if OUT can no longer be written), again (true if the film has a part to be made again) and notices.
    """
    import ray.data

    from pipelines.dub import decode as decode_stage
    from pipelines.dub import finish as finish_stage
    from pipelines.dub.generate import dubber, streaming

    # More actors than segments would load the model for nothing.
    dubbers = min(gpus or dubbers_for(cpus, memory), len(tasks))
    cpus = min(max(1, cpus), len(tasks))
    # These fractions decide how many processes there are, of 200 MB and more each. Two cores get a generator each and
    # one task of either other stage; a third task would cost memory and be no faster. They differ between stages, or
    # Ray Data would fuse them. Ray's stubs know no Arrow batches, hence Any.
    actors: dict[str, Any] = dict(
        fn_constructor_kwargs={"job": job, "device": "cuda" if gpus else "cpu"},
        batch_format="pyarrow",
        num_cpus=0.25,
        num_gpus=1 if gpus else None,
        compute=ray.data.ActorPoolStrategy(size=dubbers, max_tasks_in_flight_per_actor=2),
    )
    if job.streams:
        groups = streaming.film_groups(tasks, job.batch_size, dubbers)
        calls = len(groups)
        # One row per block, so that each segment is handed on and kept as soon as it is made.
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
        dubbed = decoded.map_batches(dubber.Dubber, batch_size=size, **actors)
    finish: Any = finish_stage.finish
    return dubbed.map_batches(
        finish,
        fn_kwargs={"job": job},
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0.5,
        # Finishing a film of a few seconds takes longer than generating it. The output of one call of the model is one
        # task, and Ray Data warns if more could run than there are.
        concurrency=min(cpus, calls),
    )


def _source(rows: list[dict[str, str]]) -> ray.data.Dataset:
    """Rows for the first stage: one per block, so that the first starts at once, but not so many as to burden the
    scheduler."""
    import ray.data

    return ray.data.from_items(rows, override_num_blocks=min(len(rows), 2000))


def results(pipeline: ray.data.Dataset) -> Iterator[dict[str, Any]]:
    """Run the pipeline and yield its rows as they are made."""
    batches: Any = pipeline.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    for batch in batches:
        yield from batch.to_pylist()
