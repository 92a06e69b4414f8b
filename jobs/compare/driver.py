"""`v2a compare MODELS... --store S --out DIR`: runs models on the same clips and scores them side by side."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs.cli import DONE, SOME_FAILED
from jobs.common.verb import run_verb
from jobs.compare.config import CompareConfig, command
from jobs.compare.results import clip_job, scoring_clips

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.compare.preflight import ComparePlan
    from pipelines.scoring.clips import Row
    from v2a_models.metrics.estimate import Estimate


def run(config: CompareConfig) -> int:
    """Compare models. Exit code 0: done, 1: some clips failed, 2: wrong usage, 130: interrupted."""
    return run_verb("compare", command(config), lambda console: _run(config, console))


def _run(config: CompareConfig, console: Console) -> int:
    from jobs.common import ray_session
    from jobs.compare import preflight, results
    from pipelines.scoring.pipeline import FEW_CLIPS

    started = time.perf_counter()
    plan = preflight.prepare(config)
    console.print(
        f"{len(plan.rows)} clips of {plan.store}, {len(plan.models)} models: "
        f"{', '.join(model.slug for model in plan.models)}. Networks: {', '.join(plan.networks) or 'none'}; "
        f"unavailable: {', '.join(name for name in config.networks if name in plan.missing) or 'none'}.",
        markup=False,
    )
    with contextlib.ExitStack() as stack:
        resources = ray_session.Resources(1, 0, 0)
        if len(plan.rows) > FEW_CLIPS:
            resources = stack.enter_context(ray_session.session(config.num_workers, config.address))
        problems = fetch(plan, config, console, resources)
        costs = {}
        for model in plan.models:
            failed, costs[model.slug] = generate(plan, config, model, console, resources)
            problems |= failed
        board = score(plan, config, console)
        score_captions(plan, config, board)
    summary = results.summarise(plan, config, board, problems, costs, command(config))
    results.write(plan, config, board, summary, console)
    console.print(f"Report: {plan.out}/report.html ({time.perf_counter() - started:.0f} s)", markup=False)
    return SOME_FAILED if any(system["failed"] for system in summary["systems"]) else DONE


def fetch(
    plan: ComparePlan, config: CompareConfig, console: Console, resources: Any
) -> dict[tuple[str, str], str]:
    """Fetch the true sounds; returns a reason by (system, clip) for those that are not available."""
    from pipelines.scoring.clips import missing
    from pipelines.scoring.job import REFERENCE
    from pipelines.scoring.pipeline import run_fetch
    from v2a_models import grid

    job = clip_job(plan, config)
    todo = missing(plan.rows, job.place, REFERENCE)
    answers = run_fetch(todo, job, plan.codec, resources.cpus) if todo else iter(())
    each = grid.seconds(plan.window, grid.SAMPLE_RATE)
    return problems_of(_watched(answers, todo, "true sounds", console, each))


def generate(
    plan: ComparePlan, config: CompareConfig, model: Any, console: Console, resources: Any
) -> tuple[dict[tuple[str, str], str], dict[str, Estimate]]:
    """Generate the sounds of one model; returns reasons by (system, clip) for failures, and its costs by metric.

    Costs are empty where every sound was there already.
    """
    from pipelines.scoring.clips import missing
    from pipelines.scoring.pipeline import run_model
    from v2a_models import grid

    job = clip_job(plan, config, resources.gpus)
    todo = missing(plan.rows, job.place, model.slug)
    if not todo:
        return {}, {}
    answers = run_model(
        todo, job, model.slug, model.folder, model.from_archive, resources.cpus, resources.gpus
    )
    each = grid.seconds(plan.window, grid.SAMPLE_RATE)
    collected = _watched(answers, todo, model.slug, console, each)
    return problems_of(collected), costs_of(collected, each)


def problems_of(answers: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """Reasons for missing sounds by (system, clip)."""
    return {(a["system"], a["clip"]): a["problem"] for a in answers if a["problem"]}


def costs_of(answers: Sequence[Mapping[str, Any]], each_s: float) -> dict[str, Estimate]:
    """Speed (with a bootstrap interval over clips) and peak memory of generating clips of `each_s` seconds."""
    from v2a_models.metrics.estimate import Estimate, bootstrap_mean

    timed = [a for a in answers if a["seconds"] and not a["problem"]]
    if not timed:
        return {}
    slow = bootstrap_mean([a["seconds"] for a in timed])
    speed = Estimate(each_s / slow.value, each_s / slow.high, each_s / slow.low, slow.n, slow.note)
    memory = Estimate(max(a["memory_mib"] for a in timed), math.nan, math.nan, len(timed))
    return {"audio_s_per_s": speed, "memory": memory}


def _watched(
    answers: Any, todo: Sequence[Row], name: str, console: Console, each_s: float
) -> list[dict[str, Any]]:
    """Collect the answers, reporting progress as they come."""
    from jobs.common.progress import Progress

    collected: list[dict[str, Any]] = []
    if not todo:
        return collected
    with Progress(console, len(todo), len(todo) * each_s, doing=name, unit=f"clips of {name}") as progress:
        for answer in answers:
            collected.append(answer)
            progress.advance(each_s, finished=True, failed=bool(answer["problem"]))
    return collected


def score(plan: ComparePlan, config: CompareConfig, console: Console) -> Any:
    """Score the sounds; returns a `Board`."""
    from jobs.common import ray_session
    from jobs.common.checks import network_weights
    from jobs.common.progress import Progress
    from pipelines.scoring import job as scoring_job
    from pipelines.scoring import pipeline
    from pipelines.scoring.summary import Board
    from v2a_models import grid

    board, clips = Board(), scoring_clips(plan)
    networks = tuple(name for name in plan.networks if name != "bertscore")  # for captions
    job = scoring_job.ScoringJob(
        plan.codec,
        networks,
        network_weights(config.weights),
        keep=clip_job(plan, config).place,
        download=config.download,
    )

    def session() -> contextlib.AbstractContextManager[Any]:
        return ray_session.session(config.num_workers, config.address)

    window_s = grid.seconds(plan.window, grid.SAMPLE_RATE)
    with Progress(
        console, len(clips), len(clips) * window_s, doing="scoring", unit="clips scored"
    ) as progress:
        counted: set[str] = set()
        for scored in pipeline.score_all(clips, job, session):
            board.add(scored)
            if scored.clip not in counted:
                counted.add(scored.clip)
                progress.advance(window_s, finished=True)
    return board


def score_captions(plan: ComparePlan, config: CompareConfig, board: Any) -> None:
    """Score the captions of models that write some against the texts of the store."""
    from jobs.common.checks import network_weights
    from pipelines.scoring.caption_scores import add_captions, bertscore_reader
    from pipelines.scoring.clips import captions_of

    place, true = (
        clip_job(plan, config).place,
        {row.clip_id: [row.text] for row in plan.rows if row.text.strip()},
    )
    captions = {m.slug: captions_of(place, m.slug) for m in plan.models if m.slug in board.systems}
    captions = {slug: texts for slug, texts in captions.items() if texts.keys() & true.keys()}
    if captions:
        reader = bertscore_reader(plan.networks, network_weights(config.weights))
        add_captions(board, captions, true, reader)
