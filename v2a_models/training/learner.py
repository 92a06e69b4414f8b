"""Training state shared by every training loop: a task, its optimiser, schedule and EMA, and the position.

Works in one process or many, however they were started.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from v2a_models.generator import autocast
from v2a_models.seeds import window_seed
from v2a_models.training import optim

WeightedBatches = Sequence[tuple[Mapping[str, Tensor], float]]
"""Batches to validate with, each with the number of windows that count."""


class Settings(Protocol):
    """Settings of an optimisation."""

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
    def seed(self) -> int: ...


class Learner:
    """A module in training.

    `wrap` replaces the module by one that exchanges gradients between processes, or shards the module; every process
    must do the same. `precision` is the arithmetic of forward passes, float32 or bfloat16.
    """

    def __init__(
        self,
        module: nn.Module,
        settings: Settings,
        *,
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
        precision: str = "float32",
        betas: tuple[float, float] = optim.BETAS,
    ) -> None:
        self.settings, self.precision = settings, precision
        self.device = next(module.parameters()).device
        self.module = module.train()
        """Maps (batch, seed) to losses by name, of which "loss" is minimised."""
        self.task = wrap(self.module)
        self.optimizer = optim.adamw(self.task, settings.learning_rate, settings.weight_decay, betas)
        self.average = optim.Average(self.module, settings.ema)
        self.step = 0
        """Optimiser steps done."""
        self.consumed = 0
        """Windows trained on, in all processes."""
        self.history: list[dict[str, float]] = []
        """Logged rows, each with its `step`."""
        self._schedule_from(0)

    def _schedule_from(self, step: int) -> None:
        fraction = optim.warmup_cosine(self.settings.steps, self.settings.warmup)
        self.scheduler = optim.schedule(self.optimizer, self.settings.learning_rate, fraction, step)
        self.rate = float(self.scheduler.get_last_lr()[0])
        """Learning rate of the last step."""

    def gradients(
        self, batches: Sequence[Mapping[str, Any]], rank: int = 0
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Losses of the next step, averaged over `batches`, and the norm of its gradients.

        The gradients are clipped and not yet applied.
        """
        self.optimizer.zero_grad(set_to_none=True)
        # The number of the step is the state of every random generator.
        seeds = [
            window_seed(self.settings.seed, f"step {self.step} of {rank}", at) for at in range(len(batches))
        ]
        batches = [optim.to_device(batch, self.device) for batch in batches]
        losses = optim.backward(self.task, batches, seeds, self.precision)
        return losses, optim.clip(self.task, self.settings.clip_norm)

    def gradients_of(self, loss: Tensor) -> Tensor:
        """Norm of the gradients of a loss that the caller computed; they are clipped and not yet applied."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        return optim.clip(self.task, self.settings.clip_norm)

    def apply(self, windows: int) -> None:
        """Do the step whose gradients are in place; `windows` were trained on for it, in all processes."""
        self.rate = float(self.scheduler.get_last_lr()[0])
        self.optimizer.step()
        self.scheduler.step()
        self.average.update(self.step)
        self.step += 1
        self.consumed += windows

    def log(self, row: Mapping[str, float]) -> dict[str, float]:
        """Add a row to the history; returns it with its `step`."""
        logged = dict(row) | {"step": self.step}
        self.history.append(logged)
        return logged

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights in place inside the block, for validating and sampling."""
        self.task.eval()
        with self.average.in_place(), torch.no_grad():
            yield
        self.task.train()

    def validate(
        self,
        batches: WeightedBatches,
        rank: int = 0,
        add_up: Callable[[Tensor], object] = lambda sums: None,
    ) -> dict[str, float]:
        """Mean losses over the windows of `batches`, by name; to be called inside `averaged`.

        `add_up` sums a tensor over all processes in place, where each has a part of the windows.
        """
        sums: dict[str, Tensor] = {}
        for at, (batch, weight) in enumerate(batches):
            batch = optim.to_device(batch, self.device)
            with autocast(optim.device_of(batch), self.precision):
                # Not the wrapped task: every process has its own part and nothing is exchanged.
                losses = self.module(batch, 1_000_003 * (at + 1) + rank)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.float() * weight
        names = sorted(sums)
        windows = torch.tensor(float(sum(weight for _, weight in batches)), device=self.device)
        totals = torch.stack([*(sums[name] for name in names), windows])
        add_up(totals)
        return {name: float(total / totals[-1]) for name, total in zip(names, totals, strict=False)}

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, as whole tensors for rank 0. Every process must call it."""
        return optim.gather(self.task, self.optimizer) | dict(
            ema=self.average.state(),
            step=self.step,
            consumed=self.consumed,
            history=json.dumps(self.history),
        )

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, in any number of processes.

        Raises KeyError, RuntimeError or ValueError for a damaged state or one of another model.
        """
        optim.restore(self.task, self.optimizer, state)
        self.average.load(state["ema"])
        self.step, self.consumed = int(state["step"]), int(state["consumed"])
        self.history = json.loads(state["history"])
        # The step alone decides the rate: the run may be longer now than when the state was saved.
        self._schedule_from(self.step)
