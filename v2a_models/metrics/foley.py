"""How well generated SynthFoley sound fits its picture: onsets in time, and the class that is heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from v2a_models.encoders.audio import EventClassifier
from v2a_models.metrics.sync import OnsetScore, match_onsets, matched_pairs, onsets

CLOSE_S = 0.05
"""Tolerance at which a viewer begins to notice that sound and picture part (about two frames)."""


@dataclass(frozen=True)
class FoleyScore:
    """One row of the quality table."""

    onset_f1: float
    """Onsets within the tolerance of a true event, clips of impact classes."""
    onset_f1_shuffled: float
    """The same sounds laid on the wrong clips (mean over several rotations)."""
    precision: float
    recall: float
    onset_f1_close: float
    """Within `CLOSE_S`."""
    median_error_s: float
    """Of the onsets that were matched within the tolerance; NaN if none was."""
    class_match: float
    """Share of clips whose sound the classifier hears as the class that is seen."""
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
    """Scores N mono sounds [n] against their clips' true onset times and classes.

    events[i] is None where onsets say nothing (continuous classes). Raises ValueError for fewer than two
    impact clips, which could not be shuffled.
    """
    heard = [onsets(sound).tolist() for sound in sounds]
    impact = [i for i, times in enumerate(events) if times is not None]
    if len(impact) < 2:
        raise ValueError("scoring needs at least two clips with events")
    right = _total(heard, events, impact, 0, tolerance_s)
    shifts = sorted({1, len(impact) // 3, len(impact) // 2, len(impact) - 1} - {0})
    wrong = [_total(heard, events, impact, shift, tolerance_s).f1 for shift in shifts]
    errors = [
        abs(ours - true)
        for clip in impact
        for ours, true in matched_pairs(heard[clip], events[clip] or (), tolerance_s)
    ]
    classes = classify(sounds, classifier)
    truth = np.asarray(labels)
    return FoleyScore(
        onset_f1=right.f1,
        onset_f1_shuffled=float(np.mean(wrong)),
        precision=right.precision,
        recall=right.recall,
        onset_f1_close=_total(heard, events, impact, 0, CLOSE_S).f1,
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
    heard: Sequence[Sequence[float]],
    events: Sequence[Sequence[float] | None],
    impact: Sequence[int],
    shift: int,
    tolerance_s: float,
) -> OnsetScore:
    total = OnsetScore()
    for place, clip in enumerate(impact):
        true = events[clip]
        assert true is not None
        total += match_onsets(heard[impact[(place + shift) % len(impact)]], true, tolerance_s)
    return total
