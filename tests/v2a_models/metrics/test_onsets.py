"""Onset detection and matching."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2a_models.metrics.onsets import OnsetScore, match_onsets, matched_pairs, onsets

times = st.lists(st.integers(0, 40), max_size=6).map(lambda xs: [x / 10 for x in xs])


def best_by_brute_force(a: list[float], b: list[float], tolerance: float) -> int:
    if len(a) > len(b):
        a, b = b, a
    orders = itertools.permutations(b, len(a))
    return max(sum(abs(x - y) <= tolerance for x, y in zip(a, order, strict=True)) for order in orders)


@given(times, times)
def test_matching_finds_as_many_pairs_as_possible(heard: list[float], true: list[float]) -> None:
    score = match_onsets(heard, true, 0.25)
    assert score.matched == best_by_brute_force(heard, true, 0.25)
    assert (score.detected, score.true) == (len(heard), len(true))
    assert 0 <= score.f1 <= 1
    pairs = matched_pairs(heard, true, 0.25)
    assert len(pairs) == score.matched and all(abs(a - b) <= 0.25 for a, b in pairs)
    assert not Counter(a for a, _ in pairs) - Counter(heard)  # no onset is used twice
    assert not Counter(b for _, b in pairs) - Counter(true)


def test_scores_add_up_as_counts() -> None:
    total = OnsetScore(1, 2, 3) + OnsetScore(2, 2, 2)
    assert total == OnsetScore(3, 4, 5)
    assert total.precision == pytest.approx(0.75) and total.recall == pytest.approx(0.6)
    assert OnsetScore().f1 == 0


@pytest.mark.parametrize("level", [1.0, 0.1])
def test_clicks_are_found_where_they_are(level: float) -> None:
    rng = np.random.default_rng(0)
    sound = rng.standard_normal(4 * 44_100) * 3e-5
    truth = [0.4, 1.0, 1.35, 2.9]
    for t in truth:
        n = 8000
        ring = rng.standard_normal(n) * np.exp(-np.arange(n) / 1500) * 0.3 * level
        sound[int(t * 44_100) : int(t * 44_100) + n] += ring
    heard = onsets(sound)
    assert len(heard) == len(truth)
    assert np.abs(heard - truth).max() < 0.015


def test_silence_and_steady_noise_have_no_onset() -> None:
    assert len(onsets(np.zeros(44_100))) == 0
    assert len(onsets(np.random.default_rng(0).standard_normal(44_100) * 0.1)) <= 1  # its start may count
