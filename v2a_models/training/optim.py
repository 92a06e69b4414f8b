"""Parts of a training step, for one process or many: schedule, AdamW groups, accumulation, clipping, EMA.

Everything works on a plain module, under DistributedDataParallel and on a module sharded by `fully_shard`, however
the processes were started.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from v2a_models.generator import autocast

BETAS = (0.9, 0.98)
LAST_RATE = 0.05
"""Fraction of the peak learning rate that is left at the end."""


def _full_state(task: nn.Module) -> StateDictOptions:
    """Whole tensors on the CPU, without frozen ones: a language model of gigabytes does not change."""
    frozen = any(not p.requires_grad for p in task.parameters())
    return StateDictOptions(
        full_state_dict=True, cpu_offload=True, ignore_frozen_params=frozen, strict=not frozen
    )


def warmup_cosine(steps: int, warmup: int) -> Callable[[int], float]:
    """Learning rate as a fraction of its peak, by optimiser step from 0; made for `LambdaLR`.

    Rises linearly over `warmup` steps, then falls along half a cosine to `LAST_RATE` at `steps`, and stays there.
    """

    def fraction(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done))

    return fraction


def schedule(
    optimizer: torch.optim.Optimizer, peak: float, fraction: Callable[[int], float], step: int = 0
) -> LambdaLR:
    """Scheduler that has set the learning rate of step number `step`, whatever rate the optimiser held before."""
    for group in optimizer.param_groups:
        group["initial_lr"] = peak
    return LambdaLR(optimizer, fraction, last_epoch=step - 1)


def adamw(
    task: nn.Module, rate: float, weight_decay: float, betas: tuple[float, float] = BETAS
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; only matrices (and larger) decay, not biases, norms and single vectors."""
    trained = [p for p in task.parameters() if p.requires_grad]
    groups = [
        dict(params=[p for p in trained if p.ndim > 1], weight_decay=weight_decay),
        dict(params=[p for p in trained if p.ndim <= 1], weight_decay=0.0),
    ]
    fused = all(p.is_cuda for p in trained)
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=rate, betas=betas, fused=fused
    )


class Average:
    """Exponential moving average (EMA) of the trainable parameters, sharded like them; buffers are not averaged.

    Decay 0 keeps no average: the weights themselves count.
    """

    def __init__(self, task: nn.Module, decay: float) -> None:
        self.decay = decay
        trained = {name: p for name, p in task.named_parameters() if p.requires_grad} if decay else {}
        self.names = list(trained)
        # Not the task: frozen weights need no second copy, and a sharded module cannot be copied.
        self._live = nn.ParameterList(trained.values())
        self._averaged = AveragedModel(self._live)
        # The initial weights count as the first average, or the first update would replace them.
        self._averaged.n_averaged += 1

    @property
    def weights(self) -> dict[str, Tensor]:
        """Averaged weights by parameter name, on the device; empty without an average."""
        return dict(zip(self.names, (p.detach() for p in self._averaged.module.parameters()), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Average the weights that optimiser step number `step` (from 0) left."""
        if not self.names:
            return
        # Early on the average would be dominated by the random start.
        decay = min(self.decay, (1 + step) / (10 + step))
        self._averaged.multi_avg_fn = get_ema_multi_avg_fn(decay)
        self._averaged.update_parameters(self._live)

    @contextlib.contextmanager
    def in_place(self) -> Any:
        """Give the module the averaged weights inside the block, and its own again after it."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the module's weights with the averaged ones."""
        for averaged, live in zip(self._averaged.module.parameters(), self._live, strict=True):
            a, b = _local(averaged), _local(live)
            held = a.clone()
            a.copy_(b)
            b.copy_(held)

    @torch.no_grad()
    def state(self) -> dict[str, Tensor]:
        """Whole tensors on the CPU. Every process of a sharded module must call it."""
        return {name: full_tensor(tensor) for name, tensor in self.weights.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`; parameters that it lacks start from the module's weights."""
        for (name, averaged), live in zip(self.weights.items(), self._live, strict=True):
            if name in state:
                _fill(averaged, state[name])
            else:
                _local(averaged).copy_(_local(live))


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()


def full_tensor(tensor: Tensor) -> Tensor:
    """Copy on the CPU of a tensor, whole where it is sharded; every process must call it then."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu().clone()


def _fill(tensor: Tensor, full: Tensor) -> None:
    if isinstance(tensor, DTensor):
        full = full.to(tensor.to_local().device)
        tensor.to_local().copy_(distribute_tensor(full, tensor.device_mesh, tensor.placements).to_local())
    else:
        tensor.copy_(full)


def backward(
    task: nn.Module,
    batches: Sequence[Mapping[str, Tensor]],
    seeds: Sequence[int],
    precision: str = "float32",
) -> dict[str, Tensor]:
    """Losses of one optimiser step, averaged over the batches; leaves the gradients of that average.

    Processes exchange gradients once, after the last batch. `precision` is the arithmetic of the forward pass, float32
    or bfloat16. Dropout draws from the batch's seed too, so that a step depends on its number only.
    """
    sums: dict[str, Tensor] = {}
    for at, (batch, seed) in enumerate(zip(batches, seeds, strict=True)):
        torch.manual_seed(seed)
        with _exchanging(task, at == len(batches) - 1):
            with autocast(device_of(batch), precision):
                losses = task(dict(batch), seed)
            (losses["loss"] / len(batches)).backward()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0) + value.detach().float() / len(batches)
    return sums


def device_of(batch: Mapping[str, Tensor]) -> torch.device:
    """Device of a batch, some of whose columns are text."""
    return next(column.device for column in batch.values() if isinstance(column, Tensor))


@contextlib.contextmanager
def _exchanging(task: nn.Module, now: bool) -> Any:
    """Let processes exchange the gradients of the block, or hold them back for a later batch."""
    if isinstance(task, DistributedDataParallel):
        with contextlib.nullcontext() if now else task.no_sync():
            yield
        return
    if hasattr(task, "set_requires_gradient_sync"):
        task.set_requires_gradient_sync(now)  # type: ignore[operator]
    yield


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Columns of a batch with its tensors on `device`; columns of texts stay as they are."""
    return {
        name: column.to(device, non_blocking=True) if isinstance(column, Tensor) else column
        for name, column in batch.items()
    }


def clip(task: nn.Module, norm: float) -> Tensor:
    """Scale the gradients down to a total norm of `norm`; returns the norm before, over all processes."""
    trained = [p for p in task.parameters() if p.grad is not None]
    total = nn.utils.clip_grad_norm_(trained, norm)
    return total.full_tensor() if isinstance(total, DTensor) else total


def shard(task: nn.Module, precision: str, mesh: Any = None) -> nn.Module:
    """Shard the parameters of `task` over all processes (FSDP), in place; its `units` are gathered one at a time."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy()
    if precision == "bfloat16":
        # Weights travel in half the bytes; gradients are summed in full, which costs little and loses nothing.
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for unit in getattr(task, "units", ()):
        fully_shard(unit, mesh=mesh, mp_policy=policy)
    fully_shard(task, mesh=mesh, mp_policy=policy)  # changes the module itself
    return task


def gather(task: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Weights and optimiser state as whole tensors on the CPU, by name: the same under DDP, FSDP or neither.

    Every process must call it; of a sharded module only rank 0 gets the content.
    """
    plain = task.module if isinstance(task, DistributedDataParallel) else task
    return dict(
        model=get_model_state_dict(plain, options=_full_state(plain)),
        optimizer=get_optimizer_state_dict(plain, optimizer, options=_full_state(plain)),
    )


def restore(task: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Inverse of `gather`, in any number of processes. Raises RuntimeError or KeyError for another model's state."""
    plain = task.module if isinstance(task, DistributedDataParallel) else task
    set_model_state_dict(plain, state["model"], options=_full_state(plain))
    set_optimizer_state_dict(plain, optimizer, state["optimizer"], options=_full_state(plain))


def finished_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights of a finished training by name: the average where there is one, else the last ones."""
    return {**state["model"], **state["ema"]}


def fill(task: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load the weights of a finished training; frozen parameters are not among them and stay.

    Raises RuntimeError for the weights of another model.
    """
    frozen = {name for name, p in task.named_parameters() if not p.requires_grad}
    missing, unexpected = task.load_state_dict(dict(weights), strict=False)
    if unexpected or set(missing) - frozen:
        raise RuntimeError(f"these weights belong to another model: {[*missing, *unexpected][:3]}")
