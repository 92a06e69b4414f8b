"""Resumable training of one module in one process: the loop around a `Learner` that the bundled models are fitted by.

Batches are drawn by step number (`numpy.random.default_rng([seed, step])`), so a resumed run draws the batches that
an undisturbed one would have drawn, and no sampler state needs saving.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from v2a_models.checkpoint_files import put_in_place
from v2a_models.training import optim
from v2a_models.training.learner import Learner

StepLoss = Callable[[int, np.random.Generator], dict[str, Tensor]]
"""Computes the losses of a step from its number and a random generator; "loss" is minimised."""


@dataclass(frozen=True)
class FitConfig:
    """Optimisation of one module."""

    steps: int
    learning_rate: float = 1e-3
    """Peak of the schedule (`optim.warmup_cosine`)."""
    warmup: int = 50
    weight_decay: float = 0.01
    betas: tuple[float, float] = optim.BETAS
    clip_norm: float = 1.0
    ema: float = 0.995
    """Decay of the averaged weights that are kept; 0 keeps the last weights instead."""
    seed: int = 0
    save_every_s: float = 60.0
    log_every: int = 50


class Diverged(RuntimeError):
    """The loss is NaN or infinite; the last good state is on disk."""


def fit(
    name: str,
    model: nn.Module,
    step_loss: StepLoss,
    config: FitConfig,
    out: Path,
    *,
    after_step: Callable[[int, dict[str, Tensor]], None] | None = None,
    extra_state: dict[str, Tensor] | None = None,
    log: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Train `model` in place and leave the averaged weights in it; returns the logged rows.

    `out/NAME.state.pt` holds weights, average, optimiser and position: another call goes on from there, and returns
    at once where the training is finished. `extra_state` tensors (e.g. code usage) are saved and restored in place.

    Raises Diverged when the loss is not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    state_file = out / f"{name}.state.pt"
    extra_state = extra_state or {}
    learner = Learner(model, config, betas=config.betas)
    spent = 0.0
    if state_file.exists():
        spent = _restore(learner, state_file, extra_state)
        log(f"{name}: resumes at step {learner.step} of {config.steps}")
    last_save = mark = time.monotonic()
    sums = _Means()
    while learner.step < config.steps:
        step = learner.step
        losses = step_loss(step, np.random.default_rng([config.seed, step]))
        if not torch.isfinite(losses["loss"]):
            raise Diverged(
                f"{name}: the loss is {float(losses['loss'].detach())} at step {step}; last good: {state_file}"
            )
        learner.gradients_of(losses["loss"])
        learner.apply(1)
        if after_step is not None:
            after_step(step, losses)
        now = time.monotonic()
        spent, mark = spent + now - mark, now
        sums.add(losses)
        if learner.step % config.log_every == 0 or learner.step == config.steps:
            row = dict(step=learner.step, minutes=round(spent / 60, 2), lr=learner.rate) | sums.pop()
            learner.log(row)
            log(f"{name}: " + " ".join(f"{k} {v:.4g}" for k, v in row.items()))
        if now - last_save > config.save_every_s:
            _save(learner, state_file, extra_state, spent)
            last_save = now
    _save(learner, state_file, extra_state, spent)
    learner.average.swap()
    model.eval()
    return learner.history


class _Means:
    """Means of scalar losses since they were last taken."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.steps = 0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        for name, value in losses.items():
            if value.ndim == 0:
                self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        self.steps += 1

    def pop(self) -> dict[str, float]:
        means = {name: round(total / self.steps, 5) for name, total in self.sums.items()}
        self.sums, self.steps = {}, 0
        return means


def _save(learner: Learner, file: Path, extra: Mapping[str, Tensor], spent: float) -> None:
    beside = file.with_suffix(".tmp")
    torch.save(learner.state() | dict(extra=dict(extra), spent=spent), beside)
    put_in_place(beside, file)
    text = "".join(json.dumps(row) + "\n" for row in learner.history)
    file.with_name(file.name.replace(".state.pt", ".log.jsonl")).write_text(text)


def _restore(learner: Learner, file: Path, extra: Mapping[str, Tensor]) -> float:
    """Go on from a state file; returns the seconds spent before."""
    state = torch.load(file, map_location="cpu", weights_only=True)
    if "history" not in state:
        log_file = file.with_name(file.name.replace(".state.pt", ".log.jsonl"))
        state = _of_old_layout(learner, state, log_file)
    learner.restore(state)
    for name, tensor in extra.items():
        tensor.copy_(state["extra"][name])
    return float(state["spent"])


def _of_old_layout(learner: Learner, state: Mapping[str, Any], log_file: Path) -> dict[str, Any]:
    """State of a version whose optimiser numbered the parameters, and which kept the history beside it."""
    names = {parameter: name for name, parameter in learner.module.named_parameters()}
    numbered = [names[p] for group in learner.optimizer.param_groups for p in group["params"]]
    old = state["optimizer"]
    optimizer = {
        "state": {numbered[at]: moments for at, moments in old["state"].items()},
        "param_groups": [
            group | {"params": [numbered[at] for at in group["params"]]}
            for group in old["param_groups"]
            if group["params"]
        ],
    }
    lines = log_file.read_text().splitlines() if log_file.exists() else []
    rows = [row for row in map(json.loads, lines) if row["step"] <= state["step"]]
    return {**state, "optimizer": optimizer, "consumed": state["step"], "history": json.dumps(rows)}
