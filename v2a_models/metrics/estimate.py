"""Figures with intervals by the percentile bootstrap (Efron and Tibshirani 1993, chapter 13)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95

_HELD = 2_000_000
"""Values drawn at a time: 100,000 clips times 2000 resamples would be 1.6 GB."""


@dataclass(frozen=True)
class Estimate:
    """Figure, its confidence interval, and the number of clips or rows behind it."""

    value: float
    """NaN if not available; `note` has the reason."""
    low: float
    """NaN, like `high`, where the figure is known and its interval is not."""
    high: float
    n: int
    note: str = ""
    """Caveats for readers: values left out, too few samples, the reason why the figure is missing."""

    @classmethod
    def missing(cls, reason: str, n: int = 0) -> Estimate:
        """Estimate of a figure that could not be measured. Raises ValueError without a reason."""
        if not reason:
            raise ValueError("a missing figure needs its reason")
        return cls(math.nan, math.nan, math.nan, n, reason)

    @property
    def available(self) -> bool:
        return not math.isnan(self.value)

    @property
    def significant(self) -> bool:
        """True if the interval excludes 0; of a difference: one side is better beyond chance."""
        return self.low > 0 or self.high < 0


def bootstrap_mean(
    values: Sequence[float] | np.ndarray, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> Estimate:
    """Mean of one score per clip [n], with the percentile interval of resampled clips.

    Values that are not finite (clips without a score) are left out and counted in the note. One value has no
    interval; no value gives a missing estimate.

    Raises ValueError for values that are not one-dimensional, `resamples` below 1 or a level outside (0, 1).
    """
    row = np.asarray(values, np.float64)
    if row.ndim != 1:
        raise ValueError(f"expected one value per clip, got shape {row.shape}")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples must be at least 1 and level in (0, 1), not {resamples} and {level}")
    kept = row[np.isfinite(row)]
    left_out = len(row) - len(kept)
    note = f"{left_out} of {len(row)} values not finite, left out" if left_out else ""
    if not len(kept):
        return Estimate.missing(note or "no values")
    if len(kept) == 1:
        note = "; ".join(filter(None, [note, "one value has no interval"]))
        return Estimate(float(kept[0]), math.nan, math.nan, 1, note)
    low, high = _interval_of_the_mean(kept, resamples, level, seed)
    return Estimate(float(kept.mean()), low, high, len(kept), note)


def paired_bootstrap(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Estimate:
    """Mean of a - b over clips that both were scored on: [n] and [n], the same clips in the same order.

    Clips are resampled in pairs, so differences in difficulty between clips cancel. Pairs with a value that is not
    finite are left out and counted. Raises ValueError for different lengths, and as `bootstrap_mean`.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"expected pairs, got shapes {first.shape} and {second.shape}")
    with np.errstate(invalid="ignore"):  # inf - inf is left out like any other
        return bootstrap_mean(first - second, resamples, level, seed)


def better(difference: Estimate, higher: bool = True) -> bool:
    """True if a beats b beyond the interval of `paired_bootstrap(a, b)`; `higher`: more is better.

    False where the interval is unknown.
    """
    return difference.low > 0 if higher else difference.high < 0


def interval(replicates: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval of bootstrap replicates [resamples]."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _interval_of_the_mean(values: np.ndarray, resamples: int, level: float, seed: int) -> tuple[float, float]:
    from scipy import stats  # takes a second to load, and most who import this module only pass estimates on

    result = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, _HELD // len(values)),
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(result.low), float(result.high)
