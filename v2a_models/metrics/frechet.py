"""Fréchet distance of two sets of features.

Heusel et al. 2017 (1706.08500), for sound Kilgour et al. 2019 (1812.08466). The name depends on the features: FAD for
VGGish, FD for PANNs and PaSST, FDD for codec latents per frame, FDM for MFCC per frame (2407.10387). All arithmetic is
float64 and streaming: memory grows with the dimension, not with the number of clips.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg.blas import dgemm
from scipy.linalg.lapack import dpstrf

from v2a_models.metrics.estimate import LEVEL, Estimate, interval

FEW = "fewer samples than dimensions"
"""Warning for singular covariances."""

_BLOCK = 8192
"""Rows processed at a time, to bound the copy made by centring."""


class Moments:
    """Count, mean (D,) and scatter (D, D) of rows that arrive in batches.

    Batches are merged by centred sums and the distance of the means (Chan, Golub and LeVeque 1979), which avoids the
    cancellation of sums of squares. The order of merging changes rounding only.
    """

    def __init__(self, dims: int) -> None:
        if dims < 1:
            raise ValueError(f"rows need at least one dimension, not {dims}")
        self.count = 0
        self.mean = np.zeros(dims)
        self.scatter = np.zeros((dims, dims))
        """Scatter matrix: sum of (x - mean)(x - mean)^T."""

    @property
    def dims(self) -> int:
        return len(self.mean)

    def add(self, rows: np.ndarray) -> None:
        """Add rows (n, D); n may be 0. Raises ValueError for another shape, and for NaN and infinite values."""
        rows = np.asarray(rows)
        if rows.ndim != 2 or rows.shape[1] != self.dims:
            raise ValueError(f"rows must be (n, {self.dims}), not {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError("rows hold NaN or infinite values")
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK].astype(np.float64)
            mean = block.mean(0)
            block -= mean
            self._merge(len(block), mean, block)

    def merge(self, other: Moments) -> None:
        """Add all rows of `other`. Raises ValueError for another dimension."""
        if other.dims != self.dims:
            raise ValueError(f"moments of {self.dims} and {other.dims} dimensions do not merge")
        self._merge(other.count, other.mean, np.zeros((0, self.dims)))
        self.scatter += other.scatter

    def covariance(self) -> np.ndarray:
        """Unbiased covariance (D, D): scatter / (count - 1). Raises ValueError for fewer than two rows."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least two rows, not {self.count}")
        return self.scatter / (self.count - 1)

    def _merge(self, count: int, mean: np.ndarray, centred: np.ndarray) -> None:
        """Merge a batch given by count, mean and centred rows."""
        if not count:
            return
        total = self.count + count
        apart = mean - self.mean
        rows = np.vstack([centred, apart * math.sqrt(self.count * count / total)])
        # In place: (D, D) temporaries for every clip cost more than the product.
        self.scatter = dgemm(1.0, rows.T, rows.T, 1.0, self.scatter.T, trans_b=True, overwrite_c=True).T
        self.mean += apart * (count / total)
        self.count = total


def frechet_distance(a: Moments, b: Moments) -> float:
    """Fréchet distance |mu_a - mu_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^1/2): squared 2-Wasserstein of two Gaussians.

    The root's trace is the sum of roots of the eigenvalues of the symmetric S_a^1/2 S_b S_a^1/2. With factors
    S = F F^T these roots are the singular values of F_a^T F_b, which squares nothing: singular covariances
    (fewer rows than dimensions) need no ridge, equal ones give 0 up to rounding, and nothing is complex.

    Raises ValueError for different dimensions and for fewer than two rows on a side.
    """
    if a.dims != b.dims:
        raise ValueError(f"features of {a.dims} and of {b.dims} dimensions cannot be compared")
    first, second = a.covariance(), b.covariance()
    apart = a.mean - b.mean
    product = _factor(first).T @ _factor(second)
    root = np.linalg.svd(product, compute_uv=False).sum() if product.size else 0.0
    return max(0.0, float(apart @ apart + np.trace(first) + np.trace(second) - 2 * root))


class Sample:
    """Feature rows of many clips, divided by clip into groups of `Moments` for a bootstrap interval.

    More groups give a better interval. Their number is limited by `memory_mib` (8 D^2 bytes each), between 2 and 64:
    by default 32 groups at D = 1024 and 8 at D = 2048. A group without clips takes no memory.
    """

    def __init__(self, dims: int, memory_mib: float = 256) -> None:
        self.dims = dims
        self.n_groups = int(min(64, max(2, memory_mib * 2**20 // (8 * dims * dims))))
        self.groups: dict[int, Moments] = {}

    def add(self, rows: np.ndarray, clip: int) -> None:
        """Add the rows (n, D) of clip number `clip`. Raises like `Moments.add`."""
        group = self.groups.get(clip % self.n_groups)
        if group is None:
            group = Moments(self.dims)
        group.add(rows)  # first, so that invalid rows leave no empty group
        self.groups[clip % self.n_groups] = group

    def merge(self, other: Sample) -> None:
        """Add the clips of another worker. Raises ValueError for other dimensions or groups."""
        if (other.dims, other.n_groups) != (self.dims, self.n_groups):
            raise ValueError("samples of different dimensions or groups do not merge")
        for index, group in other.groups.items():
            self.groups.setdefault(index, Moments(self.dims)).merge(group)

    def total(self) -> Moments:
        """Moments of all rows."""
        return self.resampled(dict.fromkeys(self.groups, 1))

    def resampled(self, times: dict[int, int]) -> Moments:
        """Moments of the groups, each repeated as given in `times`."""
        weighted = [(often, self.groups[index]) for index, often in times.items() if index in self.groups]
        total = Moments(self.dims)
        total.count = sum(often * group.count for often, group in weighted)
        if not total.count:
            return total
        total.mean = sum(
            (group.mean * (often * group.count / total.count) for often, group in weighted), total.mean
        )
        apart = np.stack([(g.mean - total.mean) * math.sqrt(often * g.count) for often, g in weighted])
        np.matmul(apart.T, apart, out=total.scatter)
        scaled = np.empty_like(total.scatter)
        for often, group in weighted:
            total.scatter += np.multiply(group.scatter, often, out=scaled)
        return total


def frechet_with_interval(
    a: Sample, b: Sample, n: int = 200, seed: int = 0, level: float = LEVEL
) -> Estimate:
    """Fréchet distance of two samples with the interval of `n` bootstrap draws of their groups.

    The same groups are drawn on both sides, so that reference and generated sound of a clip (a clip number) stay
    together; for unrelated samples the spread is the same. Clips are drawn instead of frames, since frames of a clip
    are not independent.

    The distance of finite samples is too large by about a constant over the number of rows (Chong and Forsyth
    2020, 1911.07023): compare only results of equally many clips. A draw repeats rows and is larger
    still, so the draws are shifted to have their mean at the value: the interval covers the spread, not the bias. The
    note warns of a sample with no more rows than dimensions (singular covariance, large bias), and of few groups (a
    rough interval).

    `Estimate.n` is the rows of the smaller side. A side with fewer than two rows gives a missing estimate.
    Each draw costs two factorisations and singular values of (D, D): about half a second on one core at D =
    1024.

    Raises ValueError for samples of different dimensions or groups, and for `n` below 1.
    """
    if (a.dims, a.n_groups) != (b.dims, b.n_groups):
        raise ValueError("samples of different dimensions or groups cannot be compared")
    if n < 1:
        raise ValueError(f"at least one draw is needed, not {n}")
    all_a, all_b = a.total(), b.total()
    rows = min(all_a.count, all_b.count)
    if rows < 2:
        return Estimate.missing(f"a covariance needs at least two rows, not {rows}", rows)
    value = frechet_distance(all_a, all_b)
    notes = []
    if rows <= a.dims:
        notes.append(f"{FEW} ({rows} rows, {a.dims} dimensions): biased upwards")
    groups = sorted(a.groups.keys() | b.groups.keys())
    if len(groups) < 2:
        return Estimate(value, math.nan, math.nan, rows, "; ".join([*notes, "one group has no interval"]))
    if len(groups) < 16:
        notes.append(f"rough interval: only {len(groups)} groups to draw from")
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(n):
        chosen, often = np.unique(rng.choice(groups, len(groups)), return_counts=True)
        times = dict(zip(chosen.tolist(), often.tolist(), strict=True))
        drawn_a, drawn_b = a.resampled(times), b.resampled(times)
        if min(drawn_a.count, drawn_b.count) >= 2:
            draws.append(frechet_distance(drawn_a, drawn_b))
    if not draws:
        return Estimate(value, math.nan, math.nan, rows, "; ".join([*notes, "no draw had two rows a side"]))
    low, high = interval(np.array(draws) - np.mean(draws) + value, level)
    return Estimate(value, max(0.0, low), high, rows, "; ".join(notes))


def frechet_difference(
    truth: Sample, a: Sample, b: Sample, n: int = 200, seed: int = 0, level: float = LEVEL
) -> Estimate:
    """Difference of the distances of `a` and `b` from `truth`, with the interval of `n` draws of common groups.

    The difficulty of a group of clips cancels, and so does most of the bias (see `frechet_with_interval`, also for the
    errors raised). Missing for a side with fewer than two rows; without interval for fewer than two groups.
    """
    if len({(s.dims, s.n_groups) for s in (truth, a, b)}) > 1:
        raise ValueError("samples of different dimensions or groups cannot be compared")
    if n < 1:
        raise ValueError(f"at least one draw is needed, not {n}")

    def difference(times: dict[int, int]) -> float:
        theirs, first, second = (sample.resampled(times) for sample in (truth, a, b))
        if min(theirs.count, first.count, second.count) < 2:
            return math.nan
        return frechet_distance(theirs, first) - frechet_distance(theirs, second)

    groups = sorted(truth.groups.keys() | a.groups.keys() | b.groups.keys())
    value = difference(dict.fromkeys(groups, 1))
    rows = min(sample.total().count for sample in (truth, a, b))
    if math.isnan(value):
        return Estimate.missing(f"a covariance needs at least two rows, not {rows}", rows)
    if len(groups) < 2:
        return Estimate(value, math.nan, math.nan, rows, "one group has no interval")
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(n):
        chosen, often = np.unique(rng.choice(groups, len(groups)), return_counts=True)
        draws.append(difference(dict(zip(chosen.tolist(), often.tolist(), strict=True))))
    finite = np.array(draws)[np.isfinite(draws)]
    low, high = interval(finite - finite.mean() + value, level) if len(finite) else (math.nan, math.nan)
    note = f"rough interval: only {len(groups)} groups to draw from" if len(groups) < 16 else ""
    return Estimate(value, low, high, rows, note)


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F (D, r) with F F^T = covariance of rank r: pivoted Cholesky, which stops where rounding starts."""
    lower, pivots, rank, info = dpstrf(covariance, lower=1)
    if info < 0:
        raise ValueError("not a covariance")
    factor = np.empty((len(covariance), rank))
    factor[pivots - 1] = np.tril(lower)[:, :rank]
    return factor
