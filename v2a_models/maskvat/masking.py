"""Masks over (batch, codebook, time) for training and for iterative decoding. Pure functions.

A mask is True where a code is hidden. Sources: 2407.10387 section 3 (u uniform, a fraction cos(u) masked); MaskGIT
(2202.04200) for decoding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def masked_fraction(u: Tensor) -> Tensor:
    """Fraction of codes to hide, cos(u * pi / 2) for u uniform in [0, 1): mean 2 / pi = 0.637."""
    return torch.cos(u * (math.pi / 2))


def random_mask(fraction: Tensor, noise: Tensor) -> Tensor:
    """Training mask, bool (B, K, L): exactly round(fraction * K * L) codes of each row, at least one, hidden.

    fraction: float (B,) in [0, 1]. noise: distinct numbers (B, K, L); the smallest are hidden.
    """
    batch, codebooks, frames = noise.shape
    hide = (fraction * codebooks * frames).round().clamp(1, codebooks * frames).long()
    rank = noise.flatten(1).argsort(1).argsort(1)
    return (rank < hide[:, None]).view(batch, codebooks, frames)


def hidden_after(step: int, steps: int, total: int) -> int:
    """Codes still hidden after `step` (1-based) of `steps`: floor(cos(pi/2 * step / steps) * total), 0 at the end."""
    if not 1 <= step <= steps:
        raise ValueError(f"step must be in 1..{steps}, got {step}")
    return 0 if step == steps else math.floor(math.cos(math.pi / 2 * step / steps) * total)


def lowest(confidence: Tensor, candidates: Tensor, count: Tensor) -> Tensor:
    """Mask, bool, of the `count` (B,) least confident of the `candidates` of each row.

    confidence: float (B, K, L), candidates: bool (B, K, L).
    """
    flat = confidence.masked_fill(~candidates, math.inf).flatten(1)
    rank = flat.argsort(dim=1, stable=True).argsort(dim=1)
    count = torch.minimum(count, candidates.flatten(1).sum(1))
    return (rank < count[:, None]).view_as(confidence) & candidates
