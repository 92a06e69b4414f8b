"""One trial of `v2a tune`: a training in one process that says how well it does every so often, and can go on."""

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

from jobs.train_loop import STATE, VALIDATED_BYTES, VALIDATED_ROWS, Job, ahead, to_tensors
from pipelines import storage
from pipelines.feed import Feed, Shard, read_rows

if TYPE_CHECKING:
    from torch import Tensor

TRAINING = ("learning_rate", "warmup", "weight_decay", "ema", "batch_size")
"""Parameters of the training; all others are options of the model."""
VALIDATE_BY = 32
"""Windows of one validating pass. The same in every trial: a contrastive loss depends on it."""
LAST, BEST = "last", "best"


@dataclass(frozen=True)
class Work:
    """What all trials share."""

    job: Job
    """Its values count where a trial has none of its own."""
    train: Feed
    val: Feed
    place: str
    """Where trials keep what they need to go on."""
    report_every: int
    metric: str
    gpu: bool


class Failed(Exception):
    """The trial cannot be finished, and trying again would not help; the message says why."""


def trial_folder(place: str, number: int) -> str:
    """Where trial `number` keeps its weights."""
    return storage.join(place, f"{number:04d}")


def trial_job(job: Job, parameters: Mapping[str, Any]) -> Job:
    """Settings of one trial."""
    own = {name: value for name, value in parameters.items() if name in TRAINING}
    options = {name: value for name, value in parameters.items() if name not in TRAINING}
    return dataclasses.replace(job, **own, options={**job.options, **options})


def run_trial(config: dict[str, Any], work: Work) -> None:
    """The function that Ray Tune runs. config: `number` and the parameters of the trial.

    A trial that fails by its parameters reports its `error`; it raises only what another try may mend.
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
    except Exception as error:  # whatever these parameters trip over is the result of the trial
        # Not raised: Ray Tune would end the process, and try again what can only fail again.
        reason = _reason(error)
        tune.report({"error": reason})


def _reason(error: Exception) -> str:
    text = (str(error).strip() or repr(error)).splitlines()[0]
    if "OutOfMemory" in type(error).__name__ or "allocate memory" in text:
        return f"out of memory ({text}): smaller --batch-size, --dim or --depth, or fewer --workers"
    return text if isinstance(error, (Failed, ValueError)) else f"{type(error).__name__}: {text}"


class Trial:
    """A training by the pieces of `v2a train`, without its processes."""

    def __init__(self, work: Work, parameters: Mapping[str, Any], folder: str) -> None:
        import torch

        from v2a_models import fitting
        from v2a_models.recipe import Recipe
        from v2a_models.systems import new_generator

        self.work, self.folder = work, folder
        self.job = job = trial_job(work.job, parameters)
        self.device = torch.device("cuda" if work.gpu else "cpu")
        if not work.gpu:
            torch.set_num_threads(job.threads)
        torch.manual_seed(job.seed)
        generator = new_generator(
            job.system,
            Recipe.from_dict(job.recipe),
            job.size,
            files=job.files,
            start=job.start,
            **job.options,
        )
        self.generator = generator.to(self.device).eval()
        self.task = generator.task().train()
        self.schedule = fitting.Schedule(job.steps, job.learning_rate, job.warmup)
        self.optimizer = fitting.adamw(self.task, job.learning_rate, job.weight_decay)
        self.average = fitting.Average(self.task, job.ema)
        self.step, self.seconds, self.best = 0, 0.0, math.inf
        self.history: list[dict[str, float]] = []
        self._restore()

    def reports(self) -> Generator[dict[str, Any], None, None]:
        """What Ray Tune is told at every validation; by then the trial is saved."""
        if self.step:
            yield self._report()
        if self.step >= self.job.steps:
            return
        self._read_validation()
        shard = self.work.train.shard(0, 1)
        rows = batches(shard, self.job.batch_size, self.step * self.job.batch_size)
        started = time.perf_counter()
        with contextlib.closing(ahead(rows, to_tensors)) as feed:  # type: ignore[type-var]
            losses = []
            for batch, _ in feed:
                losses.append(self._train(batch))
                last = self.step == self.job.steps
                validating = last or self.step % self.work.report_every == 0
                if validating or self.step % self.job.log_every == 0:
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
        curve = [[int(row["step"]), row[name]] for row in self.history if name in row]
        return dict(step=self.step, loss=self.best, seconds=self.seconds, curve=json.dumps(curve))

    def _train(self, batch: Mapping[str, Tensor]) -> Tensor:
        from v2a_models import fitting
        from v2a_models.seeds import window_seed

        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        self.optimizer.zero_grad(set_to_none=True)
        seed = window_seed(self.job.seed, f"step {self.step} of 0", 0)
        losses = fitting.backward(self.task, [batch], [seed], self.job.precision)
        fitting.clip(self.task, self.job.clip_norm)
        self.optimizer.step()
        self.average.update(self.step)
        self.step += 1
        return losses["loss"]

    def _log(self, losses: list[Tensor]) -> None:
        import torch

        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise Failed(f"the loss is not a finite number at step {self.step}")
        row = {"step": self.step, "train/loss": mean, "learning_rate": self.schedule.rate(self.step - 1)}
        self.history.append(row | {"epoch": self.step * self.job.batch_size / len(self.work.train)})

    # validation

    def _read_validation(self) -> None:
        feed = self.work.val
        picks = feed.spread(min(VALIDATED_ROWS, max(1, VALIDATED_BYTES // max(1, feed.row_bytes))))
        parts = np.array_split(picks, -(-len(picks) // VALIDATE_BY))
        self.validating = [(to_tensors(read_rows(feed, part))[0], len(part)) for part in parts]

    def _validate(self) -> bool:
        """Notes the losses of the averaged weights; whether they are the best so far."""
        import torch

        from v2a_models import fitting

        self.task.eval()
        sums: dict[str, float] = {}
        with self.average.in_place(), torch.no_grad():
            for at, (batch, weight) in enumerate(self.validating):
                batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
                with fitting.autocast(batch, self.job.precision):
                    losses = self.task(batch, 1_000_003 * (at + 1))
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * weight
        self.task.train()
        total = sum(weight for _, weight in self.validating)
        row = {f"val/{name}": value / total for name, value in sums.items()}
        if self.work.metric not in sums:
            raise Failed(f"there is no --metric {self.work.metric}: choose one of {', '.join(sorted(sums))}")
        value = row[f"val/{self.work.metric}"]
        if not math.isfinite(value):
            raise Failed(f"the validation loss is not a finite number at step {self.step}")
        self.history.append({"step": self.step, **row})
        improved = value < self.best
        self.best = min(self.best, value)
        return improved

    # what a killed trial goes on from

    def _save(self, improved: bool) -> None:
        from v2a_models import fitting

        state = fitting.gather(self.task, self.optimizer) | dict(
            ema=self.average.state(),
            step=self.step,
            consumed=self.step * self.job.batch_size,
            seconds=self.seconds,
            best=self.best,
            history=json.dumps(self.history),
        )
        # The best first: killed between the two, the trial finds that it has done so again, and writes it again.
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

        from v2a_models import fitting

        try:
            content = storage.read_bytes(storage.join(self.folder, LAST, STATE))
        except storage.StorageNotFound:
            return
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        fitting.restore(self.task, self.optimizer, state)
        self.average.load(state["ema"])
        self.step, self.seconds, self.best = int(state["step"]), float(state["seconds"]), float(state["best"])
        self.history = json.loads(state["history"])


def batches(shard: Shard, size: int, position: int) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches of a shard from row `position` on, in the order of `v2a train`, read here and now.

    Without Ray Data, whose reading tasks would wait for a core that the trials have booked.
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
