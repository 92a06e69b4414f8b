"""Generated against true sound of recorded clips: onsets, near silence and level.

No list of events exists for a recording, so one detector hears both sounds. Unlike `onsets.onsets`, which was made for
rendered events on a silent ground, it follows the level alone, and its threshold follows the clip: background noise
leaves the strongest tenth of the rises. Matching is greedy. Sounds are mono, float [n], at RATE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d

from v2a_models.metrics import estimate
from v2a_models.metrics.estimate import Estimate

RATE = 22_050
"""Samples per second of the sounds that these functions take."""

TOLERANCES = (0.05, 0.1, 0.2)
"""Seconds between a true and a generated onset that still count as a hit."""

AUDIBLE_DBFS, NEAR_SILENT_DBFS = -50.0, -55.0
"""A second is near silent if the true sound is above the first level, and the generated one below the second."""

_STEP = 220
"""Samples per step of the level: 10 ms."""
_RISE = 4
"""Steps over which a rise is measured."""
_LEAST = 0.5
"""Least rise of an onset, in nepers (4.3 dB)."""
_ALONE, _APART = 8, 10
"""An onset is the largest rise within 8 steps on both sides, and more than 10 steps after the one before."""


def rising_onsets(sound: np.ndarray) -> np.ndarray:
    """Times in seconds at which the level rises sharply.

    The level is the logarithm of the RMS of each step (with a floor at -60 dBFS), smoothed over three steps; an onset
    rises by at least half a neper within four steps, and by at least the 90th percentile of the clip's own rises.

    Beyond the end, smoothing takes the level for 0 dBFS: soft sounds, silence as well, have an onset 40 ms before their
    end. Where both sounds of a clip are soft there, and on wrong clips of the same length, it counts as a hit.
    """
    n = len(sound) // _STEP
    power = (sound[: n * _STEP].reshape(n, _STEP) ** 2).mean(1)
    level = np.convolve(np.log(np.sqrt(power) + 1e-3), np.full(3, 1 / 3), "same") if n else np.zeros(0)
    rise = np.maximum(0.0, level[_RISE:] - level[:-_RISE])
    if not len(rise):
        return np.zeros(0)
    highest = maximum_filter1d(rise, 2 * _ALONE + 1, mode="nearest")
    steps: list[int] = []
    for step in np.flatnonzero((rise >= max(_LEAST, np.quantile(rise, 0.9))) & (rise == highest)):
        if not steps or step - steps[-1] > _APART:
            steps.append(int(step))
    return (np.array(steps, float) + _RISE / 2) * _STEP / RATE


def onset_pairs(generated: np.ndarray, true: np.ndarray, tolerance_s: float) -> list[tuple[int, int]]:
    """Indices (generated, true) of onsets that meet: each true one takes, in turn, the nearest that is still free."""
    gaps = np.abs(generated[None] - true[:, None])
    pairs = []
    for k, row in enumerate(gaps if len(generated) else ()):
        nearest = int(row.argmin())
        if row[nearest] <= tolerance_s:
            pairs.append((nearest, k))
            gaps[:, nearest] = np.inf
    return pairs


def rms_dbfs(sound: np.ndarray) -> float:
    """RMS level; -180 dBFS for digital silence."""
    rms = np.sqrt((sound**2).mean()) if len(sound) else 0.0
    return float(20 * np.log10(rms + 1e-9))


@dataclass(frozen=True)
class RecordedClip:
    """Measurements of one clip."""

    true_onsets: np.ndarray
    """Seconds."""
    generated_onsets: np.ndarray
    audible_s: int
    """Whole seconds in which the true sound is above AUDIBLE_DBFS."""
    near_silent_s: int
    """Seconds among these in which the generated sound is below NEAR_SILENT_DBFS."""
    level_db: float
    """RMS level of the generated sound minus that of the true one."""

    def hits(self, tolerance_s: float) -> int:
        """Number of true onsets with a generated one."""
        return len(onset_pairs(self.generated_onsets, self.true_onsets, tolerance_s))

    def f1(self, tolerance_s: float) -> float:
        """Onset F1 of this clip alone; NaN if neither sound has an onset."""
        n = len(self.true_onsets) + len(self.generated_onsets)
        return 2 * self.hits(tolerance_s) / n if n else np.nan


def measure_clip(generated: np.ndarray, true: np.ndarray) -> RecordedClip:
    """Measurements of a generated sound and the true one. Seconds that only one of them has are not compared."""
    audible = near_silent = 0
    for start in range(0, min(len(generated), len(true)) // RATE * RATE, RATE):
        if rms_dbfs(true[start : start + RATE]) > AUDIBLE_DBFS:
            audible += 1
            near_silent += rms_dbfs(generated[start : start + RATE]) < NEAR_SILENT_DBFS
    level = rms_dbfs(generated) - rms_dbfs(true)
    return RecordedClip(rising_onsets(true), rising_onsets(generated), audible, near_silent, level)


@dataclass(frozen=True)
class OnsetAgreement:
    """Onset F1 of many clips at one tolerance. Onsets of all clips are counted together."""

    tolerance_s: float
    f1: Estimate
    wrong: Estimate
    """F1 of the same sounds on the wrong clips, the mean over all circular shifts: the chance level."""
    ratio: Estimate
    """`f1` over `wrong`."""


@dataclass(frozen=True)
class RecordedFigures:
    """Figures of many clips, with intervals of resampled clips."""

    onsets: list[OnsetAgreement]
    """One for each of TOLERANCES."""
    near_silence: Estimate
    """Fraction of the audible seconds."""
    level_db: Estimate
    """Median over clips."""
    level_quartiles_db: tuple[float, float]


def recorded_figures(clips: Sequence[RecordedClip], seed: int = 0) -> RecordedFigures:
    """Figures of one clip or more; one clip has no intervals, and no wrong clips. Raises ValueError without a clip."""
    if not clips:
        raise ValueError("there are no clips")
    n = len(clips)
    rng = np.random.default_rng(seed)
    # How often each clip is in a resample; the first row is the sample itself.
    counts = np.vstack([np.ones(n, int), rng.multinomial(n, np.full(n, 1 / n), estimate.RESAMPLES)])
    found = np.array([len(clip.true_onsets) + len(clip.generated_onsets) for clip in clips])
    onsets = [_agreement(clips, counts, counts @ found, tolerance_s) for tolerance_s in TOLERANCES]
    audible = counts @ np.array([clip.audible_s for clip in clips])
    near_silent = counts @ np.array([clip.near_silent_s for clip in clips])
    level = np.array([clip.level_db for clip in clips])
    medians = np.array([np.median(np.repeat(level, row)) for row in counts])
    low, high = np.quantile(level, [0.25, 0.75])
    silence = _estimate(_ratio(near_silent, audible), n, "no second of the true sound is audible")
    return RecordedFigures(onsets, silence, _estimate(medians, n, ""), (float(low), float(high)))


def _agreement(
    clips: Sequence[RecordedClip], counts: np.ndarray, found: np.ndarray, tolerance_s: float
) -> OnsetAgreement:
    n = len(clips)
    hits = np.array(
        [[len(onset_pairs(a.generated_onsets, b.true_onsets, tolerance_s)) for a in clips] for b in clips]
    )
    own = counts @ hits.diagonal()
    # Over all circular shifts, each clip gets the sound of each other clip once. A resample may hold a clip twice:
    # only pairs of different clips count, scaled to as many hits as n pairs would have.
    pairs = n**2 - (counts**2).sum(1)
    across = ((counts @ (hits - np.diag(hits.diagonal()))) * counts).sum(1)
    found = np.maximum(found, 1)
    f1, wrong = _ratio(2 * own, found), _ratio(2 * n * _ratio(across, pairs), found)
    none = "one clip has no wrong clips" if n == 1 else "no hit on the wrong clips"
    return OnsetAgreement(
        tolerance_s,
        _estimate(f1, n, ""),
        _estimate(wrong, n, none),
        _estimate(_ratio(f1, wrong), n, none),
    )


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b; NaN where b is 0."""
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0)


def _estimate(figures: np.ndarray, n: int, missing: str) -> Estimate:
    """Estimate from the figure of the sample, which comes first, and those of its resamples."""
    if np.isnan(figures[0]):
        return Estimate.missing(missing, n)
    if n == 1:
        return Estimate(float(figures[0]), np.nan, np.nan, 1, "one clip has no interval")
    return Estimate(float(figures[0]), *estimate.interval(figures[1:][np.isfinite(figures[1:])]), n)
