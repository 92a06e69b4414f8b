"""Streaming moments and the Fréchet distance."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from v2a_models.metrics.frechet import (
    Moments,
    Sample,
    frechet_difference,
    frechet_distance,
    frechet_with_interval,
)


def moments(rows: np.ndarray) -> Moments:
    result = Moments(rows.shape[1])
    result.add(rows)
    return result


def with_covariance(mean: np.ndarray, covariance: np.ndarray) -> Moments:
    """Moments that say exactly this."""
    result = Moments(len(mean))
    result.count, result.mean, result.scatter = 101, mean, 100 * covariance
    return result


def sample(rows_of_clips: list[np.ndarray], memory_mib: float = 256) -> Sample:
    result = Sample(rows_of_clips[0].shape[1], memory_mib)
    for clip, rows in enumerate(rows_of_clips):
        result.add(rows, clip)
    return result


@given(st.lists(st.integers(0, 7), min_size=1, max_size=6), st.integers(0, 99), st.randoms())
def test_any_batches_in_any_order_give_the_moments_of_all_rows(sizes, seed, shuffler) -> None:
    rng = np.random.default_rng(seed)
    # An offset of 1e6: sums of squares would lose the covariance here.
    batches = [1e6 + rng.standard_normal((n, 3)) for n in [*sizes, 2]]
    streamed = Moments(3)
    for batch in batches:
        streamed.add(batch)
    shuffler.shuffle(batches)
    merged = Moments(3)
    for batch in batches:
        merged.merge(moments(batch))
    rows = np.concatenate(batches)
    for result in (streamed, merged):
        assert result.count == len(rows)
        np.testing.assert_allclose(result.mean, rows.mean(0), rtol=1e-14)
        np.testing.assert_allclose(result.covariance(), np.cov(rows.T), atol=1e-8)


def test_a_batch_longer_than_a_block_is_taken_whole() -> None:
    rows = np.random.default_rng(0).standard_normal((20_000, 2)).astype(np.float32)
    result = moments(rows)
    assert result.count == 20_000 and result.mean.dtype == np.float64
    np.testing.assert_allclose(result.covariance(), np.cov(rows.astype(np.float64).T), rtol=1e-12)


def test_merging_leaves_the_other_side_alone() -> None:
    rows = np.random.default_rng(0).standard_normal((10, 2))
    other, total = moments(rows), Moments(2)
    total.merge(other)
    total.add(rows + 5)
    np.testing.assert_allclose(other.covariance(), np.cov(rows.T))
    again = pickle.loads(pickle.dumps(other))  # workers send theirs home
    again.merge(other)
    np.testing.assert_allclose(again.covariance(), np.cov(np.tile(rows, (2, 1)).T))


@given(st.lists(st.tuples(*[st.floats(-5, 5)] * 2, *[st.floats(0, 9)] * 2), min_size=1, max_size=6))
def test_diagonal_covariances_have_a_closed_form(columns) -> None:
    mean_a, mean_b, a, b = np.array(columns).T
    expected = ((mean_a - mean_b) ** 2 + (np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    distance = frechet_distance(with_covariance(mean_a, np.diag(a)), with_covariance(mean_b, np.diag(b)))
    assert distance == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_agrees_with_the_matrix_root_and_with_a_turn_of_the_axes() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 6)) @ rng.standard_normal((6, 6)), rng.standard_normal((50, 6)) + 1
    a, b = np.cov(x.T), np.cov(y.T)
    apart = x.mean(0) - y.mean(0)
    expected = apart @ apart + np.trace(a + b) - 2 * np.trace(sqrtm(a @ b)).real
    distance = frechet_distance(moments(x), moments(y))
    assert distance == pytest.approx(expected, rel=1e-9)
    assert distance == pytest.approx(frechet_distance(moments(y), moments(x)), rel=1e-12)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    assert distance == pytest.approx(frechet_distance(moments(x @ turn), moments(y @ turn)), rel=1e-10)


@pytest.mark.parametrize("rows", [4, 40])
def test_equal_samples_are_0_apart_with_singular_covariances_too(rows: int) -> None:
    x = np.random.default_rng(0).standard_normal((rows, 20)) * np.geomspace(1e3, 1e-3, 20)
    x[:, 3] = 7.0  # a feature that never changes
    assert frechet_distance(moments(x), moments(x)) < 1e-12 * np.trace(np.cov(x.T))
    # Moved by d: the distance is |d|^2 exactly, however few the rows.
    assert frechet_distance(moments(x), moments(x + 2.0)) == pytest.approx(4.0 * 20, rel=1e-6)
    assert frechet_distance(moments(np.ones((3, 2))), moments(np.zeros((3, 2)))) == pytest.approx(2.0)


def test_what_cannot_be_compared_is_refused() -> None:
    good = moments(np.eye(3))
    with pytest.raises(ValueError, match="dimensions"):
        frechet_distance(good, moments(np.eye(2)))
    with pytest.raises(ValueError, match="two rows"):
        frechet_distance(good, moments(np.ones((1, 3))))
    with pytest.raises(ValueError, match="NaN"):
        good.add(np.array([[1.0, math.nan, 0.0]]))
    with pytest.raises(ValueError, match=r"\(n, 3\)"):
        good.add(np.ones(3))
    with pytest.raises(ValueError, match="merge"):
        good.merge(Moments(2))
    with pytest.raises(ValueError, match="dimension"):
        Moments(0)
    with pytest.raises(ValueError, match="groups"):
        frechet_with_interval(Sample(3), Sample(3, memory_mib=1e-4))
    assert good.count == 3  # nothing bad got in


def test_groups_fit_the_memory_and_lose_no_row() -> None:
    assert (Sample(64).n_groups, Sample(1024).n_groups, Sample(2048).n_groups) == (64, 32, 8)
    clips = list(np.random.default_rng(0).standard_normal((150, 4, 3)))
    whole = sample(clips)
    rows = np.concatenate(clips)
    assert whole.total().count == len(rows)
    np.testing.assert_allclose(whole.total().covariance(), np.cov(rows.T), rtol=1e-12)
    halves = Sample(3)
    for start in (0, 1):
        worker = Sample(3)
        for clip in range(start, 150, 2):
            worker.add(clips[clip], clip)
        halves.merge(worker)
    np.testing.assert_allclose(halves.total().covariance(), np.cov(rows.T), rtol=1e-12)


def test_a_draw_is_the_moments_of_its_rows() -> None:
    clips = list(np.random.default_rng(0).standard_normal((6, 3, 2)))
    resampled = sample(clips).resampled({1: 2, 4: 1})
    rows = np.concatenate([clips[1], clips[1], clips[4]])
    assert resampled.count == len(rows)
    np.testing.assert_allclose(resampled.mean, rows.mean(0))
    np.testing.assert_allclose(resampled.covariance(), np.cov(rows.T))


def test_the_interval_covers_the_distance_and_narrows_with_clips() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for clips in (100, 1600):
        x, y = rng.standard_normal((clips, 1, 2)), rng.normal([1.0, 0.0], 1.0, (clips, 1, 2))
        estimate = frechet_with_interval(sample(list(x)), sample(list(y)))
        assert estimate.low < 1.0 < estimate.high and estimate.low < estimate.value < estimate.high
        assert (estimate.n, estimate.note) == (clips, "")
        widths.append(estimate.high - estimate.low)
    # Four times as narrow, as a mean's; the few groups leave the width uncertain by some tenths.
    assert 2.5 < widths[0] / widths[1] < 6.5


def test_the_interval_is_about_the_value_where_draws_are_biased() -> None:
    # 40 rows in 10 dimensions: drawn with repetition they are further apart than the rows themselves.
    x, y = np.random.default_rng(0).standard_normal((2, 40, 1, 10))
    first, second = sample(list(x)), sample(list(y))
    estimate = frechet_with_interval(first, second, n=50)
    assert estimate.low < estimate.value < estimate.high
    resampled = [{clip: 1 + clip % 3 for clip in range(40) if clip % 3 != k} for k in range(3)]
    assert min(frechet_distance(first.resampled(t), second.resampled(t)) for t in resampled) > estimate.high


def test_the_same_clips_on_both_sides_differ_by_nothing() -> None:
    clips = list(np.random.default_rng(0).standard_normal((40, 2, 3)))
    estimate = frechet_with_interval(sample(clips), sample(clips), n=20)
    assert estimate.value < 1e-12 and estimate.high < 1e-12 and estimate.low == 0
    assert not estimate.significant
    worse = [rows + np.random.default_rng(1).standard_normal(rows.shape) for rows in clips]
    first = frechet_with_interval(sample(clips), sample(worse), n=20)
    assert first.significant
    assert first == frechet_with_interval(sample(clips), sample(worse), n=20)
    assert first != frechet_with_interval(sample(clips), sample(worse), n=20, seed=1)


def test_notes_say_what_the_figure_suffers_from() -> None:
    rng = np.random.default_rng(0)
    few = sample(list(rng.standard_normal((10, 1, 12))))
    note = frechet_with_interval(few, few, n=5).note
    assert "fewer samples than dimensions" in note and "only 10 groups" in note
    one = sample([rng.standard_normal((50, 2))])
    estimate = frechet_with_interval(one, one)
    assert estimate.value < 1e-12 and math.isnan(estimate.low) and "no interval" in estimate.note
    nothing = frechet_with_interval(Sample(2), one)
    assert not nothing.available and "two rows" in nothing.note
    with pytest.raises(ValueError, match="draw"):
        frechet_with_interval(one, one, n=0)


def test_a_hundred_thousand_clips_take_no_more_memory_than_a_thousand() -> None:
    rows = np.random.default_rng(0).standard_normal((1000, 1, 16)).astype(np.float32)
    held = []
    for clips in (1000, 100_000):
        gathered = Sample(16)
        for clip in range(clips):
            gathered.add(rows[clip % 1000], clip)
        assert gathered.total().count == clips
        held.append(len(pickle.dumps(gathered)))
    assert held[1] < 1.01 * held[0]


def test_a_difference_in_pairs_tells_apart_what_two_intervals_do_not() -> None:
    rng = np.random.default_rng(0)
    # Clips differ much, and both systems miss them by almost the same: the second a little more.
    clips = 3 * rng.standard_normal((64, 4, 3))
    missed = clips + rng.standard_normal((64, 4, 3)) + 2
    truth, a, b = sample(list(clips)), sample(list(missed)), sample(list(missed + 0.05))
    first, second = frechet_with_interval(truth, a), frechet_with_interval(truth, b)
    assert first.high > second.low, "the intervals overlap"
    difference = frechet_difference(truth, a, b)
    assert difference.value == pytest.approx(first.value - second.value)
    assert difference.low < difference.value < difference.high < 0
    assert frechet_difference(truth, b, a).value == pytest.approx(-difference.value)
    same = frechet_difference(truth, a, a)
    assert same.value == same.low == same.high == 0 and not same.significant


def test_a_difference_of_next_to_nothing() -> None:
    clips = list(np.random.default_rng(0).standard_normal((4, 5, 3)))
    assert "only 4 groups" in frechet_difference(*(sample(clips) for _ in range(3)), n=5).note
    assert "two rows" in frechet_difference(Sample(3), sample(clips), sample(clips)).note
    assert "no interval" in frechet_difference(*(sample(clips[:1]) for _ in range(3))).note
    with pytest.raises(ValueError, match="different"):
        frechet_difference(Sample(3), Sample(3), Sample(2))
    with pytest.raises(ValueError, match="draw"):
        frechet_difference(Sample(3), Sample(3), Sample(3), n=0)
