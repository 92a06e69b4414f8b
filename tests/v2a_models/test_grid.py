"""Lengths and rates: properties that every other module leans on."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2a_models import grid

durations = st.floats(0, 40_000, allow_nan=False)
rates = st.sampled_from([1.0, 8.0, 15.0, 23.976, 24.0, 25.0, 30_000 / 1001, 30.0, 59.94, 240.0])


@given(durations, rates)
def test_frame_times_fill_the_duration_and_stay_inside(duration: float, fps: float) -> None:
    duration = min(duration, 5000 / fps)
    times = grid.frame_times(0.0, duration, fps)
    assert len(times) == grid.frame_count(duration, fps)
    assert (times < duration).all()
    assert len(times) / fps >= duration - 1e-6  # the next frame would start at or after the end


@given(st.integers(0, 10_000), rates)
def test_frame_index_inverts_frame_times(index: int, fps: float) -> None:
    assert grid.frame_index(index / fps, fps) == index
    assert grid.frame_index((index + 0.5) / fps, fps) == index


def test_a_frame_is_a_whole_number_of_samples_or_an_error() -> None:
    assert (grid.samples_per_frame(25, 16_000), grid.samples_per_frame(30_000 / 1001, 30_000)) == (640, 1001)
    with pytest.raises(ValueError, match="choose rates"):
        grid.samples_per_frame(24, 44_100 + 1)


@given(st.integers(0, 10**7))
def test_codec_frames_cover_every_sample_with_less_than_one_to_spare(n_samples: int) -> None:
    spare = grid.codec_frames(n_samples) * grid.HOP - n_samples
    assert 0 <= spare < grid.HOP


@given(st.integers(1, 3_000_000), st.integers(2, 200_000), st.data())
def test_windows_cover_the_track_without_a_hole(n_samples: int, length: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, length // 2))
    laid = [w for w, _ in zip(grid.windows(n_samples, length, overlap), range(2000), strict=False)]
    assert laid[0].start == 0
    for a, b in pairwise(laid):
        assert b.start == a.stop - overlap and b.index == a.index + 1
    if len(laid) < 2000:
        assert laid[-1].stop >= n_samples
        assert len(laid) == 1 or laid[-2].stop < n_samples  # none is superfluous
        assert len(laid) == grid.window_count(n_samples, length, overlap)


def test_no_sample_no_window() -> None:
    assert list(grid.windows(0, 100, 10)) == []


@pytest.mark.parametrize("overlap", [-1, 100, 101])
def test_impossible_overlap_is_refused(overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        list(grid.windows(1000, 100, overlap))


def test_negative_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        grid.samples(-0.1)


@given(st.integers(1, 500), st.integers(1, 500))
def test_stretching_keeps_order_and_stays_inside(n_target: int, n_source: int) -> None:
    position = grid.resample_index(n_target, n_source)
    assert len(position) == n_target
    assert (np.diff(position) >= 0).all()
    assert position[0] >= 0 and position[-1] <= n_source - 1


def test_stretching_by_one_changes_nothing() -> None:
    assert np.array_equal(grid.resample_index(7, 7), np.arange(7))


@given(st.integers(0, 10**8), st.integers(1, 1000), rates)
def test_positions_of_samples_lie_in_the_frames_of_their_time(start: int, n: int, fps: float) -> None:
    positions = grid.frame_positions(start, n, fps)
    assert len(positions) == n
    frames = np.floor(positions + 0.5)
    assert frames[0] == grid.frame_index((start + 0.5) / grid.SAMPLE_RATE, fps)
    np.testing.assert_allclose(np.diff(positions), fps / grid.SAMPLE_RATE, rtol=1e-3)
