"""Estimates and their bootstrap."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2a_models.metrics.estimate import Estimate, better, bootstrap_mean, paired_bootstrap

values = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20)


@given(values)
def test_the_interval_lies_within_the_values_and_around_the_mean_of_resamples(xs: list[float]) -> None:
    estimate = bootstrap_mean(xs, resamples=50)
    assert estimate.value == pytest.approx(np.mean(xs)) and estimate.n == len(xs)
    assert min(xs) - 1e-9 <= estimate.low <= estimate.high <= max(xs) + 1e-9
    assert estimate == bootstrap_mean(xs, resamples=50)  # seeded


def test_the_interval_has_the_width_of_the_normal_theory() -> None:
    xs = np.random.default_rng(0).normal(3.0, 2.0, 400)
    estimate = bootstrap_mean(xs)
    half = 1.96 * xs.std() / math.sqrt(400)
    assert estimate.high - estimate.value == pytest.approx(half, rel=0.1)
    assert estimate.value - estimate.low == pytest.approx(half, rel=0.1)
    assert bootstrap_mean(xs, level=0.5).high < estimate.high
    assert bootstrap_mean(xs, seed=1) != estimate


def test_blocks_of_resamples_change_no_figure_but_the_draws() -> None:
    many = np.random.default_rng(1).standard_normal(30_000)  # several blocks
    estimate = bootstrap_mean(many, resamples=150)
    half = 1.96 / math.sqrt(30_000)
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=0.3)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40), st.integers(0, 5), st.integers(1, 60))
def test_intervals_are_quantiles_of_means_of_seeded_draws(xs: list[float], seed: int, resamples: int) -> None:
    drawn = np.random.default_rng(seed).integers(0, len(xs), (resamples, len(xs)))
    expected = np.quantile(np.array(xs)[drawn].mean(1), [0.05, 0.95])
    estimate = bootstrap_mean(xs, resamples, level=0.9, seed=seed)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(expected), rel=1e-9, abs=1e-9)


@given(values, st.floats(-10, 10))
def test_a_constant_lead_has_an_interval_of_no_width(xs: list[float], lead: float) -> None:
    difference = paired_bootstrap(np.array(xs) + lead, xs, resamples=50)
    assert difference.low == pytest.approx(lead, abs=1e-9) and difference.high == pytest.approx(
        lead, abs=1e-9
    )
    assert paired_bootstrap(xs, xs, resamples=50).low == 0


def test_values_that_are_not_finite_are_left_out_and_counted() -> None:
    estimate = bootstrap_mean([1.0, math.nan, 3.0, math.inf])
    assert (estimate.value, estimate.n) == (2.0, 2)
    assert estimate.note == "2 of 4 values not finite, left out"
    lone = bootstrap_mean([math.nan, 5.0])
    assert lone.value == 5.0 and math.isnan(lone.low) and not lone.significant
    assert "1 of 2" in lone.note and "no interval" in lone.note


def test_nothing_to_average_is_missing_with_its_reason() -> None:
    for xs in ([], [math.nan]):
        estimate = bootstrap_mean(xs)
        assert not estimate.available and estimate.note and not estimate.significant
    missing = Estimate.missing("no weights")
    assert math.isnan(missing.value) and (missing.n, missing.note) == (0, "no weights")
    with pytest.raises(ValueError, match="reason"):
        Estimate.missing("")


def test_pairs_tell_apart_what_separate_intervals_do_not() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 10, 100)
    a, b = hard + 1 + rng.normal(0, 0.5, 100), hard + rng.normal(0, 0.5, 100)
    difference = paired_bootstrap(a, b)
    assert difference.value == pytest.approx((a - b).mean()) and difference.significant
    assert better(difference) and not better(difference, higher=False)
    assert better(paired_bootstrap(b, a), higher=False) and paired_bootstrap(b, a).significant
    assert bootstrap_mean(a).low < bootstrap_mean(b).high  # unpaired they overlap
    same = paired_bootstrap(a, a)
    assert same.value == 0 and not same.significant and not better(same)
    assert paired_bootstrap([1.0, math.nan, 2.0], [0.0, 1.0, 1.0]).n == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_mean(np.zeros((2, 2))), "shape"),
        (lambda: bootstrap_mean([1.0, 2.0], resamples=0), "resamples"),
        (lambda: bootstrap_mean([1.0, 2.0], level=1.0), "level"),
        (lambda: paired_bootstrap([1.0], [1.0, 2.0]), "pairs"),
    ],
)
def test_bad_arguments_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
