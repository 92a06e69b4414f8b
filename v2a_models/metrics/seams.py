"""How much a sound jumps at the joins between windows, beside how much it jumps anyway.

A jump is measured between the 46 ms before a moment and the 46 ms after it: of the level, and of the spectrum in 24
bands a third of an octave or so wide. Speech, hammers and rain jump all the time; a seam shows as joins that jump
more than moments within windows do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SPAN = 2048
"""Samples on either side of a moment."""

BANDS = 24

FLOOR_DB = -70.0
"""Of full scale: what is softer is silence, and silence beside silence is no jump."""

APART = 4 * SPAN
"""Samples between the moments that are looked at within windows."""


@dataclass(frozen=True)
class Jumps:
    """dB, one of each per moment: float64 [n]."""

    level: np.ndarray
    spectrum: np.ndarray

    def __len__(self) -> int:
        return len(self.level)


def jumps(sound: np.ndarray, moments: Sequence[int] | np.ndarray, rate: int) -> Jumps:
    """Of a sound [n] in [-1, 1] at samples with at least `SPAN` samples on either side; others are left out."""
    at = np.asarray(moments, np.int64)
    at = at[(at >= SPAN) & (at <= len(sound) - SPAN)]
    if not len(at):
        return Jumps(np.zeros(0), np.zeros(0))
    views = np.lib.stride_tricks.sliding_window_view(sound, SPAN)
    before, after = (_bands(views[start].astype(np.float64), rate) for start in (at - SPAN, at))
    level = np.abs(_db(before.sum(1)) - _db(after.sum(1)))
    return Jumps(level, np.abs(_db(before) - _db(after)).mean(1))


def _bands(frames: np.ndarray, rate: int) -> np.ndarray:
    """Power in bands, [n, BANDS]; all together that of the samples."""
    taper = np.hanning(SPAN)
    power = np.abs(np.fft.rfft(frames * taper)) ** 2 * 2 / (SPAN * (taper**2).sum())
    edges = np.geomspace(50, rate / 2, BANDS)
    bins = np.unique(np.r_[0, np.round(edges[:-1] * SPAN / rate).astype(int)])
    return np.add.reduceat(power, bins, axis=1)


def _db(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(power + 10 ** (FLOOR_DB / 10))


def inside(n: int, joins: Sequence[int] | np.ndarray) -> np.ndarray:
    """Moments of a sound of `n` samples that are far from all joins, evenly spread."""
    moments = np.arange(SPAN, n - SPAN, APART)
    edges = np.sort(np.asarray(joins, np.int64))
    if not len(edges):
        return moments
    near = np.clip(np.searchsorted(edges, moments), 1, len(edges)) - 1
    following = np.minimum(near + 1, len(edges) - 1)
    distance = np.minimum(np.abs(moments - edges[near]), np.abs(moments - edges[following]))
    return moments[distance >= 2 * SPAN]


def worst(sound: np.ndarray, joins: Sequence[int], rate: int, most: int = 3) -> list[tuple[int, float]]:
    """(sample, how many times the usual jump within windows) of the joins whose spectrum jumps most, the worst first.

    Empty where there is nothing to compare with.
    """
    usual = jumps(sound, inside(len(sound), joins), rate).spectrum
    if not len(usual) or usual.mean() <= 0:
        return []
    found = [
        (int(join), float(jump.spectrum[0] / usual.mean()))
        for join in joins
        if len(jump := jumps(sound, [join], rate))
    ]
    return sorted(found, key=lambda pair: -pair[1])[:most]
