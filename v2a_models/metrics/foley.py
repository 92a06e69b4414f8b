"""Scores of generated sound whose events are known: onset timing and sound class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from v2a_models.encoders.audio import EventClassifier
from v2a_models.metrics.onsets import OnsetScore, match_onsets, matched_pairs, onsets

CLOSE_S = 0.05
"""Tolerance, in seconds, at which viewers begin to notice an offset (about two frames)."""


@dataclass(frozen=True)
class FoleyScore:
    """Scores of one system: a row of the quality table."""

    onset_f1: float
    """F1 of onsets within the tolerance of a true event, over clips of impact classes."""
    onset_f1_shuffled: float
    """Onset F1 of the same sounds on wrong clips (mean over several rotations)."""
    precision: float
    recall: float
    onset_f1_close: float
    """Onset F1 within `CLOSE_S`."""
    median_error_s: float
    """Median error of the matched onsets; NaN if there are none."""
    class_match: float
    """Fraction of clips whose sound is classified as the visible class."""
    class_match_shuffled: float
    clips: int
    impact_clips: int


def foley_score(
    sounds: Sequence[np.ndarray],
    events: Sequence[Sequence[float] | None],
    labels: Sequence[int] | np.ndarray,
    classifier: EventClassifier,
    tolerance_s: float = 0.1,
) -> FoleyScore:
    """Score N mono sounds [n] against the true onset times and classes of their clips.

    events[i] is None for continuous classes, which have no onsets. Raises ValueError for fewer than two impact clips,
    which cannot be shuffled.
    """
    detected = [onsets(sound).tolist() for sound in sounds]
    impact = [i for i, times in enumerate(events) if times is not None]
    if len(impact) < 2:
        raise ValueError("scoring needs at least two clips with events")
    right = _total(detected, events, impact, 0, tolerance_s)
    shifts = sorted({1, len(impact) // 3, len(impact) // 2, len(impact) - 1} - {0})
    wrong = [_total(detected, events, impact, shift, tolerance_s).f1 for shift in shifts]
    errors = [
        abs(ours - true)
        for clip in impact
        for ours, true in matched_pairs(detected[clip], events[clip] or (), tolerance_s)
    ]
    classes = classify(sounds, classifier)
    truth = np.asarray(labels)
    return FoleyScore(
        onset_f1=right.f1,
        onset_f1_shuffled=float(np.mean(wrong)),
        precision=right.precision,
        recall=right.recall,
        onset_f1_close=_total(detected, events, impact, 0, CLOSE_S).f1,
        median_error_s=float(np.median(errors)) if errors else float("nan"),
        class_match=float(np.mean(classes == truth)),
        class_match_shuffled=float(
            np.mean([np.mean(np.roll(classes, s) == truth) for s in range(1, len(truth))])
        ),
        clips=len(sounds),
        impact_clips=len(impact),
    )


@torch.inference_mode()
def classify(sounds: Sequence[np.ndarray], classifier: EventClassifier) -> np.ndarray:
    """Class index of each sound: int64 [N]."""
    rows = [classifier(torch.from_numpy(np.asarray(s, np.float32))[None]).argmax(1) for s in sounds]
    return torch.cat(rows).numpy()


def _total(
    detected: Sequence[Sequence[float]],
    events: Sequence[Sequence[float] | None],
    impact: Sequence[int],
    shift: int,
    tolerance_s: float,
) -> OnsetScore:
    total = OnsetScore()
    for place, clip in enumerate(impact):
        true = events[clip]
        assert true is not None
        total += match_onsets(detected[impact[(place + shift) % len(impact)]], true, tolerance_s)
    return total
