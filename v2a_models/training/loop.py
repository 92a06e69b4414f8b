"""The training loop every model shares: schedule, clipping, EMA, resumable state. No Ray in it.

Batches are drawn by step number (`numpy.random.default_rng([seed, step])`), so a resumed run sees exactly the
batches an undisturbed one would have seen and no sampler state needs saving.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

StepLoss = Callable[[int, np.random.Generator], dict[str, Tensor]]


@dataclass(frozen=True)
class FitConfig:
    """Optimisation of one model."""

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 50
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0
    ema: float = 0.995
    """Decay of the averaged weights that are kept; 0 keeps the last weights instead."""
    seed: int = 0
    minutes: float | None = None
    """Stops (with the schedule shortened to fit) after this many minutes of training, counted over resumes."""
    save_every_s: float = 60.0
    log_every: int = 50


def learning_rate(progress: float, peak: float, warmup: float) -> float:
    """Linear warm-up, then half a cosine to a twentieth of the peak; progress and warmup as shares of the run."""
    if progress < warmup:
        return peak * (progress + 1e-3) / (warmup + 1e-3)
    rest = min(1.0, (progress - warmup) / max(1e-9, 1 - warmup))
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * rest)))


class Ema:
    """Exponential moving average of a model's floating-point state."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        # Early on the average would be dominated by the random start.
        decay = min(self.decay, (1 + step) / (10 + step))
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value, 1 - decay)
            else:
                self.state[key].copy_(value)


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
    """Trains `model` in place and leaves the averaged weights in it; returns the logged rows.

    `out/NAME.state.pt` holds weights, average, optimiser and position: calling again goes on from there, and a
    finished stage returns at once. `extra_state` tensors are saved and restored in place (e.g. code usage).

    Raises Diverged when the loss is not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    state_file, log_file = out / f"{name}.state.pt", out / f"{name}.log.jsonl"
    extra_state = extra_state or {}
    params = [p for p in model.parameters() if p.requires_grad]
    decay = [p for p in params if p.ndim > 1]
    plain = [p for p in params if p.ndim <= 1]
    groups = [dict(params=decay, weight_decay=config.weight_decay), dict(params=plain, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)
    ema = Ema(model, config.ema)
    step, spent, rows = 0, 0.0, []
    if state_file.exists():
        state = torch.load(state_file, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        ema.state = {k: v.to(ema.state[k].device) for k, v in state["ema"].items()}
        for key, tensor in extra_state.items():
            tensor.copy_(state["extra"][key])
        step, spent = int(state["step"]), float(state["spent"])
        rows = [json.loads(line) for line in log_file.read_text().splitlines()] if log_file.exists() else []
        rows = [row for row in rows if row["step"] <= step]
        log(f"{name}: goes on at step {step} of {config.steps}")

    def save() -> None:
        beside = state_file.with_suffix(".tmp")
        state = dict(
            model=model.state_dict(), optimizer=optimizer.state_dict(), ema=ema.state, extra=extra_state,
            step=step, spent=spent,
        )  # fmt: skip
        torch.save(state, beside)
        os.replace(beside, state_file)
        log_file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    model.train()
    last_save = mark = time.monotonic()
    sums: dict[str, float] = {}
    counted = 0
    while True:
        progress = step / config.steps
        if config.minutes is not None:
            progress = max(progress, spent / 60 / config.minutes)
        if progress >= 1:
            break
        rate = learning_rate(progress, config.learning_rate, config.warmup / config.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses = step_loss(step, np.random.default_rng([config.seed, step]))
        if not torch.isfinite(losses["loss"]):
            raise Diverged(
                f"{name}: the loss is {float(losses['loss'])} at step {step}; last good: {state_file}"
            )
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(params, config.clip_norm)
        optimizer.step()
        ema.update(model, step)
        if after_step is not None:
            after_step(step, losses)
        step += 1
        now = time.monotonic()
        spent, mark = spent + now - mark, now
        for key, value in losses.items():
            if value.ndim == 0:
                sums[key] = sums.get(key, 0.0) + float(value.detach())
        counted += 1
        if step % config.log_every == 0 or step == config.steps:
            row = dict(step=step, minutes=round(spent / 60, 2), lr=rate)
            row |= {key: round(value / counted, 5) for key, value in sums.items()}
            rows.append(row)
            log(f"{name}: " + " ".join(f"{k} {v:.4g}" for k, v in row.items()))
            sums, counted = {}, 0
        if now - last_save > config.save_every_s:
            save()
            last_save = now
    save()
    if config.ema:
        model.load_state_dict(ema.state)
    model.eval()
    return rows
