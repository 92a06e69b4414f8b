"""Euler sampling of the flow with classifier-free guidance, from noise at time 0 to data at time 1."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from v2a_models.mmaudio.transformer import Conditions, FlowTransformer

Flow = Callable[[Tensor, Tensor], Tensor]
"""Velocity (B, T, C) of latents (B, T, C) at times (B,)."""


def guided(network: FlowTransformer, given: Conditions, empty: Conditions, guidance: float) -> Flow:
    """Velocity guided away from `empty`: guidance * v(given) + (1 - guidance) * v(empty), in two passes.

    A guidance below 1 means `given` alone, as in the original.
    """

    def flow(x: Tensor, times: Tensor) -> Tensor:
        velocity = network(x, times, given).float()
        if guidance < 1:
            return velocity
        return guidance * velocity + (1 - guidance) * network(x, times, empty).float()

    return flow


def times_of(steps: int) -> Tensor:
    """Times of `steps` Euler steps and the end: float32 (steps + 1,), from 0 to 1."""
    return torch.linspace(0, 1, steps + 1, dtype=torch.float32)


def euler(flow: Flow, noise: Tensor, steps: int) -> Tensor:
    """Data at time 1 from noise (B, T, C) at time 0."""
    x = noise
    for start, end in pairwise(times_of(steps).to(noise.device)):
        x = x + (end - start) * flow(x, start.expand(len(x)))
    return x
