"""What every worker of `v2a train` runs, and the one small actor through which they talk to the driver.

The randomness of a step is a function of (seed, step, batch, rank): the number of the step in a checkpoint is the
state of every random generator.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

STATE = "state.pt"
N_SAMPLES = 2
"""Windows that are turned into sound at every validation."""
VALIDATED_ROWS = 256
VALIDATED_BYTES = 512 << 20


@dataclass(frozen=True)
class Job:
    """What the workers need to know, in plain values."""

    system: str
    size: str
    recipe: dict[str, Any]
    files: dict[str, str]
    start: str
    options: dict[str, Any]
    steps: int
    batch_size: int
    accumulate: int
    learning_rate: float
    warmup: int
    weight_decay: float
    clip_norm: float
    ema: float
    precision: str
    save_every: int
    validate_every: int
    log_every: int
    seed: int
    strategy: str
    threads: int
    resume: str = ""
    """A checkpoint folder that counts where Ray Train knows of none."""


class Journal:
    """What the workers have to say, kept for the driver, and whether they are to stop. Runs as an actor."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.forgotten = 0
        self.stopping = False
        self.fatal = ""

    def add(self, *events: tuple[str, Any]) -> bool:
        """Takes events (kind, content); whether the run is to stop."""
        self.events += events
        return self.stopping

    def fail(self, reason: str) -> None:
        """Nothing that trying again would mend: workers that start anew leave at once."""
        self.fatal = self.fatal or reason

    def stop(self) -> None:
        """Ask the workers to save and to end."""
        self.stopping = True

    def read(self, since: int) -> tuple[list[tuple[str, Any]], str]:
        """Events from number `since` on (the earlier ones are forgotten), and why the run cannot go on, if so."""
        self.events = self.events[max(0, since - self.forgotten) :]
        self.forgotten = max(self.forgotten, since)
        return self.events, self.fatal

    def reason(self) -> str:
        """Why the run cannot go on; empty if it can."""
        return self.fatal


class Fatal(Exception):
    """The run cannot go on, and trying again would not help; the message says why."""


def train_loop(config: dict[str, Any]) -> None:
    """One worker of Ray Train."""
    import ray

    journal = config["journal"]
    if ray.get(journal.reason.remote()):
        return
    import torch

    job: Job = config["job"]
    try:
        Worker(job, journal, config["validation"]).run()
    except Fatal as error:
        ray.get(journal.fail.remote(str(error)))
    except torch.OutOfMemoryError as error:
        ray.get(journal.fail.remote(out_of_memory(str(error).splitlines()[0])))
        raise  # the others wait for this one: Ray Train must end them


def out_of_memory(detail: str) -> str:
    """The message, with what to turn."""
    return (
        f"out of memory ({detail}). Take less at a time: a higher --accumulate (the same training, in smaller pieces), "
        "a lower --batch-size, fewer --workers on a machine, or --strategy fsdp with more of them"
    )


@dataclass
class Pending:
    """A step whose figures may still be on their way from the device."""

    step: int
    flags: Any
    clip_ids: list[list[str]]


@dataclass
class Clock:
    """Time spent training, without validating and saving."""

    windows: int = 0
    started: float = field(default_factory=time.perf_counter)

    def restart(self) -> None:
        self.windows, self.started = 0, time.perf_counter()

    @property
    def rate(self) -> float:
        return self.windows / max(1e-9, time.perf_counter() - self.started)


class Worker:
    """One process of the training."""

    def __init__(self, job: Job, journal: Any, validation: Any) -> None:
        import ray.train
        import torch
        from ray.train.torch import get_device

        from v2a_models import fitting
        from v2a_models.recipe import Recipe
        from v2a_models.systems import new_generator

        context = ray.train.get_context()
        self.job, self.journal, self.validation = job, journal, validation
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self.device = get_device()
        if self.device.type == "cpu":
            torch.set_num_threads(job.threads)
        self.micro = -(-job.batch_size // (self.world * job.accumulate))
        """Windows of one forward pass here; rounded up where an elastic number of workers does not divide."""
        torch.manual_seed(job.seed)  # every process starts from the same weights
        recipe = Recipe.from_dict(job.recipe)
        self.generator = new_generator(
            job.system, recipe, job.size, files=job.files, start=job.start, **job.options
        ).to(self.device)
        self.generator.eval()
        self.module = self.generator.task()
        self.sharded = job.strategy == "fsdp" and self.world > 1
        self.task = self._spread(self.module)
        self.schedule = fitting.Schedule(job.steps, job.learning_rate, job.warmup)
        self.optimizer = fitting.adamw(self.task, job.learning_rate, job.weight_decay)
        self.average = fitting.Average(self.module, job.ema)
        self.step, self.consumed = 0, 0
        self.history: list[dict[str, float]] = []
        self.flops = 0
        self.stopping = False
        self._asked: Any = None
        self._pending: list[Pending] = []

    def _spread(self, task: Any) -> Any:
        from torch.nn.parallel import DistributedDataParallel

        from v2a_models import fitting

        task.train()
        if self.sharded:
            return fitting.shard(task, self.job.precision)
        if self.world == 1:
            return task
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(task, device_ids=devices)

    # the run

    def run(self) -> None:
        import ray.train

        self._restore()
        shard = ray.train.get_dataset_shard("train")
        if self.step >= self.job.steps:
            return
        self.n_train = len(shard.feed)
        self._read_validation()
        self.say(("begin", self._facts()))
        clock, counted = Clock(), 0
        sums: dict[str, Any] = {}
        for micros, clip_ids in self._batches(shard):
            losses, norm = self._train(micros, clip_ids)
            self.step += 1
            self.consumed += self.micro * self.job.accumulate * self.world
            clock.windows += self.micro * self.job.accumulate * self.world
            for name, value in {**losses, "grad_norm": norm}.items():
                sums[name] = sums.get(name, 0) + value
            counted += 1
            last = self.step == self.job.steps
            if self.step % self.job.log_every == 0 or last or self.stopping:
                self._settle()
                self._log(sums, counted, clock)
                sums, counted = {}, 0
                clock.restart()
            if last or self.stopping or self.step % self.job.validate_every == 0:
                if not self.stopping or last:
                    self._settle()
                    self._validate()
                clock.restart()
            if last or self.stopping or self.step % self.job.save_every == 0:
                self._settle()
                self._save()
                clock.restart()
            if self.stopping:
                return

    def _batches(self, shard: Any) -> Iterator[tuple[list[dict[str, Any]], list[list[str]]]]:
        """For every optimiser step the micro batches, on the device, and their clips."""
        from pipelines import feed

        n = self.job.accumulate * (self.job.steps - self.step)
        rows = ahead(feed.batches(shard, self.micro, self.consumed // self.world, n), to_tensors)
        for tensors, clips in _by(rows, self.job.accumulate):
            yield (
                [{k: v.to(self.device, non_blocking=True) for k, v in batch.items()} for batch in tensors],
                clips,
            )

    def _train(self, micros: Sequence[Mapping[str, Any]], clip_ids: list[list[str]]) -> tuple[Any, Any]:
        import torch

        from v2a_models import fitting

        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        seeds = [self._seed(at) for at in range(len(micros))]
        self.optimizer.zero_grad(set_to_none=True)
        if self.flops:
            losses = fitting.backward(self.task, micros, seeds, self.job.precision)
        else:
            with fitting.counting_flops() as counter:
                losses = fitting.backward(self.task, micros, seeds, self.job.precision)
            self.flops = max(1, counter.get_total_flops())
        norm = fitting.clip(self.task, self.job.clip_norm)
        flags = torch.stack([(~torch.isfinite(losses["loss"])), ~torch.isfinite(norm)]).float()
        flags = torch.cat([flags, flags.new_tensor([float(self._asked_to_stop())])])
        if self.world > 1:
            torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
        self._pending.append(Pending(self.step, flags, clip_ids))
        if self.device.type == "cpu":
            self._settle()
        else:  # asking the device for this step's figures now would leave it idle
            self._settle(keep=1)
        self.optimizer.step()
        self.average.update(self.step)
        return losses, norm.detach()

    def _settle(self, keep: int = 0) -> None:
        """Looks at the figures of past steps: all workers see the same and do the same. Raises Fatal for NaN."""
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
            named = sorted({clip for worker in clips for micro in worker for clip in micro})
            what = "loss" if loss else "gradient"
            raise Fatal(
                f"the {what} of step {past.step + 1} is not a finite number. The last good checkpoint stays. "
                f"Clips of that batch: {', '.join(named)}. A lower --learning-rate or --precision float32 may "
                "help; `v2a store STORE` says whether the files are sound"
            )

    def _seed(self, at: int) -> int:
        from v2a_models.seeds import window_seed

        return window_seed(self.job.seed, f"step {self.step} of {self.rank}", at)

    def _asked_to_stop(self) -> bool:
        """Whether the driver wants the run to end; never waits for the answer."""
        import ray

        if self.rank or self._asked is None:
            return False
        done, _ = ray.wait([self._asked], timeout=0)
        if not done:
            return False
        self._asked = None
        try:
            return bool(ray.get(done[0]))
        except ray.exceptions.RayError:
            return False

    def say(self, *events: tuple[str, Any]) -> None:
        """To the driver; only rank 0 speaks."""
        if self.rank == 0:
            self._asked = self.journal.add.remote(*events)

    def _facts(self) -> dict[str, Any]:
        from v2a_models import fitting

        peak, source = fitting.peak_flops(self.device, self.job.precision)
        self.peak = peak
        n = sum(p.numel() for p in self.module.parameters())
        return dict(
            parameters=n, world=self.world, step=self.step, peak_flops=peak, peak_source=source,
            batch=self.micro * self.job.accumulate * self.world, device=str(self.device.type),
        )  # fmt: skip

    def _log(self, sums: Mapping[str, Any], counted: int, clock: Clock) -> None:
        import torch

        names = sorted(sums)
        values = (
            torch.stack([torch.as_tensor(sums[name]).to(self.device).float() for name in names]) / counted
        )
        if self.world > 1:
            torch.distributed.all_reduce(values)
            values /= self.world
        rate = clock.rate
        row = dict(zip((f"train/{name}" for name in names), values.tolist(), strict=True))
        flops = self.flops * (rate / (self.micro * self.job.accumulate * self.world))
        row |= {
            "step": self.step,
            "learning_rate": self.schedule.rate(self.step - 1),
            "epoch": float(self.consumed / max(1, self.n_train)),
            "samples_per_s": rate,
            "audio_s_per_s": rate * self.generator.recipe.window_s,
            "mfu": flops / self.peak if self.rank == 0 else 0.0,
        }
        self.history.append(row)
        self.say(("row", row))

    # validation

    def _read_validation(self) -> None:
        """Reads this worker's part of the windows to validate with, once."""
        from pipelines import feed as feeding

        feed = self.validation
        n = min(VALIDATED_ROWS, max(1, VALIDATED_BYTES // max(1, feed.row_bytes)))
        picks = feed.spread(n)
        own = np.array_split(picks, self.world)[self.rank]
        self.n_validating = -(-max(len(p) for p in np.array_split(picks, self.world)) // self.micro)
        size = max(self.micro, 1)
        # Every worker makes the same number of passes, or a sharded model would wait for ever.
        chunks = [own[at * size : (at + 1) * size] for at in range(self.n_validating)]
        rows = [feeding.read_rows(feed, chunk if len(chunk) else picks[:1]) for chunk in chunks]
        self.validating = [
            (to_tensors(block)[0], float(len(chunk))) for block, chunk in zip(rows, chunks, strict=True)
        ]
        if self.rank == 0:
            self.shown = to_tensors(feeding.read_rows(feed, picks[:N_SAMPLES]))

    def _validate(self) -> None:
        import torch

        from v2a_models import fitting

        self.task.eval()
        sums: dict[str, Any] = {}
        with self.average.in_place(), torch.no_grad():
            for at, (batch, weight) in enumerate(self.validating):
                batch = {k: v.to(self.device) for k, v in batch.items()}
                with fitting.autocast(batch, self.job.precision):
                    # Not the DDP wrapper: here every worker has its own part and nothing is exchanged.
                    losses = self.module(batch, 1_000_003 * (at + 1) + self.rank)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0) + value.float() * weight
            names = sorted(sums)
            total = float(sum(weight for _, weight in self.validating))
            values = torch.stack([sums[name] for name in names] + [torch.tensor(total, device=self.device)])
            if self.world > 1:
                torch.distributed.all_reduce(values)
            row = {f"val/{n}": float(v / values[-1]) for n, v in zip(names, values, strict=False)}
            row["step"] = self.step
            self.history.append(row)
            self.say(("row", row))
            sounds = self._sounds()
        self.task.train()
        if sounds is not None:
            self.say(("sounds", dict(step=self.step, **sounds)))

    def _sounds(self) -> dict[str, Any] | None:
        """Generated sound of the fixed windows and, decoded from their codes, what was really heard: int16."""
        import torch

        from v2a_models.batch import Batch

        generator = self.generator
        if self.sharded:
            # The averaged weights are in place now.
            state = {name: whole(tensor) for name, tensor in self.module.state_dict().items()}
            if self.rank == 0:
                generator = self._copy(state)
        if self.rank:
            return None
        batch, clips = self.shown
        batch = {k: v.to(self.device) for k, v in batch.items()}
        features = Batch(semantic=batch.get("semantic"), sync=batch.get("sync"))
        with torch.inference_mode():
            made = generator.generate(features, seeds=list(range(len(clips))))
            codec = getattr(generator, "codec", None)
            true = None
            if codec is not None and "codes" in batch:
                true = codec.decode(batch["codes"], generator.recipe.window)
        return dict(
            clips=clips,
            rate=generator.recipe.sample_rate,
            made=_pcm(made),
            true=None if true is None else _pcm(true),
        )

    def _copy(self, state: Mapping[str, Any]) -> Any:
        """A whole generator with these weights: a sharded one cannot sample on one worker alone."""
        from v2a_models.recipe import Recipe
        from v2a_models.systems import new_generator

        job = self.job
        generator = new_generator(
            job.system,
            Recipe.from_dict(job.recipe),
            job.size,
            files=job.files,
            start=job.start,
            **job.options,
        )
        generator.task().load_state_dict(dict(state), strict=False)
        return generator.to(self.device).eval()

    # checkpoints

    def _restore(self) -> None:
        import ray.train
        import torch

        from v2a_models import fitting

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None and self.job.resume:
            from jobs.train_plan import checkpoint_at

            checkpoint = checkpoint_at(self.job.resume)
        if checkpoint is None:
            return
        with checkpoint.as_directory() as folder:
            try:
                state = torch.load(Path(folder, STATE), map_location="cpu", weights_only=True)
                fitting.restore(self.task, self.optimizer, state)
                self.average.load(state["ema"])
                self.step, self.consumed = int(state["step"]), int(state["consumed"])
                self.history = json.loads(state["history"])
            except Exception as error:  # whatever a damaged file trips
                raise Fatal(
                    f"the checkpoint {checkpoint.path} cannot be used ({str(error).splitlines()[0]}): delete that "
                    "folder and run the same command again, it goes on from the one before"
                ) from error

    def _save(self) -> None:
        import ray.train
        import torch
        from ray.train import Checkpoint

        from v2a_models import fitting

        state = fitting.gather(self.task, self.optimizer) | dict(
            ema=self.average.state(),
            step=self.step,
            consumed=self.consumed,
            seed=self.job.seed,
            world=self.world,
            history=json.dumps(self.history),
        )
        losses = [row for row in self.history if "train/loss" in row]
        metrics = dict(step=self.step, loss=losses[-1]["train/loss"] if losses else math.nan)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if self.rank == 0:
                torch.save(state, Path(folder, STATE))
                checkpoint = Checkpoint.from_directory(folder)
            ray.train.report(metrics, checkpoint=checkpoint)
        self.say(("saved", self.step))


def whole(tensor: Any) -> Any:
    """A possibly sharded tensor as a whole one."""
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach()


def to_tensors(rows: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], list[str]]:
    """Columns as a model takes them: numbers as float32, tokens as int64; and the clips."""
    import torch

    tensors = {}
    for name, array in rows.items():
        if name != "clip_id":
            wide = np.float32 if array.dtype == np.float16 else np.int64 if array.dtype == np.uint16 else None
            tensors[name] = torch.from_numpy(np.array(array, dtype=wide, order="C"))
    return tensors, [str(clip) for clip in rows["clip_id"]]


def ahead(rows: Iterator[Any], convert: Callable[[Any], Any], depth: int = 2) -> Iterator[Any]:
    """The converted items, made by a thread that is up to `depth` of them ahead."""
    import queue
    import threading

    made: queue.Queue[Any] = queue.Queue(depth)
    ended = threading.Event()

    def put(item: Any) -> bool:
        while not ended.is_set():
            with contextlib.suppress(queue.Full):
                made.put(item, timeout=0.5)
                return True
        return False

    def work() -> None:
        try:
            for item in rows:
                if not put((convert(item), None)):
                    return
            put((None, StopIteration()))
        except BaseException as error:  # raised where the rows are used
            put((None, error))

    threading.Thread(target=work, name="feed", daemon=True).start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        ended.set()


def _by(items: Iterator[tuple[Any, Any]], n: int) -> Iterator[tuple[list[Any], list[Any]]]:
    """n items at a time."""
    gathered: list[tuple[Any, Any]] = []
    for item in items:
        gathered.append(item)
        if len(gathered) == n:
            yield [a for a, _ in gathered], [b for _, b in gathered]
            gathered = []


def _pcm(sound: Any) -> np.ndarray:
    """int16 (B, channels, samples)."""
    return (sound.float().clamp(-1, 1) * 32767).round().short().cpu().numpy()


def wav(samples: np.ndarray, rate: int) -> bytes:
    """int16 (channels, samples) as a .wav file."""
    from scipy.io import wavfile

    sink = io.BytesIO()
    wavfile.write(sink, rate, samples.T)
    return sink.getvalue()
