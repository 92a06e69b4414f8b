"""One training in progress: what is trained, its optimiser, its averaged weights, and how far it is.

Works in one process or in many (`spread`), and knows nothing of how they were started.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from v2a_models.generator import Generator
from v2a_models.seeds import window_seed
from v2a_models.training import optim

Rows = Sequence[tuple[Mapping[str, Tensor], float]]
"""Batches to validate with, each with the number of its windows."""


class Settings(Protocol):
    """What decides an optimisation."""

    @property
    def steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def clip_norm(self) -> float: ...
    @property
    def ema(self) -> float: ...
    @property
    def precision(self) -> str: ...
    @property
    def seed(self) -> int: ...


class Learner:
    """A generator that is being trained.

    spread: makes a task that exchanges gradients (or is cut) out of the plain one; the same call in all processes.
    """

    def __init__(
        self,
        generator: Generator,
        settings: Settings,
        device: torch.device,
        spread: Callable[[nn.Module], nn.Module] = lambda task: task,
    ) -> None:
        self.settings, self.device = settings, device
        self.generator = generator.to(device).eval()
        self.module = self.generator.task().train()
        self.task = spread(self.module)
        self.schedule = optim.Schedule(settings.steps, settings.learning_rate, settings.warmup)
        self.optimizer = optim.adamw(self.task, settings.learning_rate, settings.weight_decay)
        self.average = optim.Average(self.module, settings.ema)
        self.step = 0
        """Optimiser steps done."""
        self.consumed = 0
        """Windows seen, in all processes."""
        self.history: list[dict[str, float]] = []

    @property
    def rate(self) -> float:
        """Learning rate of the step that was done last."""
        return self.schedule.rate(max(0, self.step - 1))

    def gradients(
        self, micros: Sequence[Mapping[str, Tensor]], rank: int = 0
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Losses of the next step and the norm of its gradients, which are clipped and not yet applied."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        # The step decides its randomness: the number of the step is the state of every random generator.
        seeds = [
            window_seed(self.settings.seed, f"step {self.step} of {rank}", at) for at in range(len(micros))
        ]
        losses = optim.backward(self.task, micros, seeds, self.settings.precision)
        return losses, optim.clip(self.task, self.settings.clip_norm)

    def apply(self, windows: int) -> None:
        """Does the step; `windows` were seen for it."""
        self.optimizer.step()
        self.average.update(self.step)
        self.step += 1
        self.consumed += windows

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside the block the averaged weights are in place, for validating and sampling."""
        self.task.eval()
        with self.average.in_place(), torch.no_grad():
            yield
        self.task.train()

    def validate(self, rows: Rows, rank: int = 0) -> tuple[list[str], Tensor]:
        """Names of the losses; their sums over the windows of `rows`, and last the number of these: float32 (n+1).

        Sums, so that processes with a part of the windows each can add theirs up. Inside `averaged`.
        """
        sums: dict[str, Tensor] = {}
        for at, (batch, weight) in enumerate(rows):
            batch = {
                name: column.to(self.device) if isinstance(column, Tensor) else column
                for name, column in batch.items()
            }
            with optim.autocast(batch, self.settings.precision):
                # Not the spread task: every process has its own part and nothing is exchanged.
                losses = self.module(batch, 1_000_003 * (at + 1) + rank)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.float() * weight
        names = sorted(sums)
        total = torch.tensor(float(sum(weight for _, weight in rows)), device=self.device)
        return names, torch.stack([*(sums[name] for name in names), total])

    def state(self) -> dict[str, Any]:
        """All that is needed to go on; whole tensors, for rank 0. Every process must call it."""
        return optim.gather(self.task, self.optimizer) | dict(
            ema=self.average.state(),
            step=self.step,
            consumed=self.consumed,
            history=json.dumps(self.history),
        )

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state`, in any number of processes. Raises whatever a damaged or foreign one trips."""
        optim.restore(self.task, self.optimizer, state)
        self.average.load(state["ema"])
        self.step, self.consumed = int(state["step"]), int(state["consumed"])
        self.history = json.loads(state["history"])
