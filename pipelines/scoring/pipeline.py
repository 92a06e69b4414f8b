"""Ray pipelines of a comparison: make the sounds of clips, fetch the true ones, and score them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from pipelines import arrow_rows
from pipelines.scoring.clips import ClipMaker, Row, fetch
from pipelines.scoring.job import BASELINES, Clip, ClipJob, Scored, ScoringJob, clip_from, clip_text, kinds

THREADS = 2
"""Threads per actor. They share the networks, which take most of its memory, and spend nearly all of their time outside
Python. More of them would wait for one another."""

FEW_SOUNDS = 48
"""Maximum number of sounds scored in this process; starting Ray would take longer."""


FEW_CLIPS = 8
"""Maximum number of clips generated in this process; starting Ray would take longer."""


class Worker:
    """Ray Data actor that scores `threads` clips at a time."""

    def __init__(self, job: ScoringJob, threads: int) -> None:
        from pipelines.scoring.scorer import Scorer

        self.job, self.scorer, self.pool = job, Scorer(job), ThreadPoolExecutor(threads)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        clips = map(clip_from, batch["clip"].to_pylist())
        for answers in self.pool.map(self.scorer.score, clips):
            for scored in answers:
                notes = {k: v for k, v in asdict(scored).items() if k != "arrays"}
                yield arrow_rows.pack(notes, scored.arrays, kinds(self.job))


def unpack(batch: pa.Table, job: ScoringJob) -> Iterator[Scored]:
    """Scored sounds of the workers' answers."""
    for notes, arrays in arrow_rows.unpack(batch, kinds(job)):
        yield Scored(**notes, arrays=arrays)


def score_all(clips: Sequence[Clip], job: ScoringJob, session: Any) -> Iterator[Scored]:
    """Score clips, in Ray actors unless there are few; yields results as they are ready.

    session: returns a context manager of `Resources` (`jobs.common.ray_session.session`), entered only to use Ray.
    """
    if sum(len(clip.systems) + len(BASELINES) * job.baselines for clip in clips) <= FEW_SOUNDS:
        from pipelines.scoring.scorer import Scorer

        scorer = Scorer(job)
        for clip in clips:
            yield from scorer.score(clip)
        return
    import ray.data

    with session() as resources:
        texts = [{"clip": clip_text(clip)} for clip in clips]
        threads = min(THREADS, resources.cpus)
        source = ray.data.from_items(texts, override_num_blocks=min(len(texts), 200))
        scored = source.map_batches(
            Worker,
            fn_constructor_kwargs={"job": job, "threads": threads},
            batch_size=4 * threads,
            batch_format="pyarrow",
            num_cpus=0.8 * threads,
            compute=ray.data.ActorPoolStrategy(
                size=max(1, resources.cpus // threads), max_tasks_in_flight_per_actor=2
            ),
        )
        batches: Any = scored.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        for batch in batches:
            yield from unpack(batch, job)


def run_fetch(rows: Sequence[Row], job: ClipJob, codec: str, cpus: int) -> Iterator[dict[str, Any]]:
    """Fetch the true sounds, with the running Ray unless they are few; a row of `clips.RESULT_SCHEMA` per clip."""
    if len(rows) <= FEW_CLIPS:
        yield from fetch(_table(rows), job, codec).to_pylist()
        return
    stage: Any = fetch
    yield from _results(
        _source(rows, 8).map_batches(
            stage, fn_kwargs={"job": job, "codec": codec}, batch_size=8, batch_format="pyarrow", num_cpus=0.8,
            concurrency=max(1, cpus),
        )
    )  # fmt: skip


def run_model(
    rows: Sequence[Row], job: ClipJob, system: str, model: str, from_archive: bool, cpus: int, gpus: int
) -> Iterator[dict[str, Any]]:
    """Generate with one model, with the running Ray unless clips are few; a row of `clips.RESULT_SCHEMA` per clip."""
    if len(rows) <= FEW_CLIPS:
        for batch in ClipMaker(job, system, model, from_archive)(_table(rows)):
            yield from batch.to_pylist()
        return
    import ray.data

    size = max(1, gpus or cpus)
    per_call = job.batch_size * max(1, 8 // job.batch_size)
    yield from _results(
        _source(rows, per_call).map_batches(
            ClipMaker,
            fn_constructor_kwargs={
                "job": job,
                "system": system,
                "model": model,
                "from_archive": from_archive,
            },
            batch_size=per_call,
            batch_format="pyarrow",
            num_cpus=0.8,
            num_gpus=1 if gpus else None,
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2),
        )
    )


def _table(rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist([dict(vars(row)) for row in rows])


def _source(rows: Sequence[Row], per_block: int) -> Any:
    import ray.data

    items: list[Mapping[str, Any]] = [dict(vars(row)) for row in rows]
    return ray.data.from_items(items, override_num_blocks=max(1, min(200, len(items) // per_block)))


def _results(pipeline: Any) -> Iterator[dict[str, Any]]:
    for batch in pipeline.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from batch.to_pylist()
