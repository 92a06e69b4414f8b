"""What a training step is made of, for one process or many: schedule, AdamW groups, accumulation, clipping, average.

Works alike on a plain module, under DistributedDataParallel and on a module cut by `fully_shard`. Knows nothing of
how the processes were started.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

BETAS = (0.9, 0.98)
LAST_RATE = 0.05
"""Share of the peak learning rate that is left at the end."""


def _whole_state(task: nn.Module) -> StateDictOptions:
    """Whole tensors on the CPU; without what is frozen (a language model of gigabytes), which does not change."""
    frozen = any(not p.requires_grad for p in task.parameters())
    return StateDictOptions(
        full_state_dict=True, cpu_offload=True, ignore_frozen_params=frozen, strict=not frozen
    )


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up over `warmup` steps, then half a cosine from `peak` down to a twentieth of it."""

    steps: int
    peak: float
    warmup: int

    def rate(self, step: int) -> float:
        """Learning rate of the optimiser step number `step`, from 0."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        rest = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.peak * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * rest)))


def adamw(task: nn.Module, rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over what is trained; only matrices (and larger) decay, not biases, norms and single vectors."""
    trained = [p for p in task.parameters() if p.requires_grad]
    groups = [
        dict(params=[p for p in trained if p.ndim > 1], weight_decay=weight_decay),
        dict(params=[p for p in trained if p.ndim <= 1], weight_decay=0.0),
    ]
    fused = all(p.is_cuda for p in trained)
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=rate, betas=BETAS, fused=fused
    )


class Average:
    """Exponential moving average of the trained parameters; of its own shard where they are sharded.

    decay 0 keeps no average: the weights themselves count.
    """

    def __init__(self, task: nn.Module, decay: float) -> None:
        self.decay = decay
        self._live = {name: p for name, p in task.named_parameters() if p.requires_grad}
        self.kept = {name: p.detach().clone() for name, p in self._live.items()} if decay else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After optimiser step number `step`, from 0."""
        if not self.kept:
            return
        # Early on the average would be dominated by the random start.
        decay = min(self.decay, (1 + step) / (10 + step))
        kept = [_local(t) for t in self.kept.values()]
        torch._foreach_lerp_(kept, [_local(self._live[name]) for name in self.kept], 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Any:
        """The module has the averaged weights inside the block, and its own again after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, kept in self.kept.items():
            a, b = _local(kept), _local(self._live[name])
            held = a.clone()
            a.copy_(b)
            b.copy_(held)

    @torch.no_grad()
    def state(self) -> dict[str, Tensor]:
        """Whole tensors on the CPU. Every process of a sharded module must call it."""
        return {name: _whole(tensor) for name, tensor in self.kept.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`; starts from the weights where nothing was kept."""
        for name, kept in self.kept.items():
            if name in state:
                _fill(kept, state[name])
            else:
                _local(kept).copy_(_local(self._live[name]))


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()


def _whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu().clone()


def _fill(tensor: Tensor, whole: Tensor) -> None:
    if isinstance(tensor, DTensor):
        whole = whole.to(tensor.to_local().device)
        tensor.to_local().copy_(distribute_tensor(whole, tensor.device_mesh, tensor.placements).to_local())
    else:
        tensor.copy_(whole)


def backward(
    task: nn.Module,
    batches: Sequence[Mapping[str, Tensor]],
    seeds: Sequence[int],
    precision: str = "float32",
) -> dict[str, Tensor]:
    """Losses, averaged over the batches, of one optimiser step; leaves the gradients of that average.

    Processes exchange gradients once, after the last batch. precision: arithmetic of the forward pass, float32 or
    bfloat16. Dropout, if there is any, draws from the batch's seed too, so that a step depends on its number only.
    """
    sums: dict[str, Tensor] = {}
    for at, (batch, seed) in enumerate(zip(batches, seeds, strict=True)):
        torch.manual_seed(seed)
        with _exchanging(task, at == len(batches) - 1):
            with autocast(batch, precision):
                losses = task(dict(batch), seed)
            (losses["loss"] / len(batches)).backward()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0) + value.detach().float() / len(batches)
    return sums


def autocast(batch: Mapping[str, Tensor], precision: str) -> torch.autocast:
    """The arithmetic of a forward pass over `batch`."""
    device = next(column.device.type for column in batch.values() if isinstance(column, Tensor))
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")


@contextlib.contextmanager
def _exchanging(task: nn.Module, now: bool) -> Any:
    """Whether the gradients made in the block are exchanged between the processes."""
    if isinstance(task, DistributedDataParallel):
        with contextlib.nullcontext() if now else task.no_sync():
            yield
        return
    if hasattr(task, "set_requires_gradient_sync"):
        task.set_requires_gradient_sync(now)  # type: ignore[operator]
    yield


def clip(task: nn.Module, norm: float) -> Tensor:
    """Scales the gradients down to `norm` if they are larger together; what the norm was, over all processes."""
    trained = [p for p in task.parameters() if p.grad is not None]
    total = nn.utils.clip_grad_norm_(trained, norm)
    return total.full_tensor() if isinstance(total, DTensor) else total


def shard(task: nn.Module, precision: str, mesh: Any = None) -> nn.Module:
    """The same module with its parameters spread over all processes (FSDP); its `units` are gathered in turn."""
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
    """Weights and optimiser as whole tensors on the CPU, by name: the same under DDP, FSDP or neither.

    Every process must call it; where sharded, only rank 0 gets the content.
    """
    plain = task.module if isinstance(task, DistributedDataParallel) else task
    return dict(
        model=get_model_state_dict(plain, options=_whole_state(plain)),
        optimizer=get_optimizer_state_dict(plain, optimizer, options=_whole_state(plain)),
    )


def restore(task: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Inverse of `gather`, in any number of processes. Raises RuntimeError or KeyError for another model's."""
    plain = task.module if isinstance(task, DistributedDataParallel) else task
    set_model_state_dict(plain, state["model"], options=_whole_state(plain))
    set_optimizer_state_dict(plain, optimizer, state["optimizer"], options=_whole_state(plain))


def finished_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """What to keep of a finished training: the average where there is one, else the weights."""
    return {**state["model"], **state["ema"]}


def fill(task: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Puts the weights of a finished training in place; what is frozen is not among them and stays.

    Raises RuntimeError for those of another model.
    """
    frozen = {name for name, p in task.named_parameters() if not p.requires_grad}
    missing, unexpected = task.load_state_dict(dict(weights), strict=False)
    if unexpected or set(missing) - frozen:
        raise RuntimeError(f"these weights belong to another model: {[*missing, *unexpected][:3]}")


PEAKS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "A10G": 70.0,
    "A10": 125.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
    "T4": 65.0,
    "V100": 125.0,
}
"""Makers' dense bfloat16 (float16 where older) tensor rates in TFLOP/s, by a part of the name. First match."""


def peak_flops(device: torch.device, precision: str) -> tuple[float, str]:
    """Most floating-point operations per second that the device can do, and where the figure is from.

    GPUs from the table of makers' figures; others by multiplying two matrices here and now.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        found = next((rate for part, rate in PEAKS.items() if part.lower() in name.lower()), None)
        if found is not None:
            return found * 1e12, f"{name}, maker's figure for bfloat16"
    import time

    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    n = 4096 if device.type == "cuda" else 768
    a = torch.ones(n, n, device=device, dtype=dtype)
    best = math.inf
    for _ in range(5):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best, f"{device.type}, matrices of {n} multiplied in {precision}"


def counting_flops() -> Any:
    """A context that counts the floating-point operations of what runs in it (`get_total_flops`)."""
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    aten: Any = torch.ops.aten

    def forward(query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
        return sdpa_flop_count(query, key, value)

    def backwards(grad: Any, query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
        return sdpa_backward_flop_count(grad, query, key, value)

    # The counter knows the GPUs' attention kernels only.
    return FlopCounterMode(
        display=False,
        custom_mapping={
            aten._scaled_dot_product_flash_attention_for_cpu: forward,
            aten._scaled_dot_product_flash_attention_for_cpu_backward: backwards,
        },
    )
