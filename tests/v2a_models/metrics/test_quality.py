"""Inception score, divergence and MFCC frames."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dct

from v2a_models.metrics.frechet import Moments, frechet_distance
from v2a_models.metrics.quality import FLOOR, inception_score, kl_divergence, mfcc_frames


def rows(n: int, c: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(c, 0.5), n)


def test_inception_score_of_one_answer_is_1_and_of_sure_even_classes_their_number() -> None:
    assert inception_score(np.full((40, 8), 1 / 8)) == pytest.approx((1, 0))
    assert inception_score(np.tile(rows(1, 8), (40, 1))) == pytest.approx((1, 0))
    assert inception_score(np.tile(np.eye(8), (5, 1)), splits=1) == pytest.approx((8, 0))
    # Sure, and in order: each split of 8 sees one class of each when unshuffled.
    assert inception_score(np.tile(np.eye(8), (5, 1)), splits=5, seed=None) == pytest.approx((8, 0))
    assert inception_score(np.repeat(np.eye(8), 5, 0), splits=8, seed=None) == pytest.approx((1, 0))


def test_inception_score_is_the_formula_over_splits() -> None:
    p = rows(30, 5)
    scores = [np.exp((s * np.log(s / s.mean(0))).sum(1).mean()) for s in (p[:10], p[10:20], p[20:])]
    assert inception_score(p, 3, seed=None) == pytest.approx((np.mean(scores), np.std(scores)))
    assert inception_score(p, 3) != pytest.approx((np.mean(scores), np.std(scores)), rel=1e-6)  # shuffled
    assert inception_score(p, 3) == inception_score(p, 3)


@given(st.integers(0, 50), st.integers(2, 9))
def test_divergence_is_0_only_of_equals(seed: int, classes: int) -> None:
    p, q = rows(3, classes, seed), rows(3, classes, seed + 1000)
    assert np.abs(kl_divergence(p, p)).max() < 1e-9
    assert (kl_divergence(p, q) > 0).all()


def test_divergence_goes_from_reference_to_generated() -> None:
    reference, generated = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.5, 0.5], [1.0, 0.0]])
    first, second = kl_divergence(reference, generated)
    assert first == pytest.approx(math.log(2))  # the class that is there is half as likely
    assert second == pytest.approx(0.5 * math.log(0.5) + 0.5 * math.log(0.5 / FLOOR))  # a class is missing


@pytest.mark.parametrize(
    "bad", [np.ones((2, 3)), np.array([[1.5, -0.5]]), np.array([[math.nan, 1.0]]), np.array([0.5, 0.5])]
)
def test_what_is_no_probability_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        inception_score(bad, 1)
    with pytest.raises(ValueError, match="probabilities"):
        kl_divergence(bad, bad)


def test_wrong_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="splits"):
        inception_score(rows(3, 2), 4)
    with pytest.raises(ValueError, match="pairs"):
        kl_divergence(rows(3, 2), rows(2, 2))


def test_mfcc_frames_lie_on_the_codec_grid() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an empty mel band would warn
        frames = mfcc_frames(np.random.default_rng(0).standard_normal(512 * 20).astype(np.float32))
    assert frames.shape == (21, 64) and np.isfinite(frames).all()
    assert mfcc_frames(np.zeros(1)).shape == (1, 64)
    silent = mfcc_frames(np.zeros(4096))
    assert (
        silent[:, 0] == pytest.approx(-100 * math.sqrt(128), rel=1e-4) and np.abs(silent[:, 1:]).max() < 1e-2
    )


def test_mfcc_are_the_cosine_transform_of_the_level_in_mel_bands() -> None:
    n = np.arange(44_100)
    quiet = mfcc_frames(0.01 * np.sin(2 * np.pi * 4000 * n / 44_100))
    loud = mfcc_frames(0.1 * np.sin(2 * np.pi * 4000 * n / 44_100))
    # 20 dB in every band is an offset of the first coefficient alone.
    np.testing.assert_allclose((loud - quiet)[5:-5, 0], 20 * math.sqrt(128), rtol=1e-3)
    assert np.abs((loud - quiet)[5:-5, 1:]).max() < 0.1
    # Slaney's scale: linear to 1 kHz, which is 15 mel, then logarithmic; 129 steps up to 22.05 kHz.
    mel = [15 + math.log(khz) * 27 / math.log(6.4) for khz in (4, 22.05)]
    peak = dct(np.pad(loud[40], (0, 64)), type=3, norm="ortho").argmax()
    assert peak == pytest.approx(mel[0] / mel[1] * 129 - 1, abs=1)


def test_a_click_is_heard_in_the_frames_whose_window_holds_it() -> None:
    click = np.zeros(20 * 512)
    click[10 * 512] = 1.0
    frames = mfcc_frames(click)
    assert np.flatnonzero(np.abs(frames - frames[0]).max(1) > 1).tolist() == [9, 10, 11]


def test_other_rates_are_resampled() -> None:
    def tone(rate: int) -> np.ndarray:
        return 0.3 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)

    high, low = mfcc_frames(tone(44_100)), mfcc_frames(tone(22_050), 22_050)
    assert len(high) == len(low)
    assert np.corrcoef(high[40], low[40])[0, 1] > 0.95


def test_fdm_tells_noise_from_its_copy_and_from_a_tone() -> None:
    rng = np.random.default_rng(0)

    def fdm(a: np.ndarray, b: np.ndarray) -> float:
        sides = []
        for sound in (a, b):
            sides.append(Moments(64))
            sides[-1].add(mfcc_frames(sound))
        return frechet_distance(*sides)

    noise, other = rng.standard_normal((2, 3 * 44_100)) * 0.1
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(len(noise)) / 44_100)
    assert fdm(noise, noise) < 1e-6 * fdm(noise, other) < fdm(noise, other) < 0.05 * fdm(noise, tone)


@pytest.mark.parametrize("bad", [np.zeros((2, 100)), np.zeros(0), np.array([0.0, math.nan])])
def test_what_is_no_mono_sound_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="sound"):
        mfcc_frames(bad)
