"""Worker of `v2a train`: the training loop of one process."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.train import preview
from jobs.train.data import in_groups, prefetch, to_tensors, validation_picks, validation_rows
from jobs.train.job import STATE, Fatal, TrainJob, out_of_memory
from pipelines import scratch
from pipelines.media.errors import first_line

POLL_STOP_EVERY_S = 0.5
"""Interval in seconds at which rank 0 polls whether to stop."""


def train_loop(config: dict[str, Any]) -> None:
    """Entry point of a Ray Train worker."""
    import ray

    journal = config["journal"]
    if ray.get(journal.reason.remote()):
        return
    import torch

    job: TrainJob = config["job"]
    try:
        Worker(job, journal, config["validation"]).run()
    except Fatal as error:
        ray.get(journal.fail.remote(str(error)))
    except torch.OutOfMemoryError as error:
        ray.get(journal.fail.remote(out_of_memory(first_line(error))))
        raise  # the others wait for this one: Ray Train must end them


@dataclass
class Pending:
    """A step whose flags may still be on their way from the device."""

    step: int
    flags: Any
    clip_ids: list[list[str]]


@dataclass
class Clock:
    """Training time, without validating and saving."""

    windows: int = 0
    started: float = field(default_factory=time.perf_counter)

    def restart(self) -> None:
        self.windows, self.started = 0, time.perf_counter()

    @property
    def rate(self) -> float:
        return self.windows / max(1e-9, time.perf_counter() - self.started)


class Worker:
    """One process of the training."""

    def __init__(self, job: TrainJob, journal: Any, validation: Any) -> None:
        import ray.train
        import torch
        from ray.train.torch import get_device

        from v2a_models.training.learner import Learner

        context = ray.train.get_context()
        self.job, self.journal, self.validation = job, journal, validation
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self.device = get_device()
        if self.device.type == "cpu":
            torch.set_num_threads(job.threads)
        self.micro = -(-job.batch_size // (self.world * job.accumulate))
        """Windows of one forward pass here; rounded up where an elastic number of workers does not divide."""
        self.batch = self.micro * job.accumulate * self.world
        """Windows of one step, over all workers."""
        torch.manual_seed(job.seed)  # every process starts from the same weights
        self.sharded = job.strategy == "fsdp" and self.world > 1
        self.generator = job.new_generator().to(self.device).eval()
        self.learner = Learner(self.generator.task(), job, wrap=self._wrap, precision=job.precision)
        self.flops = 0
        self.stopping = False
        self._pending_poll: Any = None
        self._poll_at = 0.0
        self._pending: list[Pending] = []

    def _wrap(self, task: Any) -> Any:
        """Shard the task over the workers, or let it exchange gradients between them."""
        from torch.nn.parallel import DistributedDataParallel

        from v2a_models.training import optim

        if self.sharded:
            return optim.shard(task, self.job.precision)
        if self.world == 1:
            return task
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(task, device_ids=devices)

    # the run

    def run(self) -> None:
        """Train from the last checkpoint to the last step, with validations, checkpoints and reports on the way."""
        import ray.train

        job, learner = self.job, self.learner
        self._restore()
        shard = ray.train.get_dataset_shard("train")
        if learner.step >= job.steps:
            return
        self.n_train = len(shard.feed)
        self._read_validation()
        self.report(("begin", self._facts()))
        clock, counted = Clock(), 0
        sums: dict[str, Any] = {}
        for micros, clip_ids in self._batches(shard):
            for name, value in self._train(micros, clip_ids).items():
                sums[name] = sums.get(name, 0) + value
            counted += 1
            clock.windows += self.batch
            last = learner.step == job.steps
            if learner.step % job.log_every == 0 or last or self.stopping:
                self._read_flags()
                self._log(sums, counted, clock)
                sums, counted = {}, 0
                clock.restart()
            if last or (learner.step % job.validate_every == 0 and not self.stopping):
                self._read_flags()
                self._validate()
                clock.restart()
            if last or self.stopping or learner.step % job.save_every == 0:
                self._read_flags()
                self._save()
                clock.restart()
            if self.stopping:
                return

    def _batches(self, shard: Any) -> Iterator[tuple[list[dict[str, Any]], list[list[str]]]]:
        """Micro batches of every optimiser step, and their clips."""
        from pipelines.store import training_feed

        n = self.job.accumulate * (self.job.steps - self.learner.step)
        rows = training_feed.batches(shard, self.micro, self.learner.consumed // self.world, n)
        return in_groups(prefetch(rows, to_tensors), self.job.accumulate)

    def _train(self, micros: list[dict[str, Any]], clip_ids: list[list[str]]) -> dict[str, Any]:
        """Do one step; returns its losses and the norm of its gradients."""
        import torch

        from v2a_models.training import flops

        if self.flops:
            losses, norm = self.learner.gradients(micros, self.rank)
        else:
            with flops.counting_flops() as counter:
                losses, norm = self.learner.gradients(micros, self.rank)
            self.flops = max(1, counter.get_total_flops())
        flags = torch.stack([(~torch.isfinite(losses["loss"])), ~torch.isfinite(norm)]).float()
        flags = torch.cat([flags, flags.new_tensor([float(self._stop_requested())])])
        if self.world > 1:
            torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
        self._pending.append(Pending(self.learner.step, flags, clip_ids))
        # On a GPU, reading the flags of this step now would leave it idle.
        self._read_flags(keep=0 if self.device.type == "cpu" else 1)
        self.learner.apply(self.batch)
        return {**losses, "grad_norm": norm.detach()}

    def _read_flags(self, keep: int = 0) -> None:
        """Read the flags of all but the last `keep` steps: the same on all workers, so that all act alike.

        Raises Fatal where a loss or gradient is not finite.
        """
        import torch

        while len(self._pending) > keep:
            past = self._pending.pop(0)
            loss, gradient, stop = past.flags.tolist()
            self.stopping = self.stopping or bool(stop)
            if not loss and not gradient:
                continue
            clips: list[Any] = [past.clip_ids] * self.world
            if self.world > 1:
                torch.distributed.all_gather_object(clips, past.clip_ids)
            names = sorted({clip for worker in clips for micro in worker for clip in micro})
            what = "loss" if loss else "gradient"
            raise Fatal(
                f"the {what} of step {past.step + 1} is not a finite number. The last good checkpoint stays. "
                f"Clips of that batch: {', '.join(names)}. A lower --learning-rate or --precision float32 may "
                "help; check the files with `v2a store STORE`"
            )

    def _stop_requested(self) -> bool:
        """True once the driver has requested the run to end; polls without waiting."""
        import ray

        if self.rank:
            return False
        if self._pending_poll is None:
            if time.monotonic() > self._poll_at:
                self._pending_poll, self._poll_at = (
                    self.journal.stop_requested.remote(),
                    time.monotonic() + POLL_STOP_EVERY_S,
                )
            return False
        done, _ = ray.wait([self._pending_poll], timeout=0)
        if not done:
            return False
        self._pending_poll = None
        try:
            return bool(ray.get(done[0]))
        except ray.exceptions.RayError:
            return False

    def report(self, *events: tuple[str, Any]) -> None:
        """Send events to the driver, from rank 0 only."""
        if self.rank == 0:
            self.journal.add.remote(*events)

    def _facts(self) -> dict[str, Any]:
        from v2a_models.training import flops

        self.peak, source = flops.peak_flops(self.device, self.job.precision)
        return dict(
            parameters=sum(p.numel() for p in self.learner.module.parameters()),
            world=self.world,
            step=self.learner.step,
            peak_flops=self.peak,
            peak_source=source,
            batch=self.batch,
            device=str(self.device.type),
        )

    def _log(self, sums: Mapping[str, Any], counted: int, clock: Clock) -> None:
        import torch

        learner, names = self.learner, sorted(sums)
        values = (
            torch.stack([torch.as_tensor(sums[name]).to(self.device).float() for name in names]) / counted
        )
        if self.world > 1:
            torch.distributed.all_reduce(values)
            values /= self.world
        rate = clock.rate
        self._row(
            dict(zip((f"train/{name}" for name in names), values.tolist(), strict=True))
            | {
                "learning_rate": learner.rate,
                "epoch": float(learner.consumed / max(1, self.n_train)),
                "samples_per_s": rate,
                "audio_s_per_s": rate * self.generator.recipe.window_s,
                "mfu": self.flops * rate / self.batch / self.peak,
            }
        )

    def _row(self, row: dict[str, float]) -> None:
        """Log a row of the curves: it is kept with the checkpoint and sent to the driver."""
        self.report(("row", self.learner.log(row)))

    # validation

    def _read_validation(self) -> None:
        """Read this worker's part of the windows to validate with, and the windows to preview."""
        from pipelines.store.training_feed import read_rows

        self.validating = validation_rows(self.validation, self.rank, self.world, self.micro)
        if self.rank == 0:
            picks = validation_picks(self.validation)[: preview.n_previewed(self.generator)]
            self.previewed = to_tensors(read_rows(self.validation, picks))

    def _validate(self) -> None:
        import torch

        def add_up(sums: torch.Tensor) -> None:
            if self.world > 1:
                torch.distributed.all_reduce(sums)

        with self.learner.averaged():
            losses = self.learner.validate(self.validating, self.rank, add_up)
            self._row({f"val/{name}": value for name, value in losses.items()})
            for remark in self.generator.remarks(losses):
                self.report(("remark", f"Step {self.learner.step}: {remark}."))
            self._preview()

    def _preview(self) -> None:
        """Send the sounds and captions of the fixed windows; the averaged weights are in place."""
        from v2a_models.training import optim

        generator = self.generator
        if self.sharded:
            state = {
                name: optim.full_tensor(tensor) for name, tensor in self.learner.module.state_dict().items()
            }
            if self.rank == 0:  # a sharded model cannot sample on one worker alone
                generator = self.job.new_generator()
                generator.task().load_state_dict(state, strict=False)
                generator = generator.to(self.device).eval()
        if self.rank:
            return
        (batch, clips), step = self.previewed, self.learner.step
        batch = optim.to_device(batch, self.device)
        if generator.makes_sound:
            self.report(("sounds", dict(step=step, **preview.sounds(generator, batch, clips))))
        # Under a model of sound the language model is frozen: its captions are sent once.
        if generator.writes_captions and (not generator.makes_sound or step == self.job.steps):
            self.report(("captions", preview.captions(generator, batch, clips, step)))

    # checkpoints

    def _restore(self) -> None:
        import ray.train
        import torch

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None and self.job.resume:
            from jobs.train.checkpoints import checkpoint_at

            checkpoint = checkpoint_at(self.job.resume)
        if checkpoint is None:
            return
        with checkpoint.as_directory() as folder:
            try:
                self.learner.restore(torch.load(Path(folder, STATE), map_location="cpu", weights_only=True))
            except Exception as error:  # a damaged file can raise anything
                raise Fatal(
                    f"the checkpoint {checkpoint.path} cannot be used ({first_line(error)}): delete that "
                    "folder and run the same command again, to resume from the checkpoint before it"
                ) from error

    def _save(self) -> None:
        import ray.train
        import torch
        from ray.train import Checkpoint

        state = self.learner.state() | dict(seed=self.job.seed, world=self.world)
        losses = [row["train/loss"] for row in self.learner.history if "train/loss" in row]
        metrics = dict(step=self.learner.step, loss=losses[-1] if losses else math.nan)
        with scratch.folder() as folder:
            checkpoint = None
            if self.rank == 0:
                torch.save(state, folder / STATE)
                checkpoint = Checkpoint.from_directory(str(folder))
            ray.train.report(metrics, checkpoint=checkpoint)
