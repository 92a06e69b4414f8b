"""Novelty, onset errors and strength correlation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2a_models.metrics.onsets import OnsetScore
from v2a_models.metrics.synchrony import (
    novelty_curve,
    novelty_similarity,
    onset_scores,
    strength_correlation,
)


def blocks(cuts: list[int], length: int, dims: int = 8) -> np.ndarray:
    """Features (length, dims) that point along another axis after every cut."""
    return np.eye(dims)[np.searchsorted(cuts, np.arange(length), side="right")]


def test_novelty_peaks_at_the_cuts_and_is_0_between_them() -> None:
    curve = novelty_curve(blocks([20, 50], 80))
    assert curve.shape == (65,)
    assert curve[20 - 8] == pytest.approx(1) and curve[50 - 8] == pytest.approx(1)
    assert sorted(np.argsort(curve)[-2:]) == [12, 42]
    assert np.abs(curve[25:30]).max() < 1e-12  # the kernel sees one stretch only
    opposite = np.where(np.arange(40) < 20, 1.0, -1.0)[:, None]
    assert novelty_curve(opposite)[12] == pytest.approx(2)


def test_novelty_is_the_correlation_with_the_kernel() -> None:
    rows = np.random.default_rng(0).standard_normal((20, 4))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    place = np.arange(16) - 7.5
    kernel = np.sign(np.outer(place, place)) * np.exp(-(place[:, None] ** 2 + place**2) / 2 / 4**2)
    expected = [(kernel * (unit @ unit.T)[i : i + 16, i : i + 16]).sum() for i in range(5)]
    np.testing.assert_allclose(novelty_curve(rows), np.array(expected) * 2 / np.abs(kernel).sum(), atol=1e-12)
    np.testing.assert_allclose(novelty_curve(rows * 7), novelty_curve(rows), atol=1e-12)  # cosine


def test_similarity_follows_the_cuts() -> None:
    a, same, other = blocks([20, 50], 80), blocks([20, 50], 80)[:, ::-1], blocks([35, 65], 80)
    assert novelty_similarity(novelty_curve(a), novelty_curve(same)) == pytest.approx(1)
    late = novelty_similarity(novelty_curve(a), novelty_curve(blocks([22, 52], 80)))
    assert 0.3 < late < 0.95
    assert novelty_similarity(novelty_curve(a), novelty_curve(other)) < 0


def test_a_steady_sound_has_no_similarity() -> None:
    steady = novelty_curve(np.ones((30, 3)))
    moving = novelty_curve(blocks([15], 30))
    assert math.isnan(novelty_similarity(steady, moving)) and math.isnan(novelty_similarity(moving, steady))
    assert math.isnan(novelty_similarity(np.array([0.0, 1.0]), np.array([0.0, 1.0])))
    assert np.isfinite(novelty_curve(np.zeros((20, 3)))).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: novelty_curve(np.ones((15, 3))), "at least 16"),
        (lambda: novelty_curve(np.ones((20, 3)), kernel=5), "even"),
        (lambda: novelty_curve(np.full((20, 3), math.nan)), "NaN"),
        (lambda: novelty_similarity(np.ones(3), np.ones(4)), "one length"),
        (lambda: onset_scores([], [], ()), "tolerance"),
        (lambda: strength_correlation(np.zeros((2, 9)), [], []), "mono"),
        (lambda: strength_correlation(np.zeros(9), [0.0], []), "strengths"),
    ],
)
def test_bad_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_onsets_of_a_clip_are_counted_at_each_tolerance() -> None:
    clip = onset_scores([1.01, 2.04, 3.08, 5.0], [1.0, 2.0, 3.0, 4.0])
    assert clip.scores == {0.025: OnsetScore(1, 4, 4), 0.05: OnsetScore(2, 4, 4), 0.1: OnsetScore(3, 4, 4)}
    assert clip.errors == pytest.approx((0.01, 0.04, 0.08))
    early = onset_scores([0.97], [1.0])
    assert early.errors == pytest.approx((-0.03,))


@given(st.lists(st.floats(0, 8), max_size=8), st.lists(st.floats(0, 8), max_size=8))
def test_a_wider_tolerance_never_matches_less(heard: list[float], true: list[float]) -> None:
    clip = onset_scores(heard, true)
    counts = [clip.scores[tolerance].matched for tolerance in (0.025, 0.05, 0.1)]
    assert counts == sorted(counts) and len(clip.errors) == counts[-1]
    assert all(abs(error) <= 0.1 + 1e-12 for error in clip.errors)


TIMES = [0.3, 0.7, 1.1, 1.5, 1.9]
STRENGTHS = [0.2, 0.9, 0.5, 1.0, 0.3]


def strikes(levels: list[float], ring_s: float = 0.05, times: list[float] = TIMES) -> np.ndarray:
    rng, sound = np.random.default_rng(0), np.zeros(2 * 44_100 + 8_000)
    for time, level in zip(times, levels, strict=True):
        start = round(time * 44_100)
        n = len(sound) - start
        sound[start:] += level * rng.standard_normal(n) * np.exp(-np.arange(n) / 44_100 / ring_s)
    return sound


def test_stronger_events_that_sound_louder_correlate() -> None:
    sound = strikes(STRENGTHS)
    assert strength_correlation(sound, TIMES, STRENGTHS) == pytest.approx(1)
    assert strength_correlation(sound, TIMES, [-s for s in STRENGTHS]) == pytest.approx(-1)
    # Only ranks count: any growing law is as good.
    assert strength_correlation(strikes([s**3 for s in STRENGTHS]), TIMES, STRENGTHS) == pytest.approx(1)
    order = [3, 0, 4, 1, 2]
    times, strengths = ([values[i] for i in order] for values in (TIMES, STRENGTHS))
    assert strength_correlation(sound, times, strengths) == pytest.approx(1)


def test_what_still_rings_is_not_taken_for_a_rise() -> None:
    # At 0.5 s the first strike is still louder than the third will be.
    times, strengths = [0.3, 0.5, 1.9], [1.0, 0.1, 0.3]
    assert strength_correlation(strikes(strengths, 0.3, times), times, strengths) == pytest.approx(1)


def test_an_event_ends_where_the_next_begins_in_whatever_order_they_come() -> None:
    times, strengths = [0.33, 1.0, 0.3], [1.0, 0.5, 0.1]
    assert strength_correlation(strikes(strengths, times=times), times, strengths) == pytest.approx(1)


def test_events_outside_and_too_few_events_say_nothing() -> None:
    sound = strikes(STRENGTHS)
    outside = strength_correlation(sound, [-0.5, *TIMES, 9.0], [1.0, *STRENGTHS, 0.01])
    assert outside == pytest.approx(1)
    assert math.isnan(strength_correlation(sound, TIMES[:2], STRENGTHS[:2]))
    assert math.isnan(strength_correlation(sound, TIMES, [0.5] * 5))
    assert math.isnan(strength_correlation(np.zeros(100_000), TIMES, STRENGTHS))
    assert math.isnan(strength_correlation(sound, [], []))
