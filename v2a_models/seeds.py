"""Random numbers per row, so that a window's sound does not depend on batch, order, worker or cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


def window_seed(job_seed: int, video_id: str, window_index: int, candidate: int = 0) -> int:
    """Seed of a window: the first 63 bits of SHA-256 over everything that identifies it."""
    text = f"{job_seed}/{video_id}/{window_index}/{candidate}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class RowNoise:
    """Random numbers for a batch, one CPU generator per row.

    Drawn on the CPU in float32, so that CPU and GPU get the same noise, and row by row, so that a row's noise does not
    depend on the other rows.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def uniform(self, *shape: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """Uniform numbers in (0, 1): float32 [rows, *shape]."""
        rows = [torch.rand(shape, generator=g) for g in self._generators]
        return torch.stack(rows).clamp_(1e-7, 1 - 1e-7).to(device)

    def normal(self, *shape: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """Standard normal numbers: float32 [rows, *shape]."""
        return torch.stack([torch.randn(shape, generator=g) for g in self._generators]).to(device)

    def gumbel(self, *shape: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """Standard Gumbel noise: float32 [rows, *shape]."""
        return -torch.log(-torch.log(self.uniform(*shape, device=device)))
