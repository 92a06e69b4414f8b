"""Driver's side of the workers of `v2a train`: runs them, reports their progress, and explains their failures."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from jobs.common.verb import Stopped, reason_of
from jobs.train.job import TrainResources

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.train.config import TrainConfig
    from jobs.train.job import TrainJob, TrainPlan

POLL_S = 1.0
REPORT_EVERY_S = 5.0
PATIENCE_S = 120.0
"""Seconds without news from the workers before a hint is printed."""
STOP_WITHIN_S = 120.0
"""Seconds that an interrupted run may take to save."""


def watch(
    plan: TrainPlan,
    job: TrainJob,
    config: TrainConfig,
    console: Console,
    tracker: Any,
    granted: TrainResources,
) -> tuple[Any, TrainLog]:
    """Run Ray Train in a thread and report its progress; returns the last checkpoint and the log."""
    import ray

    from jobs.train.job import Journal

    remote: Any = ray.remote(num_cpus=0, max_restarts=-1)(Journal)
    journal = remote.remote()
    outcome: dict[str, Any] = {}

    def fit() -> None:
        try:
            outcome["result"] = make_trainer(plan, job, config, journal, granted).fit()
        except BaseException as error:  # handed to the thread that watches
            outcome["error"] = error
        finally:
            ended.set()

    log = TrainLog(plan, job, console, tracker)
    # Not Thread.join: interrupted by Ctrl-C, it takes a thread that runs for one that has ended.
    ended = threading.Event()
    threading.Thread(target=fit, name="train", daemon=True).start()
    try:
        while not ended.wait(POLL_S):
            log.fetch(journal)
    except KeyboardInterrupt:
        _save_and_stop(journal, ended, log, console)
        raise
    log.fetch(journal)
    if log.fatal:
        raise Stopped(log.fatal)
    if "error" in outcome:
        raise Stopped(_failure(outcome["error"]))
    checkpoint = outcome["result"].checkpoint
    if checkpoint is None and plan.resume:
        from jobs.train.checkpoints import checkpoint_at

        checkpoint = checkpoint_at(plan.resume)
    if checkpoint is None:
        raise Stopped("the workers ended without a checkpoint")
    return checkpoint, log


def make_trainer(
    plan: TrainPlan, job: TrainJob, config: TrainConfig, journal: Any, granted: TrainResources
) -> Any:
    """TorchTrainer (Ray Train v2) of a plan."""
    # Seconds that workers may wait for resources. An elastic run must not wait for a machine that is gone.
    os.environ.setdefault(
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600" if config.min_workers is None else "60"
    )
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

    from jobs.train.checkpoints import checkpoints_place
    from jobs.train.worker import train_loop
    from pipelines.store.training_feed import data_config

    class Losses(UserCallback):
        """Reports workers that were lost."""

        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            # When one worker dies the others fail for lack of its answers: the death is the cause.
            errors = sorted(worker_exceptions.values(), key=lambda e: "Actor" not in type(e).__name__)
            oom = next((e for e in errors if "OutOfMemory" in f"{type(e).__name__} {e}"), None)
            journal.add.remote(("lost", reason_of(oom or errors[0])))

    filesystem, place = checkpoints_place(plan.out)
    number: Any = granted.workers if config.min_workers is None else (config.min_workers, granted.workers)
    resources = {"CPU": granted.cores} | ({"GPU": 1} if granted.gpus else {})
    return TorchTrainer(
        train_loop,
        train_loop_config={"job": job, "journal": journal, "validation": plan.val},
        scaling_config=ScalingConfig(
            num_workers=number, use_gpu=granted.gpus, resources_per_worker=resources
        ),
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


class TrainLog:
    """Events of the workers so far: printed, and sent to MLflow."""

    def __init__(self, plan: TrainPlan, job: TrainJob, console: Console, tracker: Any) -> None:
        self.plan, self.job, self.console, self.tracker = plan, job, console, tracker
        self.events, self.fatal = 0, ""
        self.train: dict[str, float] = {}
        self.val: dict[str, float] = {}
        self.lost = 0
        self._reported, self._last_event = 0.0, time.perf_counter()

    def fetch(self, journal: Any) -> None:
        """Fetch and handle the new events."""
        import ray

        try:
            events, self.fatal = ray.get(journal.read.remote(self.events), timeout=10)
        except ray.exceptions.RayError:
            return  # the next call asks again
        self.events += len(events)
        now = time.perf_counter()
        for kind, content in events:
            getattr(self, f"_{kind}")(content)
        if events:
            self._last_event = now
            if self.train and now - self._reported > REPORT_EVERY_S:
                self._progress()
        elif now - self._last_event > PATIENCE_S:
            self._last_event = now
            self.print("Workers have not reported yet; check free resources with `ray status`.")

    def print(self, text: str) -> None:
        self.console.print(text, markup=False)
        sys.stdout.flush()

    def _begin(self, facts: dict[str, Any]) -> None:
        if facts["step"]:
            workers = "1 worker" if facts["world"] == 1 else f"{facts['world']} workers"
            self.print(f"Resuming at step {facts['step']} of {self.job.steps} with {workers}.")
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
        from jobs.train.export import write_sounds
        from pipelines import storage

        try:
            uris = write_sounds(self.plan.out, sounds)
        except (storage.StorageError, OSError) as error:
            self.print(f"Cannot save the preview sounds of step {sounds['step']}: {error}")
            return
        self.tracker.artifacts(uris, f"samples/step-{sounds['step']:07d}")

    def _captions(self, columns: dict[str, list[Any]]) -> None:
        self.tracker.table(columns, "captions.json")
        text = f'"{columns["generated"][0]}"'
        if true := columns["reference"][0]:
            text += f' (the store has "{true}")'
        self.print(f"Caption of {columns['clip'][0]} at step {columns['step'][0]}: {text}.")

    def _remark(self, text: str) -> None:
        self.print(text)

    def _lost(self, reason: str) -> None:
        self.lost += 1
        if not self.fatal:
            self.print(f"A worker was lost ({reason[:300]}); training restarts from the last checkpoint.")

    def _progress(self) -> None:
        from jobs.common.terminal import clock

        self._reported = time.perf_counter()
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
        self.print(" · ".join(parts))


def _save_and_stop(journal: Any, ended: threading.Event, log: TrainLog, console: Console) -> None:
    """Let the workers save before they end; a second Ctrl-C does not wait for that."""
    import ray

    if not log.train:
        return
    console.print("Saving a checkpoint before stopping; press Ctrl-C again to stop at once.", markup=False)
    with contextlib.suppress(ray.exceptions.RayError, KeyboardInterrupt):
        journal.stop.remote()
        ended.wait(STOP_WITHIN_S)
        log.fetch(journal)


def _failure(error: BaseException) -> str:
    """The reason why Ray Train gave up, with the options that help where memory was short."""
    from jobs.train.job import out_of_memory

    failures = list(getattr(error, "worker_failures", {}).values()) or [error]
    for failure in failures:
        if "OutOfMemory" in f"{type(failure).__name__} {failure}" or "memory pressure" in str(failure):
            return out_of_memory(reason_of(failure))
    failures.sort(key=lambda failure: "Actor" not in type(failure).__name__)
    return f"training failed too often (--max-failures): {reason_of(failures[0])}"
