"""Onset synchrony: onsets detected in a sound against known events.

Onset detection is spectral flux with peak picking (Böck and Widmer 2013, "Maximum filter vibrato suppression for
onset detection", without the vibrato filter); matching is one to one within a tolerance, as in MIREX.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import find_peaks

from v2a_models import grid
from v2a_models.metrics.spectra import power_blocks

_WINDOW, _HOP = 1024, 256
_LAG = 3
"""Lag of the spectral flux in hops (17 ms), so that attacks spread over several frames count fully."""


def onset_envelope(sound: np.ndarray, rate: int = grid.SAMPLE_RATE) -> tuple[np.ndarray, np.ndarray]:
    """Times in seconds and spectral flux, the mean rise of the log spectrum in dB, of a mono sound [n]."""
    # Bands of about a third of an octave, so that a noisy bin does not weigh as much as a partial.
    edges = np.unique(np.geomspace(2, _WINDOW // 2, 33).astype(int))
    blocks = power_blocks(np.pad(sound, (_WINDOW, 0)), _WINDOW, _HOP, _WINDOW)
    power = np.concatenate([np.add.reduceat(block.numpy(), edges[:-1], axis=1) for block in blocks])
    power /= (_WINDOW / 2) ** 2  # the sum of the window: a steady tone has its own power
    level = 10 * np.log10(power + 1e-8)  # floor at -80 dB, which is inaudible
    rise = np.zeros(len(level))
    rise[_LAG:] = np.maximum(0, level[_LAG:] - level[:-_LAG]).mean(1)
    return (_HOP * np.arange(len(level)) - _WINDOW / 2) / rate, rise


def onsets(sound: np.ndarray, rate: int = grid.SAMPLE_RATE, rise_db: float = 6.0) -> np.ndarray:
    """Onset times in seconds of a mono sound [n]; at an onset the bands rise by `rise_db` on average."""
    times, rise = onset_envelope(sound, rate)
    peaks, _ = find_peaks(
        rise, height=rise_db, prominence=rise_db * 0.7, distance=max(1, int(0.08 * rate / _HOP))
    )
    # The rise begins when an attack enters the window and peaks about half a window later.
    return np.maximum(0.0, times[peaks] + _WINDOW / 2 / rate - (_LAG + 2) * _HOP / rate / 2)


@dataclass(frozen=True)
class OnsetScore:
    """Onset counts of one or many clips; sum them, then take the ratios."""

    matched: int = 0
    detected: int = 0
    true: int = 0

    def __add__(self, other: OnsetScore) -> OnsetScore:
        return OnsetScore(
            self.matched + other.matched, self.detected + other.detected, self.true + other.true
        )

    @property
    def precision(self) -> float:
        return self.matched / self.detected if self.detected else 0.0

    @property
    def recall(self) -> float:
        return self.matched / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall: 2 matched / (detected + true)."""
        return 2 * self.matched / (self.detected + self.true) if self.detected + self.true else 0.0


def matched_pairs(
    detected: Sequence[float], true: Sequence[float], tolerance_s: float
) -> list[tuple[float, float]]:
    """Pairs (detected, true) of a largest one-to-one matching within +-`tolerance_s`.

    With one tolerance for all, matching the earliest possible pair is optimal.
    """
    a, b = sorted(detected), sorted(true)
    i = j = 0
    pairs = []
    while i < len(a) and j < len(b):
        if abs(a[i] - b[j]) <= tolerance_s:
            pairs.append((a[i], b[j]))
            i, j = i + 1, j + 1
        elif a[i] < b[j]:
            i += 1
        else:
            j += 1
    return pairs


def match_onsets(detected: Sequence[float], true: Sequence[float], tolerance_s: float) -> OnsetScore:
    """Counts of `matched_pairs`."""
    return OnsetScore(len(matched_pairs(detected, true, tolerance_s)), len(detected), len(true))
