"""Waveform distances and the frame-rate tone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2a_models.metrics.waveform import frame_rate_tone_db, mae, mse, multi_resolution_stft

RATE = 44_100
N = np.arange(22_050)
TONE = 0.3 * np.sin(0.05 * N)
NOISE = np.random.default_rng(0).standard_normal(4 * RATE) * 0.1


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=9), st.floats(-1, 1))
def test_errors_of_an_offset(sound: list[float], offset: float) -> None:
    reference = np.array(sound)
    assert mse(reference + offset, reference) == pytest.approx(offset**2, abs=1e-9)
    assert mae(reference + offset, reference) == pytest.approx(abs(offset), abs=1e-9)


def test_errors_take_channels_and_float32() -> None:
    stereo = np.array([[0.0, 1.0], [0.5, 0.0]], np.float32)
    assert mse(stereo, np.zeros_like(stereo)) == pytest.approx(1.25 / 4)
    assert mae(stereo, np.zeros_like(stereo)) == pytest.approx(1.5 / 4)


def test_stft_distance_of_equals_and_of_a_gain() -> None:
    sound = NOISE[:RATE]
    same = multi_resolution_stft(sound, sound)
    assert (same.spectral_convergence, same.log_magnitude, same.total) == (0, 0, 0)
    half = multi_resolution_stft(0.5 * sound, sound)
    assert half.spectral_convergence == pytest.approx(0.5, abs=1e-4)
    assert half.log_magnitude == pytest.approx(math.log(2), abs=1e-3)
    assert half.total == half.spectral_convergence + half.log_magnitude


@pytest.mark.parametrize(
    ("generated", "convergence", "magnitude"),
    [
        (TONE * 0.8 + 0.05 * np.cos(0.31 * N), 0.260090172290802, 0.3311429421106974),
        (np.concatenate([np.zeros(8000), TONE])[: len(N)], 0.6032028595606486, 0.4713766872882843),
        (np.zeros(len(N)), 0.9999959270159404, 0.8083239992459615),
    ],
)
def test_stft_distance_agrees_with_auraloss(generated, convergence: float, magnitude: float) -> None:
    # What auraloss 0.4.0's MultiResolutionSTFTLoss() gave for these sounds.
    distance = multi_resolution_stft(generated, TONE)
    assert distance.spectral_convergence == pytest.approx(convergence, rel=1e-5)
    assert distance.log_magnitude == pytest.approx(magnitude, rel=1e-5)


def test_silence_is_far_and_not_infinitely_far() -> None:
    silent = np.zeros(4096)
    assert multi_resolution_stft(silent, silent).total == 0
    assert math.isfinite(multi_resolution_stft(NOISE[:4096], silent).total)


@pytest.mark.parametrize("fps", [10, 23.976, 25, 29.97, 30, 60])
def test_noise_has_no_frame_rate_tone_and_repetition_has(fps: float) -> None:
    assert abs(frame_rate_tone_db(NOISE, RATE, fps)) < 1
    brown = np.cumsum(NOISE) * 0.01
    assert abs(frame_rate_tone_db(brown - brown.mean(), RATE, fps)) < 1.5  # a slope is no line
    times = np.arange(len(NOISE)) / RATE * fps % 1
    frame = np.random.default_rng(1).standard_normal(50) * 0.1
    repeated = np.interp(times * 50, np.arange(51), [*frame, frame[0]])
    assert frame_rate_tone_db(repeated, RATE, fps) > 30


def test_spikes_at_frame_borders_show_in_noise() -> None:
    # Figure 8 of 2308.12408: a spike with each new frame.
    spikes = np.zeros_like(NOISE)
    for place in range(8):
        spikes[place :: RATE // 30] = 0.5
    tones = [frame_rate_tone_db(NOISE + level * spikes, RATE, 30) for level in (0.0, 1.0, 3.0)]
    assert tones[0] < 1 and tones[0] + 3 < tones[1] < tones[2] - 3
    # The same spikes are no tone at another frame rate, nor if they come when they like.
    assert frame_rate_tone_db(NOISE + 3 * spikes, RATE, 24.5) < 2
    irregular = np.random.default_rng(2).permutation(spikes)
    assert frame_rate_tone_db(NOISE + 3 * irregular, RATE, 30) < 2


def test_level_does_not_matter_and_silence_has_no_tone() -> None:
    times = np.arange(len(NOISE)) / RATE
    sound = NOISE + 0.1 * sum(np.sin(2 * np.pi * 30 * k * times) for k in range(1, 17))
    tone = frame_rate_tone_db(sound, RATE, 30)
    assert tone > 20
    # A tone that happens to fall on a line is not mistaken for it.
    assert frame_rate_tone_db(NOISE + 0.1 * np.sin(2 * np.pi * 60 * times), RATE, 30) < 3
    assert frame_rate_tone_db(0.1 * sound, RATE, 30) == pytest.approx(tone, abs=0.5)
    assert frame_rate_tone_db(np.zeros(RATE), RATE, 30) == pytest.approx(0)
    assert abs(frame_rate_tone_db(1e-9 * sound, RATE, 30)) < 0.1  # below what anybody hears


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mse(np.zeros(3), np.zeros(4)), "one shape"),
        (lambda: mae(np.zeros(0), np.zeros(0)), "one shape"),
        (lambda: multi_resolution_stft(np.zeros((2, 4096)), np.zeros((2, 4096))), "mono"),
        (lambda: multi_resolution_stft(np.zeros(4096), np.zeros(4096), ()), "resolution"),
        (lambda: multi_resolution_stft(np.zeros(1024), np.zeros(1024)), "too few"),
        (lambda: frame_rate_tone_db(np.zeros((2, RATE)), RATE, 30), "mono"),
        (lambda: frame_rate_tone_db(np.full(RATE, math.nan), RATE, 30), "NaN"),
        (lambda: frame_rate_tone_db(np.zeros(RATE), RATE, 0), "positive"),
        (lambda: frame_rate_tone_db(np.zeros(RATE), RATE, 30, harmonics=0), "positive"),
        (lambda: frame_rate_tone_db(np.zeros(RATE), 100, 60), "no line"),
        (lambda: frame_rate_tone_db(np.zeros(1000), RATE, 30), "shorter"),
    ],
)
def test_bad_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
