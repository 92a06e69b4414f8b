"""A track at another rate is the same track, exactly as long as the film, however it was cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.soundtrack import resampling
from v2a_models import grid, pcm


def tone(n_samples: int, rate: int, hertz: float = 440.0) -> np.ndarray:
    """Two channels, the second one quieter: int16 [2, n]."""
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(n_samples) / rate)
    return pcm.quantise(np.stack([wave, wave / 4]))


def track(blocks: list[np.ndarray], rate: int, n_samples: int, to: int = grid.SAMPLE_RATE) -> np.ndarray:
    found = list(resampling.resampled(blocks, 2, rate, n_samples, to))
    assert all(block.dtype == np.int16 for block in found)
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 48_000])
@pytest.mark.parametrize("hertz", [100.0, 3_000.0])
def test_a_tone_stays_itself(rate: int, hertz: float) -> None:
    n_samples = 2 * grid.SAMPLE_RATE
    heard = track([tone(2 * rate, rate, hertz)], rate, n_samples)
    expected = tone(n_samples, grid.SAMPLE_RATE, hertz)
    assert heard.shape == expected.shape
    inside = slice(1000, -1000)  # what lies beyond the ends is not known to the filter
    assert np.abs(heard[:, inside].astype(int) - expected[:, inside]).max() <= 2


@settings(max_examples=30)
@given(
    st.integers(min_value=1, max_value=200_000),
    st.sampled_from([8_000, 16_000, 24_000, 48_000]),
    st.lists(st.integers(min_value=0, max_value=200_000), max_size=6),
)
def test_blocks_do_not_matter_and_the_length_is_the_films(n: int, rate: int, cuts: list[int]) -> None:
    sound = np.random.default_rng(0).integers(-20_000, 20_000, (2, n)).astype(np.int16)
    n_samples = grid.samples(grid.seconds(n, rate))
    blocks = np.split(sound, sorted(min(cut, n) for cut in cuts), axis=1)
    heard = track(blocks, rate, n_samples)
    assert heard.shape == (2, n_samples)
    np.testing.assert_array_equal(heard, track([sound], rate, n_samples))


def test_a_length_that_is_not_whole_is_cut_or_filled_up() -> None:
    sound = tone(16_000, 16_000)
    assert track([sound], 16_000, 44_098).shape == (2, 44_098)
    longer = track([sound], 16_000, 44_103)
    assert longer.shape == (2, 44_103) and not longer[:, -2:].any()


def test_at_the_same_rate_nothing_is_touched() -> None:
    blocks = [tone(100, 44_100), tone(50, 44_100)]
    found = list(resampling.resampled(blocks, 2, 44_100, 150))
    assert all(one is other for one, other in zip(found, blocks, strict=True))
