"""Cutting a film into segments changes nothing about its sound."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.dub import segments
from v2a_models import grid, pcm
from v2a_models.grid import decode_start, window_frames

WINDOW, OVERLAP = 40, 10

lengths = st.integers(min_value=1, max_value=900)
overlaps = st.integers(min_value=0, max_value=WINDOW // 2)
per_segments = st.integers(min_value=1, max_value=12)


def windows_of(n_samples: int, overlap: int, seed: int = 0) -> list[np.ndarray]:
    """Loud noise for each window of a film: float32 [2, WINDOW]."""
    rng = np.random.default_rng(seed)
    count = grid.window_count(n_samples, WINDOW, overlap)
    return [rng.uniform(-1, 1, (2, WINDOW)).astype(np.float32) for _ in range(count)]


def track_of(n_samples: int, overlap: int, per_segment: int) -> np.ndarray:
    sounds = windows_of(n_samples, overlap)
    parts = [
        segments.overlap_add(
            sounds[cut.first_window : cut.first_window + cut.n_windows], cut, WINDOW, overlap
        )
        for cut in segments.segments(n_samples, WINDOW, overlap, per_segment)
    ]
    return np.concatenate(list(segments.join(parts, overlap)), axis=1)


@given(lengths, overlaps, per_segments)
def test_segments_hold_every_window_once(n_samples: int, overlap: int, per_segment: int) -> None:
    cuts = list(segments.segments(n_samples, WINDOW, overlap, per_segment))
    held = [w for cut in cuts for w in range(cut.first_window, cut.first_window + cut.n_windows)]
    assert held == list(range(grid.window_count(n_samples, WINDOW, overlap)))
    assert [cut.is_first for cut in cuts] == [True] + [False] * (len(cuts) - 1)
    assert [cut.is_last for cut in cuts] == [False] * (len(cuts) - 1) + [True]
    assert cuts[0].start == 0
    assert cuts[-1].stop == n_samples
    for left, right in itertools.pairwise(cuts):
        assert left.stop - right.start == overlap


@given(lengths, overlaps, per_segments)
def test_the_track_does_not_depend_on_the_cut(n_samples: int, overlap: int, per_segment: int) -> None:
    cut = track_of(n_samples, overlap, per_segment)
    whole = track_of(n_samples, overlap, 10_000)
    assert cut.shape == (2, n_samples)
    np.testing.assert_array_equal(cut, whole)


def test_crossfade_keeps_the_level_of_noise() -> None:
    n = 200_000
    rng = np.random.default_rng(0)
    window, overlap = 1000, 500
    cut = next(segments.segments(n, window, overlap, 1000))
    sounds = [rng.normal(0, 0.1, (1, window)) for _ in range(cut.n_windows)]
    track = segments.overlap_add(sounds, cut, window, overlap)[0, 1000:-1000] / pcm.SYMMETRIC_SCALE
    assert track.std() == pytest.approx(0.1, rel=0.02)
    blocks = track[: len(track) // 250 * 250].reshape(-1, 250).std(axis=1)
    assert blocks.min() > 0.07 and blocks.max() < 0.13


def test_film_starts_and_ends_at_full_level() -> None:
    cut = next(segments.segments(30, WINDOW, OVERLAP, 4))
    track = segments.overlap_add([np.ones((1, WINDOW))], cut, WINDOW, OVERLAP)
    assert track.tolist() == [[pcm.SYMMETRIC_SCALE] * 30]


def test_sound_that_is_not_a_number_is_an_error() -> None:
    cut = next(segments.segments(30, WINDOW, OVERLAP, 4))
    with pytest.raises(ValueError, match="not numbers"):
        segments.overlap_add([np.full((1, WINDOW), np.nan)], cut, WINDOW, OVERLAP)


@pytest.mark.parametrize("sounds", [[], [np.ones((1, WINDOW))] * 2, [np.ones((1, WINDOW + 1))]])
def test_wrong_windows_are_an_error(sounds: list[np.ndarray]) -> None:
    cut = next(segments.segments(30, WINDOW, OVERLAP, 4))
    with pytest.raises(ValueError, match="window"):
        segments.overlap_add(sounds, cut, WINDOW, OVERLAP)


def test_overlap_of_more_than_half_a_window_is_an_error() -> None:
    with pytest.raises(ValueError, match="half"):
        list(segments.segments(100, 40, 21, 2))


@given(
    st.floats(min_value=0, max_value=20_000),
    st.lists(st.sampled_from([8.0, 25.0, 24.0, 12.5, 29.97]), min_size=1, max_size=2),
)
def test_decoding_starts_on_every_frame_grid(start_s: float, rates: list[float]) -> None:
    from_s = decode_start(start_s, rates)
    assert 0 <= from_s <= start_s + 1e-6
    for rate in rates:
        assert from_s * rate == pytest.approx(round(from_s * rate), abs=1e-4)


@given(st.integers(min_value=0, max_value=2000), st.integers(min_value=0, max_value=5))
def test_window_frames_are_the_same_wherever_decoding_started(index: int, seconds_earlier: int) -> None:
    window, overlap = grid.samples(4.0), grid.samples(0.4)
    start = index * (window - overlap)
    from_s = decode_start(grid.seconds(start), (8, 25))
    earlier = max(0.0, from_s - seconds_earlier)
    for fps in (8, 25):
        late = window_frames(start, window, from_s, fps)
        early = window_frames(start, window, earlier, fps)
        assert late.stop - late.start == 4 * fps
        assert late.start + from_s * fps == early.start + earlier * fps


def test_a_segment_holds_whole_windows() -> None:
    window, overlap = grid.samples(4.0), grid.samples(0.4)
    assert segments.windows_per_segment(60, window, overlap) == 16
    assert segments.windows_per_segment(0.1, window, overlap) == 1
