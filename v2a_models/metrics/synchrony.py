"""Synchrony beyond onset F1: novelty similarity (NS of 2407.10387), onset errors, strength correlation.

Onset detection and matching are in `sync`. Nothing here needs weights: NS takes precomputed features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from v2a_models import grid
from v2a_models.metrics.onsets import OnsetScore, match_onsets, matched_pairs

KERNEL = 16
TOLERANCES_S = (0.025, 0.05, 0.1)

_CONSTANT = 1e-9
"""Spread below which curves and ranks are constant up to rounding."""


def novelty_curve(features: np.ndarray, kernel: int = KERNEL) -> np.ndarray:
    """Novelty curve, the change of a feature sequence (T, D) over time: float64 (T - kernel + 1,).

    1 where one steady stretch meets another that is orthogonal to it (2 at most, if opposite), 0 within one.

    Foote 2000: a checkerboard kernel with a Gaussian taper slides along the diagonal of the cosine
    self-similarity. Point i stands for the boundary between steps i + kernel / 2 - 1 and i + kernel / 2. The
    kernel is 16 x 16 steps (2407.10387); the taper's width, a quarter of the kernel, is ours. Only places
    where the kernel fits wholly are kept: zeros beyond the ends would put the same two bumps into every curve
    and have any two clips correlate.

    A step of all zeros is similar to nothing. Raises ValueError for fewer than `kernel` steps (a smaller
    kernel would be another metric), an odd kernel, or features that are not finite.
    """
    rows = np.asarray(features, np.float64)
    if kernel < 2 or kernel % 2:
        raise ValueError(f"the kernel needs an even size, not {kernel}")
    if rows.ndim != 2 or len(rows) < kernel:
        raise ValueError(f"features must be (T, D) with at least {kernel} steps, not {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError("features hold NaN or infinite values")
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    similarity = unit @ unit.T
    weights = _checkerboard(kernel)
    n = len(rows) - kernel + 1
    curve = np.zeros(n)
    for i in range(kernel):
        for j in range(kernel):
            curve += weights[i, j] * np.diagonal(similarity[i : i + n, j : j + n])
    return curve


def novelty_similarity(a: np.ndarray, b: np.ndarray) -> float:
    """NS: Pearson correlation of two novelty curves [n] of the same clip.

    NaN if one is constant (a steady sound has no boundaries to compare) or shorter than three points. Raises
    ValueError for different lengths.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"expected two curves of one length, got {first.shape} and {second.shape}")
    return _pearson(first, second)


@dataclass(frozen=True)
class ClipOnsets:
    """Onset counts and errors of one clip."""

    scores: dict[float, OnsetScore]
    """Counts by tolerance in seconds."""
    errors: tuple[float, ...]
    """Detected minus true time, in seconds, of each onset matched within the widest tolerance; positive is late."""


def onset_scores(
    detected: Sequence[float], true: Sequence[float], tolerances: Sequence[float] = TOLERANCES_S
) -> ClipOnsets:
    """Score the onsets of one clip (seconds) at several tolerances. Raises ValueError without tolerances."""
    if not tolerances:
        raise ValueError("at least one tolerance is needed")
    scores = {tolerance: match_onsets(detected, true, tolerance) for tolerance in tolerances}
    pairs = matched_pairs(detected, true, max(tolerances))
    return ClipOnsets(scores, tuple(float(ours - theirs) for ours, theirs in pairs))


def strength_correlation(
    sound: np.ndarray,
    event_times: Sequence[float],
    strengths: Sequence[float],
    rate: int = grid.SAMPLE_RATE,
    after_s: float = 0.1,
    before_s: float = 0.05,
) -> float:
    """Spearman correlation between the power rise at each true event of a mono sound [n] and its simulated strength.

    The rise is the mean power in the `after_s` seconds from the event (at most up to the next event) minus that in the
    `before_s` seconds before it, which excludes the decay of earlier events. Ranks are used since only the direction of
    the relation is known. Our own measure.

    Events outside the sound are left out. NaN for fewer than three events, and where all strengths or all
    rises are equal (silence). Raises ValueError for another shape of sound, or lists of different lengths.
    """
    if sound.ndim != 1:
        raise ValueError(f"expected a mono sound, got shape {sound.shape}")
    if len(event_times) != len(strengths):
        raise ValueError(f"{len(event_times)} events with {len(strengths)} strengths")
    events = sorted(zip(event_times, strengths, strict=True))
    starts = [round(time * rate) for time, _ in events]
    rises, kept = [], []
    for place, (start, (_, strength)) in enumerate(zip(starts, events, strict=True)):
        stop = min(len(sound), start + round(after_s * rate))
        if place + 1 < len(starts) and starts[place + 1] > start:
            stop = min(stop, starts[place + 1])
        if not 0 <= start < stop:
            continue
        first = max(0, start - round(before_s * rate))
        before = _power(sound[first:start]) if start > first else 0.0
        rises.append(_power(sound[start:stop]) - before)
        kept.append(strength)
    return _pearson(rankdata(rises), rankdata(kept))


def _power(sound: np.ndarray) -> float:
    return float(np.mean(np.asarray(sound, np.float64) ** 2))


def _checkerboard(size: int) -> np.ndarray:
    """Tapered kernel, +1 within the past and within the future, -1 across, scaled so that a clean cut gives 1."""
    place = np.arange(size) - (size - 1) / 2
    taper = np.exp(-(place**2) / (2 * (size / 4) ** 2))
    weights = np.outer(np.sign(place) * taper, np.sign(place) * taper)
    return 2 * weights / np.abs(weights).sum()


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 3 or np.ptp(a) < _CONSTANT or np.ptp(b) < _CONSTANT:
        return math.nan
    return float(np.clip(np.corrcoef(a, b)[0, 1], -1.0, 1.0))
