"""Trial of `v2a tune`: a resumable training in one process that reports its validation losses to Ray Tune."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.train.data import prefetch, to_tensors, validation_rows
from jobs.train.job import STATE, TrainJob
from pipelines import storage
from pipelines.media.errors import first_line
from pipelines.store.shards import Feed, Shard
from pipelines.store.training_feed import read_rows

if TYPE_CHECKING:
    from torch import Tensor

TRAINING = ("learning_rate", "warmup", "weight_decay", "ema", "batch_size")
"""Parameters of the training; any other is an option of the model."""
VALIDATE_BY = 32
"""Windows per validation batch, the same in every trial: a contrastive loss depends on it."""
LAST, BEST = "last", "best"


@dataclass(frozen=True)
class Work:
    """Settings and data that trials have in common."""

    job: TrainJob
    """Settings where a trial has none of its own."""
    train: Feed
    val: Feed
    place: str
    """Folder of the trials' states."""
    report_every: int
    metric: str
    gpu: bool


class Failed(Exception):
    """The trial cannot be finished, and another try would not help; the message says why."""


def trial_folder(place: str, number: int) -> str:
    """Folder of the weights of trial `number`."""
    return storage.join(place, f"{number:04d}")


def trial_job(job: TrainJob, parameters: Mapping[str, Any]) -> TrainJob:
    """Settings of one trial."""
    own = {name: value for name, value in parameters.items() if name in TRAINING}
    options = {name: value for name, value in parameters.items() if name not in TRAINING}
    return dataclasses.replace(job, **own, options={**job.options, **options})


def run_trial(config: dict[str, Any], work: Work) -> None:
    """Trainable of Ray Tune; `config` holds the trial's `number` and its parameters.

    A trial that its parameters make fail reports an `error`. Raises StorageError, which another try may mend.
    """
    from ray import tune

    parameters = {name: value for name, value in config.items() if name != "number"}
    folder = trial_folder(work.place, config["number"])
    try:
        with contextlib.closing(Trial(work, parameters, folder).reports()) as reports:
            for report in reports:
                tune.report(report)
    except storage.StorageError:
        raise
    except Exception as error:  # a failure is the result of these parameters
        # Raised, it would end the process, and Ray Tune would try again.
        reason = _reason(error)
        tune.report({"error": reason})


def _reason(error: Exception) -> str:
    text = first_line(error)
    if "OutOfMemory" in type(error).__name__ or "allocate memory" in text:
        return f"out of memory ({text}): smaller --batch-size, --dim or --depth, or fewer --workers"
    return text if isinstance(error, (Failed, ValueError)) else f"{type(error).__name__}: {text}"


class Trial:
    """Training of one trial, with the learner of `v2a train`."""

    def __init__(self, work: Work, parameters: Mapping[str, Any], folder: str) -> None:
        import torch

        from v2a_models.training.learner import Learner

        self.work, self.folder = work, folder
        self.job = job = trial_job(work.job, parameters)
        if not work.gpu:
            torch.set_num_threads(job.threads)
        torch.manual_seed(job.seed)
        generator = job.new_generator().to("cuda" if work.gpu else "cpu").eval()
        self.learner = Learner(generator.task(), job, precision=job.precision)
        self.seconds, self.best = 0.0, math.inf
        self._restore()

    def reports(self) -> Generator[dict[str, Any], None, None]:
        """Reports to Ray Tune, one per validation; the trial is saved before each."""
        learner = self.learner
        if learner.step:
            yield self._report()
        if learner.step >= self.job.steps:
            return
        self.validating = validation_rows(self.work.val, 0, 1, VALIDATE_BY)
        rows = batches(self.work.train.shard(0, 1), self.job.batch_size, learner.consumed)
        started = time.perf_counter()
        with contextlib.closing(prefetch(rows, to_tensors)) as feed:  # type: ignore[type-var]
            losses = []
            for batch, _ in feed:
                losses.append(self._train(batch))
                last = learner.step == self.job.steps
                validating = last or learner.step % self.work.report_every == 0
                if validating or learner.step % self.job.log_every == 0:
                    self._log(losses)
                    losses = []
                if validating:
                    improved = self._validate()
                    now = time.perf_counter()
                    self.seconds, started = self.seconds + now - started, now
                    self._save(improved)
                    yield self._report()
                    started = time.perf_counter()
                if last:
                    return

    def _report(self) -> dict[str, Any]:
        name = f"val/{self.work.metric}"
        curve = [[int(row["step"]), row[name]] for row in self.learner.history if name in row]
        return dict(step=self.learner.step, loss=self.best, seconds=self.seconds, curve=json.dumps(curve))

    def _train(self, batch: Mapping[str, Tensor]) -> Tensor:
        losses, _ = self.learner.gradients([batch])
        self.learner.apply(self.job.batch_size)
        return losses["loss"]

    def _log(self, losses: list[Tensor]) -> None:
        import torch

        learner = self.learner
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise Failed(f"the loss is not a finite number at step {learner.step}")
        epoch = learner.consumed / len(self.work.train)
        learner.log({"train/loss": mean, "learning_rate": learner.rate, "epoch": epoch})

    def _validate(self) -> bool:
        """Log the validation losses of the averaged weights; returns True for the best so far."""
        learner, metric = self.learner, self.work.metric
        with learner.averaged():
            losses = learner.validate(self.validating)
        if metric not in losses:
            raise Failed(f"unknown --metric {metric}: choose one of {', '.join(losses)}")
        value = losses[metric]
        if not math.isfinite(value):
            raise Failed(f"the validation loss is not a finite number at step {learner.step}")
        learner.log({f"val/{name}": loss for name, loss in losses.items()})
        improved = value < self.best
        self.best = min(self.best, value)
        return improved

    # state

    def _save(self, improved: bool) -> None:
        state = self.learner.state() | dict(seconds=self.seconds, best=self.best)
        # The best first: a trial killed between the two reaches this point again and writes both.
        if improved:
            self._put(BEST, {name: value for name, value in state.items() if name != "optimizer"})
        self._put(LAST, state)

    def _put(self, name: str, state: dict[str, Any]) -> None:
        import torch

        sink = io.BytesIO()
        torch.save(state, sink)
        storage.write_atomic(storage.join(self.folder, name, STATE), sink.getvalue())

    def _restore(self) -> None:
        import torch

        try:
            content = storage.read_bytes(storage.join(self.folder, LAST, STATE))
        except storage.StorageNotFound:
            return
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        self.learner.restore(state)
        self.seconds, self.best = float(state["seconds"]), float(state["best"])


def batches(shard: Shard, size: int, position: int) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches of a shard from row `position` on, in the order of `v2a train`, read in this process.

    Ray Data is not used: its reading tasks would wait for a core that the trials have booked.
    """
    waiting: dict[str, np.ndarray] | None = None
    epoch, skip = shard.locate(position)
    while True:
        for picks in shard.groups(epoch):
            left = picks[skip:]
            skip = max(0, skip - len(picks))
            if not len(left):
                continue
            rows = read_rows(shard.feed, left)
            if waiting is not None:
                rows = {name: np.concatenate([waiting[name], rows[name]]) for name in rows}
            at, n = 0, len(rows["clip_id"])
            while n - at >= size:
                yield {name: array[at : at + size] for name, array in rows.items()}
                at += size
            waiting = {name: array[at:] for name, array in rows.items()} if at < n else None
        epoch += 1
