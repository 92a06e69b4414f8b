"""`v2a train NAME STORE --out DIR`: trains a generator on a feature store, on one machine or many."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from jobs.cli import DONE, version
from jobs.common.verb import Stopped, run_verb
from jobs.train.config import TrainConfig, command

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.train.job import TrainJob, TrainPlan, TrainResources
    from jobs.train.watch import TrainLog


def run(config: TrainConfig) -> int:
    """Train a generator. Exit code 0: done, 1: stopped before the end, 2: wrong usage, 130: interrupted."""
    return run_verb("train", command(config), lambda console: _run(config, console))


def _run(config: TrainConfig, console: Console) -> int:
    from jobs.common import ray_session
    from jobs.train import preflight
    from jobs.train.job import TrainResources

    plan = preflight.prepare(config)
    if plan is None:
        steps = preflight.finished_steps(config.out)
        console.print(
            f"Nothing to do: {config.out} holds {config.name}, trained for {steps} steps "
            "(to continue, raise --steps).",
            markup=False,
        )
        return DONE
    with ray_session.session(None, config.address) as resources:
        workers, gpus, cores, threads = preflight.allocate(config, resources)
        job = preflight.make_job(plan, config, workers, threads, gpus)
        _print_plan(plan, job, workers, gpus, console)
        return _train(plan, job, config, console, TrainResources(workers, gpus, cores))


def _print_plan(plan: TrainPlan, job: TrainJob, workers: int, gpus: bool, console: Console) -> None:
    n = sum(p.numel() for p in plan.generator.task().parameters())
    on = "GPUs" if gpus else "processor cores"
    strategy = f", {job.strategy}" if workers > 1 else ""
    console.print(
        f"{job.system} {job.size}, {n / 1e6:.1f} million parameters, on {len(plan.train):,} windows "
        f"({len(plan.train) * plan.recipe.window_s / 3600:.1f} h), {len(plan.val):,} for validation. "
        f"Recipe {plan.recipe.name} ({plan.recipe.digest}). "
        f"{workers} worker{'s' if workers > 1 else ''} on {on}{strategy}, {job.precision}.",
        markup=False,
    )


def _train(
    plan: TrainPlan, job: TrainJob, config: TrainConfig, console: Console, granted: TrainResources
) -> int:
    from jobs.common.tracking import Tracker, resolve_uri
    from jobs.train import export, preflight
    from jobs.train.watch import watch

    started = time.perf_counter()
    tracker = Tracker(
        resolve_uri(plan.out, config.tracking_uri),
        "v2a/train",
        out=plan.out,
        notify=lambda text: console.print(text, markup=False),
    )
    preflight.write_state(plan, plan.run_id)
    tags = {"v2a.version": version(), "v2a.out": plan.out, "v2a.recipe": plan.recipe.digest}
    name = config.run_name or f"{config.name} {plan.out.rstrip('/').rpartition('/')[2]}"
    tracker.start(
        name, dataclasses.asdict(config), tags, run_id=plan.run_id,
        then=lambda run_id: preflight.write_state(plan, run_id),
    )  # fmt: skip
    status, registered = "KILLED", False
    try:
        try:
            checkpoint, log = watch(plan, job, config, console, tracker, granted)
        except Stopped:
            status = "FAILED"
            raise
        uris = export.write_model(plan, config.name, checkpoint, job, {"workers": granted.workers})
        tracker.artifacts([uri for uri in uris if not uri.endswith(".safetensors")])
        tracker.register(f"v2a-{config.name}", uris, {"v2a.recipe": plan.recipe.digest, "v2a.size": job.size})
        status, registered = "FINISHED", True
    finally:
        tracker.finish(status, wait_s=600.0 if registered else 5.0)
    _print_result(plan, config, log, time.perf_counter() - started, console)
    return DONE


def _print_result(
    plan: TrainPlan, config: TrainConfig, log: TrainLog, wall_s: float, console: Console
) -> None:
    from jobs.common.terminal import clock

    losses = [f"loss {log.train['train/loss']:.4f}"] if log.train else []
    losses += [f"validation {log.val['val/loss']:.4f}"] if log.val else []
    console.print(f"Trained {config.steps} steps in {clock(wall_s)}. {', '.join(losses)}", markup=False)
    use = f"v2a dub ARCHIVE OUT --model {config.out}"
    if config.name == "vatt-converter":  # makes no sound yet
        use = f"v2a train vatt STORE --out NEW --set converter={config.out}"
    console.print(f"Model: {config.out} ({use})", markup=False)
