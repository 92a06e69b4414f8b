"""Baseline sounds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kurtosis

from v2a_models.metrics.baselines import shuffled, silence, spectrum_noise


def test_silence_is_silent() -> None:
    sound = silence(5)
    assert sound.dtype == np.float32 and sound.tolist() == [0] * 5
    with pytest.raises(ValueError):
        silence(-1)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=30), st.integers(0, 9))
def test_no_clip_keeps_its_sound_and_as_few_as_possible_their_class(labels: list[int], seed: int) -> None:
    order = shuffled(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    assert all(order != np.arange(len(labels)))
    names = np.array(labels)
    # Of a class with more than half the clips, that many find no clip of another class.
    unavoidable = max(0, 2 * max(np.bincount(names)) - len(names))
    assert (names[order] == names).sum() == unavoidable
    assert (order == shuffled(labels, seed)).all()


def test_seeds_give_other_orders() -> None:
    labels = ["bell", "ball", "rain", "bell"] * 5
    assert len({tuple(shuffled(labels, seed)) for seed in range(5)}) == 5
    with pytest.raises(ValueError, match="two clips"):
        shuffled(["bell"])


@pytest.mark.parametrize("n", [4096, 4097])
def test_noise_has_spectrum_and_rms_of_its_reference_and_nothing_else(n: int) -> None:
    rng = np.random.default_rng(0)
    click = np.zeros(n)
    click[100:600] = rng.standard_normal(500) * np.exp(-np.arange(500) / 80)
    noise = spectrum_noise(click, seed=1)
    assert noise.dtype == np.float32 and len(noise) == n
    np.testing.assert_allclose(np.abs(np.fft.rfft(noise)), np.abs(np.fft.rfft(click)), atol=1e-3)
    assert np.sqrt((noise**2).mean()) == pytest.approx(np.sqrt((click**2).mean()), rel=1e-5)
    # The click is spread over the whole length, and what it becomes is Gaussian.
    energy = (noise.reshape(-1)[: 4 * (n // 4)].reshape(4, -1) ** 2).sum(1)
    assert energy.min() > 0.15 * energy.sum()
    assert abs(kurtosis(noise)) < 0.5 < kurtosis(click)
    assert abs(np.corrcoef(noise, spectrum_noise(click, seed=2))[0, 1]) < 0.2
    assert (noise == spectrum_noise(click, seed=1)).all()


def test_noise_of_silence_is_silence() -> None:
    assert not spectrum_noise(np.zeros(100)).any()


@pytest.mark.parametrize("bad", [np.zeros((2, 100)), np.zeros(0), np.array([0.0, math.nan])])
def test_what_is_no_mono_sound_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="sound"):
        spectrum_noise(bad)
