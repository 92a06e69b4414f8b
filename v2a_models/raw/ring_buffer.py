"""Rings: the last things that a network computed, overwritten in turn. Their places are numbers or tensors.

A CUDA graph is a recording of kernels: a place that a program computes in Python would be recorded as it was. Where a
graph is wanted, the place is an int64 tensor (1,) on the device instead.
"""

from __future__ import annotations

from torch import Tensor


def read(ring: Tensor, at: int | Tensor) -> Tensor:
    """Entry `at` of ring (N, ...): (...)."""
    return ring[at] if isinstance(at, int) else ring.index_select(0, at)[0]


def write(ring: Tensor, at: int | Tensor, what: Tensor) -> None:
    """Puts `what` (...) in the place `at` of ring (N, ...)."""
    if isinstance(at, int):
        ring[at].copy_(what)
    else:
        ring.index_copy_(0, at, what[None])
