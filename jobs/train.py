"""`v2a train NAME STORE --out DIR`: fits a generator to a feature store, on one machine or many."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jobs.cli import DONE, INTERRUPTED, SOME_FAILED, WRONG_USAGE, command_line, version

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.ray_session import Resources
    from jobs.train_loop import Job
    from jobs.train_plan import Plan

POLL_S = 1.0
SAY_EVERY_S = 5.0
STOP_WITHIN_S = 120.0
"""How long an interrupted run may take to save before it is ended as it is."""


@dataclass
class TrainConfig:
    """Fit a generator to a feature store. Run the same command again to resume; --steps may grow.

    DIR becomes a checkpoint folder for `v2a dub --model DIR`, with card.md and curves.png. While it trains, only
    DIR/_v2a is written: checkpoints (the last two), sounds of every validation, and MLflow's records. A worker
    that is lost is replaced, and training goes on from the last checkpoint.
    """

    name: Annotated[str, tyro.conf.Positional]
    """What to train: maskvat-adaln, maskvat-seq2seq or maskvat-hybrid."""
    store: Annotated[str, tyro.conf.Positional]
    """Feature store that `v2a extract` made: a folder or s3://bucket/prefix. Trains on its split `train` and
    validates with `val`; without a `val`, a twentieth of the videos is kept from training for that."""
    out: str
    """Where the model goes: a folder or s3:// prefix. On several machines it must be the same place for all."""
    steps: int = 20_000
    """Optimiser steps in all. A higher number than before goes on from there, on the longer schedule."""
    workers: int | None = None
    """Processes that share each batch: by default one per GPU, or one."""
    min_workers: int | None = None
    """Go on with fewer workers, at least so many, while machines are missing (elastic)."""
    size: str = "mini"
    """mini (two cores train it), base, or large."""
    batch_size: int = 32
    """Windows per optimiser step, over all workers."""
    accumulate: int = 1
    """Take each batch in so many pieces: less memory, the same training."""
    learning_rate: float = 1e-3
    """The highest; it rises to there during the warm-up and then falls along a cosine to a twentieth."""
    warmup: int = 200
    """Steps of warm-up."""
    weight_decay: float = 0.01
    """Of matrices; biases, norms and single vectors do not decay."""
    clip_norm: float = 1.0
    """Gradients longer than this are shortened to it."""
    ema: float = 0.999
    """Decay of the averaged weights, which are those that are kept in the end; 0 keeps the last ones."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward pass; `auto` takes bfloat16 where the hardware has it. Weights are float32."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """ddp: every worker holds the whole model. fsdp: it is spread over the workers. `auto`: fsdp for large."""
    save_every: int = 500
    """Steps between checkpoints: what a crash costs at most."""
    validate_every: int = 500
    """Steps between validations."""
    max_failures: int = 3
    """Lost workers or machines to survive; -1 for any number."""
    seed: int = 0
    """Decides the first weights, the order of the rows and what is hidden from the model."""
    start: str = ""
    """Start from the weights of this checkpoint (folder or bundled name) instead of random ones."""
    set: tuple[str, ...] = ()
    """Fields of the model's config, for instance --set depth=4 dim=128, or semantic_dim=0 for a model that does
    not look at CLIP features."""
    weights: tuple[str, ...] = ()
    """Local weights files of the recipe's encoders by role, for instance codec=/models/dac.pth; published ones are
    found by name otherwise. The path must be there on every machine."""
    gpus: Literal["auto", "on", "off"] = "auto"
    """Whether each worker takes a GPU; `auto`: if there are any."""
    address: str | None = None
    """Ray cluster to run on, for instance auto or ray://head:10001; by default this machine."""
    run_name: str = ""
    """Name of the run in MLflow; by default NAME and the name of DIR."""
    tracking_uri: str | None = None
    """MLflow server or database; by default a file in DIR/_v2a. `off` records nothing."""


class Stopped(Exception):
    """The job cannot go on; the message says why."""


def command(config: TrainConfig) -> str:
    """The command line that means this configuration: run again, it resumes."""
    return command_line("train", config, positional=("name", "store"))


def run(config: TrainConfig) -> int:
    """Train; the exit code: 0 done, 1 stopped before the end, 2 wrong usage, 130 interrupted."""
    from rich.console import Console

    from jobs.preflight import WrongUsage
    from pipelines import storage

    console = Console(highlight=False, soft_wrap=True)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        return _run(config, console)
    except WrongUsage as problem:
        errors.print(f"v2a train: {problem}", markup=False)
        return WRONG_USAGE
    except (Stopped, storage.StorageError) as problem:
        errors.print(f"v2a train: {problem}\nTo go on where it stopped:\n  {command(config)}", markup=False)
        return SOME_FAILED
    except KeyboardInterrupt:
        errors.print(f"\nInterrupted. To go on where it stopped:\n  {command(config)}", markup=False)
        return INTERRUPTED


def _run(config: TrainConfig, console: Console) -> int:
    from jobs import ray_session, train_plan
    from jobs.preflight import WrongUsage

    plan = train_plan.prepare(config)
    if plan is None:
        steps = train_plan.finished_steps(config.out)
        console.print(
            f"Nothing to do: {config.out} holds {config.name}, trained for {steps} steps "
            "(more --steps go on from there).",
            markup=False,
        )
        return DONE
    with contextlib.ExitStack() as stack:
        try:
            resources = stack.enter_context(ray_session.session(None, config.address))
        except ConnectionError as error:
            raise WrongUsage(str(error)) from error
        workers, gpus, cores, threads = train_plan.share_out(config, resources)
        job = train_plan.make_job(plan, config, workers, threads, gpus)
        _say_what(plan, job, workers, gpus, console)
        return _train(plan, job, config, console, Means(workers, gpus, cores, resources))


@dataclass(frozen=True)
class Means:
    """What the training runs on."""

    workers: int
    gpus: bool
    cores: float
    """Booked by each worker."""
    resources: Resources


def _say_what(plan: Plan, job: Job, workers: int, gpus: bool, console: Console) -> None:
    n = sum(p.numel() for p in plan.generator.task().parameters())
    on = "GPUs" if gpus else "processor cores"
    spread = f", {job.strategy}" if workers > 1 else ""
    console.print(
        f"{job.system} {job.size}, {n / 1e6:.1f} million parameters, on {len(plan.train):,} windows "
        f"({len(plan.train) * plan.recipe.window_s / 3600:.1f} h), {len(plan.val):,} to validate with. "
        f"Recipe {plan.recipe.name} ({plan.recipe.digest}). "
        f"{workers} worker{'s' if workers > 1 else ''} on {on}{spread}, {job.precision}.",
        markup=False,
    )


def _train(plan: Plan, job: Job, config: TrainConfig, console: Console, means: Means) -> int:
    from jobs import train_finish, train_plan
    from jobs.tracking import Tracker, resolve_uri

    started = time.perf_counter()
    tracker = Tracker(
        resolve_uri(plan.out, config.tracking_uri),
        "v2a/train",
        out=plan.out,
        say=lambda text: console.print(text, markup=False),
    )
    train_plan.write_state(plan, plan.run_id)
    tags = {"v2a.version": version(), "v2a.out": plan.out, "v2a.recipe": plan.recipe.digest}
    name = config.run_name or f"{config.name} {plan.out.rstrip('/').rpartition('/')[2]}"
    tracker.start(
        name, dataclasses.asdict(config), tags, run_id=plan.run_id,
        then=lambda run_id: train_plan.write_state(plan, run_id),
    )  # fmt: skip
    status, registered = "KILLED", False
    try:
        try:
            checkpoint, seen = _watch(plan, job, config, console, tracker, means)
        except Stopped:
            status = "FAILED"
            raise
        uris = train_finish.write_model(plan, config.name, checkpoint, job, {"workers": means.workers})
        tracker.artifacts([uri for uri in uris if not uri.endswith(".safetensors")])
        tracker.register(f"v2a-{config.name}", uris, {"v2a.recipe": plan.recipe.digest, "v2a.size": job.size})
        status, registered = "FINISHED", True
    finally:
        tracker.finish(status, wait_s=600.0 if registered else 5.0)
    _tell(plan, config, seen, time.perf_counter() - started, console)
    return DONE


def _watch(
    plan: Plan, job: Job, config: TrainConfig, console: Console, tracker: Any, means: Means
) -> tuple[Any, Seen]:
    """Runs Ray Train in a thread and shows how far it is; the last checkpoint, and what was seen."""
    import ray

    from jobs.dub import reason_of
    from jobs.train_loop import Journal

    remote: Any = ray.remote(num_cpus=0, max_restarts=-1)(Journal)
    journal = remote.remote()
    outcome: dict[str, Any] = {}

    def fit() -> None:
        try:
            outcome["result"] = make_trainer(plan, job, config, journal, means).fit()
        except BaseException as error:  # handed to the thread that watches
            outcome["error"] = error

    seen = Seen(plan, job, console, tracker)
    thread = threading.Thread(target=fit, name="train", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(POLL_S)
            seen.take(journal)
    except KeyboardInterrupt:
        _save_and_stop(journal, thread, seen, console)
        raise
    seen.take(journal)
    if seen.fatal:
        raise Stopped(seen.fatal)
    if "error" in outcome:
        raise Stopped(_failure(outcome["error"], reason_of))
    checkpoint = outcome["result"].checkpoint
    if checkpoint is None and plan.resume:
        from jobs.train_plan import checkpoint_at

        checkpoint = checkpoint_at(plan.resume)
    if checkpoint is None:
        raise Stopped("the workers ended without a checkpoint")
    return checkpoint, seen


def make_trainer(plan: Plan, job: Job, config: TrainConfig, journal: Any, means: Means) -> Any:
    """The TorchTrainer (v2) of a plan."""
    # On a busy machine a worker may need minutes to load torch.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    from ray.train import (
        CheckpointConfig,
        FailureConfig,
        LoggingConfig,
        RunConfig,
        ScalingConfig,
        UserCallback,
    )
    from ray.train.torch import TorchTrainer

    from jobs.train_loop import train_loop
    from jobs.train_plan import checkpoints_place
    from pipelines.feed import data_config

    class Losses(UserCallback):
        """Tells of workers that were lost."""

        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            from jobs.dub import reason_of

            # Where one worker dies the others trip over its silence: the death is the cause.
            errors = sorted(worker_exceptions.values(), key=lambda e: "Actor" not in type(e).__name__)
            oom = next((e for e in errors if "OutOfMemory" in f"{type(e).__name__} {e}"), None)
            journal.add.remote(("lost", reason_of(oom or errors[0])))

    filesystem, place = checkpoints_place(plan.out)
    number: Any = means.workers if config.min_workers is None else (config.min_workers, means.workers)
    resources = {"CPU": means.cores} | ({"GPU": 1} if means.gpus else {})
    return TorchTrainer(
        train_loop,
        train_loop_config={"job": job, "journal": journal, "validation": plan.val},
        scaling_config=ScalingConfig(num_workers=number, use_gpu=means.gpus, resources_per_worker=resources),
        run_config=RunConfig(
            name=plan.name,
            storage_path=place,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=config.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            callbacks=[Losses()],  # type: ignore[list-item]  # the stubs are those of Ray Train v1
            logging_config=LoggingConfig(log_level="CRITICAL"),  # type: ignore[call-arg]
        ),
        datasets={"train": plan.train},  # type: ignore[dict-item]  # `data_config` knows what it is
        dataset_config=data_config(),
    )


class Seen:
    """What the workers have said so far: shown, and passed on to MLflow."""

    def __init__(self, plan: Plan, job: Job, console: Console, tracker: Any) -> None:
        self.plan, self.job, self.console, self.tracker = plan, job, console, tracker
        self.events, self.fatal = 0, ""
        self.train: dict[str, float] = {}
        self.val: dict[str, float] = {}
        self.lost = 0
        self._said = 0.0

    def take(self, journal: Any) -> None:
        """Asks for what is new."""
        import ray

        try:
            events, self.fatal = ray.get(journal.read.remote(self.events), timeout=10)
        except ray.exceptions.RayError:
            return  # a little later, then
        self.events += len(events)
        for kind, content in events:
            getattr(self, f"_{kind}")(content)
        if self.train and time.perf_counter() - self._said > SAY_EVERY_S:
            self._progress()

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)
        sys.stdout.flush()

    def _begin(self, facts: dict[str, Any]) -> None:
        if facts["step"]:
            self.say(f"Going on at step {facts['step']} of {self.job.steps} with {facts['world']} workers.")
        self.tracker.tags(
            {"v2a.peak_flops": f"{facts['peak_flops']:.4g}", "v2a.peak_source": facts["peak_source"]}
        )

    def _row(self, row: dict[str, float]) -> None:
        step = int(row["step"])
        self.tracker.metrics({k: v for k, v in row.items() if k != "step"}, step=step)
        if "train/loss" in row:
            self.train = row
        else:
            self.val = row
            self._progress()

    def _sounds(self, sounds: dict[str, Any]) -> None:
        from jobs.train_finish import write_sounds
        from pipelines import storage

        try:
            uris = write_sounds(self.plan.out, sounds)
        except (storage.StorageError, OSError) as error:
            self.say(f"The sounds of step {sounds['step']} are not kept: {error}")
            return
        self.tracker.artifacts(uris, f"samples/step-{sounds['step']:07d}")

    def _saved(self, step: int) -> None:
        self.saved = step

    def _lost(self, reason: str) -> None:
        self.lost += 1
        if not self.fatal:
            self.say(f"A worker was lost ({reason[:300]}); the others start again from the last checkpoint.")

    def _progress(self) -> None:
        from jobs.progress import clock

        self._said = time.perf_counter()
        row, val = self.train, self.val
        if not row:
            return
        left_s = (self.job.steps - row["step"]) * self.job.batch_size / max(1e-9, row["samples_per_s"])
        parts = [f"step {int(row['step'])}/{self.job.steps}", f"loss {row['train/loss']:.4f}"]
        if val:
            parts.append(f"validation {val['val/loss']:.4f} (step {int(val['step'])})")
        parts += [
            f"lr {row['learning_rate']:.2e}",
            f"{row['samples_per_s']:.1f} windows/s",
            f"MFU {row['mfu']:.1%}",
            f"{clock(left_s)} left",
        ]
        self.say(" · ".join(parts))


def _save_and_stop(journal: Any, thread: threading.Thread, seen: Seen, console: Console) -> None:
    """Lets the workers save before they end; a second Ctrl-C does not wait for it."""
    import ray

    if not seen.train:
        return
    console.print("Saving before it ends; Ctrl-C again to end at once.", markup=False)
    with contextlib.suppress(ray.exceptions.RayError, KeyboardInterrupt):
        journal.stop.remote()
        thread.join(STOP_WITHIN_S)
        seen.take(journal)


def _failure(error: BaseException, reason_of: Any) -> str:
    """What Ray Train gave up over, in one sentence, with the knob where memory was short."""
    from jobs.train_loop import out_of_memory

    failures = list(getattr(error, "worker_failures", {}).values()) or [error]
    for failure in failures:
        if "OutOfMemory" in f"{type(failure).__name__} {failure}" or "memory pressure" in str(failure):
            return out_of_memory(reason_of(failure))
    failures.sort(key=lambda failure: "Actor" not in type(failure).__name__)
    return f"training failed too often (--max-failures): {reason_of(failures[0])}"


def _tell(plan: Plan, config: TrainConfig, seen: Seen, wall_s: float, console: Console) -> None:
    from jobs.progress import clock

    losses = [f"loss {seen.train['train/loss']:.4f}"] if seen.train else []
    losses += [f"validation {seen.val['val/loss']:.4f}"] if seen.val else []
    console.print(f"Trained {config.steps} steps in {clock(wall_s)}. {', '.join(losses)}", markup=False)
    console.print(f"Model: {config.out} (v2a dub ARCHIVE OUT --model {config.out})", markup=False)


if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["train", *sys.argv[1:]]))
