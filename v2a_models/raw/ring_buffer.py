"""Ring buffers for cached activations, indexed by a number or a tensor.

A CUDA graph records kernels, so an index computed in Python would be recorded as a constant. For a graph the index is
an int64 tensor (1,) on the device instead.
"""

from __future__ import annotations

from torch import Tensor


def read(ring: Tensor, at: int | Tensor) -> Tensor:
    """Entry `at` (...) of a ring (N, ...)."""
    return ring[at] if isinstance(at, int) else ring.index_select(0, at)[0]


def write(ring: Tensor, at: int | Tensor, what: Tensor) -> None:
    """Write `what` (...) to entry `at` of a ring (N, ...)."""
    if isinstance(at, int):
        ring[at].copy_(what)
    else:
        ring.index_copy_(0, at, what[None])
