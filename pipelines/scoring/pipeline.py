"""Ray actors that score clips, and their runner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from pipelines import arrow_rows
from pipelines.scoring.job import BASELINES, Clip, Scored, ScoringJob, clip_from, clip_text, kinds

THREADS = 2
"""Of an actor: they share torch and the networks, which are most of its memory, and nearly all of the time goes by
outside Python. More of them would wait for each other."""

FEW_SOUNDS = 48
"""Up to so many are scored in this process; starting Ray would take longer."""


class Worker:
    """The actor that Ray Data calls: clips in, scored sounds out; `threads` clips at a time."""

    def __init__(self, job: ScoringJob, threads: int) -> None:
        from pipelines.scoring.scorer import Scorer

        self.job, self.scorer, self.pool = job, Scorer(job), ThreadPoolExecutor(threads)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        clips = map(clip_from, batch["clip"].to_pylist())
        for answers in self.pool.map(lambda clip: list(self.scorer.score(clip)), clips):
            for scored in answers:
                notes = {k: v for k, v in asdict(scored).items() if k != "arrays"}
                yield arrow_rows.pack(notes, scored.arrays, kinds(self.job))


def unpack(batch: pa.Table, job: ScoringJob) -> Iterator[Scored]:
    """Scored sounds of the workers' answers."""
    for notes, arrays in arrow_rows.unpack(batch, kinds(job)):
        yield Scored(**notes, arrays=arrays)


def score_all(clips: Sequence[Clip], job: ScoringJob, session: Any) -> Iterator[Scored]:
    """Scores clips as they come, in actors of Ray unless they are few.

    session: gives a context with `Resources` (`jobs.common.ray_session.session`), entered only where Ray is needed.
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
