"""How much of the sound is hidden in training: one share for a whole batch (2411.05679, section 3 and its ablation)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

DISTRIBUTIONS = ("gaussian", "uniform", "arccos", "moving")
"""`gaussian`: truncated to [low, 1]. `uniform`: on [low, 1]. `arccos`: cos(pi / 2 * u) for u uniform, as MaskGIT; any
share may come. `moving`: gaussian whose mean goes from `low` to 1 while training goes on."""


@dataclass(frozen=True)
class Masking:
    """Distribution of the share of hidden codes."""

    distribution: str = "gaussian"
    mean: float = 0.75
    """Of `gaussian`, before it is truncated; 0.75 was best in the paper's ablation."""
    sigma: float = 0.25
    low: float = 0.5
    """Least share of `gaussian`, `uniform` and `moving`."""

    def __post_init__(self) -> None:
        if self.distribution not in DISTRIBUTIONS:
            raise ValueError(
                f"unknown masking distribution {self.distribution!r}: choose one of {', '.join(DISTRIBUTIONS)}"
            )
        if not 0 <= self.low < 1:
            raise ValueError(f"the least share of hidden codes must lie in [0, 1), not {self.low:g}")
        if not self.sigma > 0:
            raise ValueError(f"the width of the masking distribution must be more than 0, not {self.sigma:g}")

    def share(self, u: float, progress: float = 0.0) -> float:
        """Share of codes to hide, in [low, 1] (`arccos`: [0, 1]): the quantile `u` in [0, 1) of the distribution.

        progress: how much of the training is done, in [0, 1]; only `moving` looks at it. The paper does not say how
        its mean moves; ours moves evenly.
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
    """Quantile `u` in [0, 1] of the normal distribution that is cut off outside [low, high]."""
    bounds = torch.tensor([low, high], dtype=torch.float64)
    a, b = torch.special.ndtr((bounds - mean) / sigma).tolist()
    if b - a < 1e-12:  # the mean is so far outside that all that is left is at the nearer end
        return low if mean < low else high
    inside = torch.special.ndtri(torch.tensor(a + (b - a) * u, dtype=torch.float64))
    return min(high, max(low, mean + sigma * float(inside)))
