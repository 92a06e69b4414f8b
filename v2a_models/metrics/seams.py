"""Jumps of a sound at the joins between windows, compared with jumps elsewhere.

A jump is the difference between the 46 ms before and the 46 ms after a point in time: of the level, and of the spectrum
in 24 bands of about a third of an octave. Speech, hammers and rain jump all the time; seams are audible if joins jump
more than other points do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SPAN = 2048
"""Samples compared on either side of a point."""

BANDS = 24

FLOOR_DB = -70.0
"""Noise floor in dB of full scale; changes below it do not count."""

APART = 4 * SPAN
"""Distance, in samples, of the points measured within windows."""


@dataclass(frozen=True)
class Jumps:
    """Jumps of level and spectrum in dB at n points: float64 [n] each."""

    level: np.ndarray
    spectrum: np.ndarray

    def __len__(self) -> int:
        return len(self.level)


def jumps(sound: np.ndarray, points: Sequence[int] | np.ndarray, rate: int) -> Jumps:
    """Jumps of a sound [n] in [-1, 1] at samples `points`; those within `SPAN` samples of an end are left out."""
    at = np.asarray(points, np.int64)
    at = at[(at >= SPAN) & (at <= len(sound) - SPAN)]
    if not len(at):
        return Jumps(np.zeros(0), np.zeros(0))
    views = np.lib.stride_tricks.sliding_window_view(sound, SPAN)
    before, after = (_bands(views[start].astype(np.float64), rate) for start in (at - SPAN, at))
    level = np.abs(_db(before.sum(1)) - _db(after.sum(1)))
    return Jumps(level, np.abs(_db(before) - _db(after)).mean(1))


def _bands(frames: np.ndarray, rate: int) -> np.ndarray:
    """Power per band, [n, BANDS]; the sum is the power of the samples."""
    taper = np.hanning(SPAN)
    power = np.abs(np.fft.rfft(frames * taper)) ** 2 * 2 / (SPAN * (taper**2).sum())
    edges = np.geomspace(50, rate / 2, BANDS)
    bins = np.unique(np.r_[0, np.round(edges[:-1] * SPAN / rate).astype(int)])
    return np.add.reduceat(power, bins, axis=1)


def _db(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(power + 10 ** (FLOOR_DB / 10))


def inside(n: int, joins: Sequence[int] | np.ndarray) -> np.ndarray:
    """Evenly spaced points of a sound of `n` samples, far from all joins."""
    points = np.arange(SPAN, n - SPAN, APART)
    edges = np.sort(np.asarray(joins, np.int64))
    if not len(edges):
        return points
    near = np.clip(np.searchsorted(edges, points), 1, len(edges)) - 1
    following = np.minimum(near + 1, len(edges) - 1)
    distance = np.minimum(np.abs(points - edges[near]), np.abs(points - edges[following]))
    return points[distance >= 2 * SPAN]


def worst(sound: np.ndarray, joins: Sequence[int], rate: int, most: int = 3) -> list[tuple[int, float]]:
    """Joins with the largest spectral jumps, worst first: (sample, multiple of the mean jump within windows).

    Empty if there are no points to compare with.
    """
    usual = jumps(sound, inside(len(sound), joins), rate).spectrum
    if not len(usual) or usual.mean() <= 0:
        return []
    audible_seams = [
        (int(join), float(jump.spectrum[0] / usual.mean()))
        for join in joins
        if len(jump := jumps(sound, [join], rate))
    ]
    return sorted(audible_seams, key=lambda pair: -pair[1])[:most]
