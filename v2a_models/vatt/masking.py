"""Fraction of codes masked in training, one per batch (2411.05679, section 3 and its ablation)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

DISTRIBUTIONS = ("gaussian", "uniform", "arccos", "moving")
"""`gaussian`: truncated to [low, 1]. `uniform`: on [low, 1]. `arccos`: cos(pi / 2 * u) for u uniform on [0, 1), as in
MaskGIT. `moving`: gaussian with a mean that moves from `low` to 1 during training."""


@dataclass(frozen=True)
class Masking:
    """Distribution of the fraction of masked codes."""

    distribution: str = "gaussian"
    mean: float = 0.75
    """Mean of `gaussian` before truncation; 0.75 was best in the paper's ablation."""
    sigma: float = 0.25
    low: float = 0.5
    """Smallest fraction of `gaussian`, `uniform` and `moving`."""

    def __post_init__(self) -> None:
        if self.distribution not in DISTRIBUTIONS:
            raise ValueError(
                f"unknown masking distribution {self.distribution!r}: choose one of {', '.join(DISTRIBUTIONS)}"
            )
        if not 0 <= self.low < 1:
            raise ValueError(f"the least share of hidden codes must lie in [0, 1), not {self.low:g}")
        if not self.sigma > 0:
            raise ValueError(f"the width of the masking distribution must be more than 0, not {self.sigma:g}")

    def fraction(self, u: float, progress: float = 0.0) -> float:
        """Fraction of codes to mask, in [low, 1] (`arccos`: [0, 1]): quantile `u` in [0, 1) of the distribution.

        progress: completed fraction of the training, used by `moving` only. The paper does not say how its mean moves;
        ours moves linearly.
        """
        if self.distribution == "uniform":
            return self.low + (1 - self.low) * u
        if self.distribution == "arccos":
            return math.cos(math.pi / 2 * u)
        mean = self.mean
        if self.distribution == "moving":
            mean = self.low + (1 - self.low) * min(1.0, max(0.0, progress))
        return truncated_normal(u, mean, self.sigma, self.low, 1.0)


def truncated_normal(u: float, mean: float, sigma: float, low: float, high: float) -> float:
    """Quantile `u` in [0, 1] of the normal distribution truncated to [low, high]."""
    bounds = torch.tensor([low, high], dtype=torch.float64)
    a, b = torch.special.ndtr((bounds - mean) / sigma).tolist()
    if b - a < 1e-12:  # the mean is so far outside that all mass lies at the nearer end
        return low if mean < low else high
    inside = torch.special.ndtri(torch.tensor(a + (b - a) * u, dtype=torch.float64))
    return min(high, max(low, mean + sigma * float(inside)))
