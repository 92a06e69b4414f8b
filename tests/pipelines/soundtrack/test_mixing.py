"""Loudness, ramps, silent parts and mixtures: of streams of blocks, against the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import resample_poly

from pipelines.sandbox.decoder import Sandbox
from pipelines.soundtrack import limiter, mixing
from pipelines.soundtrack.mixing import AudioFormat, Envelope, Gains, MixPolicy, TrackSources
from pipelines.soundtrack.silence import format_of, silent_parts
from tests.support import media_files
from v2a_models import pcm

RATE = 44_100


def noise(seconds: float, level: float, seed: int = 0, channels: int = 1) -> np.ndarray:
    """float32 [channels, n]"""
    shape = (channels, round(seconds * RATE))
    return (level * np.random.default_rng(seed).uniform(-1, 1, shape)).astype(np.float32)


def knocks(seconds: float, level: float = 0.9) -> np.ndarray:
    """Short decaying strikes with silence between: loud peaks, little loudness."""
    n = round(seconds * RATE)
    k = np.arange(3000)
    strike = level * np.exp(-k / 250) * np.sin(2 * np.pi * 2500 * k / RATE)
    sound = np.zeros((1, n), np.float32)
    for at in range(0, n - 3000, RATE // 2):
        sound[0, at : at + 3000] = strike
    return sound


def sixteen(sound: np.ndarray) -> np.ndarray:
    return np.rint(sound * 32767).astype(np.int16)


def streamed(sound: np.ndarray, block: int = 5000) -> Callable[[], Iterator[np.ndarray]]:
    return lambda: iter([sound[:, at : at + block] for at in range(0, sound.shape[1], block)])


def made_of(material: TrackSources, how: MixPolicy, made: AudioFormat) -> tuple[np.ndarray, list[Gains]]:
    gains = mixing.track_gains(material, how, made)
    return np.concatenate(list(mixing.mixed_tracks(material, how, made, gains)), axis=1), gains


def levels(sound: np.ndarray) -> tuple[float, float]:
    """(LUFS by another library, true peak in dBTP by eightfold resampling) of int16 [channels, n]."""
    real = sound.astype(float) / 32768
    peak = np.abs(resample_poly(real, 8, 1, axis=1)).max()
    return pyloudnorm.Meter(RATE).integrated_loudness(real.T), float(20 * np.log10(peak))


@pytest.mark.parametrize("sound", [noise(6, 0.01), noise(6, 0.9), knocks(8), noise(5, 0.2, channels=2)])
@pytest.mark.parametrize("target", [-23.0, -16.0])
def test_loudness_is_reached_and_no_peak_is_too_high(sound: np.ndarray, target: float) -> None:
    n = sound.shape[1]
    material = TrackSources(streamed(sixteen(sound)), RATE, len(sound))
    made, gains = made_of(material, MixPolicy(loudness=target), AudioFormat(RATE, len(sound), n))
    assert made.shape == sound.shape
    lufs, peak = levels(made)
    assert peak <= -0.95
    if lufs < target - 0.5:  # strikes as short as these cannot be as loud as that without higher peaks
        assert target == -16 and gains[0].ceiling_dbtp is not None and peak > -3
    assert lufs < target + 0.5


def test_quiet_sound_is_made_louder_by_a_plain_gain_and_silence_stays() -> None:
    sound = noise(4, 0.02)
    made, gains = made_of(
        TrackSources(streamed(sixteen(sound)), RATE, 1),
        MixPolicy(loudness=-30),
        AudioFormat(RATE, 1, sound.shape[1]),
    )
    assert gains[0].ceiling_dbtp is None
    ratio = 10 ** (gains[0].gain_db / 20)
    assert np.abs(made - sixteen(sound) * ratio).max() <= 1
    silence = np.zeros((1, 3 * RATE), np.int16)
    made, gains = made_of(
        TrackSources(streamed(silence), RATE, 1), MixPolicy(loudness=-23), AudioFormat(RATE, 1, 3 * RATE)
    )
    assert gains == [Gains()] and not made.any()


def test_the_limiter_keeps_time_and_length_and_leaves_quiet_sound_alone() -> None:
    tones = sum(0.02 * np.sin(2 * np.pi * f * np.arange(2 * RATE) / RATE) for f in (90, 1100, 9000))
    quiet_part = np.asarray(tones, np.float32)[None]
    sound = np.concatenate([quiet_part, noise(1, 3.0, seed=1), quiet_part], axis=1)
    made = np.concatenate(list(limiter.limited(streamed(sound)(), RATE, 1, -1.3)), axis=1)
    assert made.shape == sound.shape
    # Far from what is limited nothing changes but for the way to the fourfold rate and back.
    difference = (made - sound)[:, 1000 : RATE + RATE // 2]
    assert np.abs(difference).max() < 1e-3
    assert np.abs(made[:, 2 * RATE : 3 * RATE]).max() < 0.9


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=8), st.integers(0, 5))
def test_blocks_make_no_difference(cuts: list[int], seed: int) -> None:
    n, edges = 20_000, np.cumsum(cuts)
    generated, own = sixteen(noise(1, 0.5, seed))[:, :n], noise(1, 0.3, seed + 9)[:, :n]
    how = MixPolicy("replace-silent-parts")
    made = AudioFormat(RATE, 1, n)
    spans = [(0.1, 0.2), (0.3, 0.31)]

    def pieces(sound: np.ndarray) -> Callable[[], Iterator[np.ndarray]]:
        return lambda: iter([p for p in np.split(sound, [e for e in edges if e < n], axis=1) if p.size])

    whole = TrackSources(streamed(generated, n), RATE, 1, 1, streamed(own, n), spans)
    parts = TrackSources(pieces(generated), RATE, 1, 1, pieces(own), spans)
    assert np.array_equal(made_of(whole, how, made)[0], made_of(parts, how, made)[0])


def test_audible_parts_come_out_as_they_went_in_and_silent_ones_are_dubbed_with_ramps() -> None:
    own = sixteen(noise(6, 0.7, seed=3))
    own[:, RATE : 3 * RATE] = 7  # -73 dBFS
    real = own.astype(np.float32) / 32768
    parts = list(silent_parts(streamed(real)(), RATE, -60.0))
    [(start, end)] = parts
    assert 1.0 <= start <= 1.01 and 2.99 <= end <= 3.0
    generated = np.full((1, 6 * RATE), 8000, np.int16)
    material = TrackSources(streamed(generated), RATE, 1, 1, streamed(real), parts)
    made, _ = made_of(material, MixPolicy("replace-silent-parts"), AudioFormat(RATE, 1, 6 * RATE))
    first, last = round(start * RATE), round(end * RATE)
    assert np.array_equal(made[:, :first], own[:, :first]) and np.array_equal(made[:, last:], own[:, last:])
    ramp = round(mixing.RAMP_S * RATE)
    assert (made[:, first + ramp : last - ramp] == 8000).all()
    # It rises and falls without a step.
    assert np.abs(np.diff(made[0, first : first + ramp].astype(int))).max() < 20
    assert np.abs(np.diff(made[0, last - ramp : last].astype(int))).max() < 20


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 4000))
def test_silent_parts_against_the_definition(hops: list[bool], block: int) -> None:
    """Hops of 10 ms, each loud or not; silence counts from five hops on."""
    rate, hop = 8000, 80
    sound = np.repeat(np.array(hops, np.float32) * 0.5, hop)[None]
    found = list(silent_parts(streamed(sound, block)(), rate, -60.0, min_s=0.05))
    expected, k = [], 0
    while k < len(hops):
        run = next((j for j in range(k, len(hops)) if hops[j]), len(hops))
        if run - k >= 5:
            expected.append((k * hop / rate, run * hop / rate))
        k = max(run, k) + 1
    assert found == expected


def test_mixtures_add_and_do_not_clip() -> None:
    own, generated = noise(4, 0.2, seed=1), noise(4, 0.1, seed=2)
    material = TrackSources(streamed(sixteen(generated)), RATE, 1, 1, streamed(own))
    made, gains = made_of(material, MixPolicy("mix", mix_gain=6), AudioFormat(RATE, 1, 4 * RATE))
    assert gains == [Gains()]
    expected = own + generated * 10 ** (6 / 20)
    assert np.abs(made / 32768 - expected).max() < 2e-4
    loud = TrackSources(streamed(sixteen(noise(4, 0.9))), RATE, 1, 1, streamed(noise(4, 0.9, seed=8)))
    made, gains = made_of(loud, MixPolicy("mix"), AudioFormat(RATE, 1, 4 * RATE))
    assert gains[0].ceiling_dbtp is not None and levels(made)[1] <= -0.95
    made, _ = made_of(loud, MixPolicy("mix", loudness=-23), AudioFormat(RATE, 1, 4 * RATE))
    assert levels(made)[0] == pytest.approx(-23, abs=0.5)


def test_several_tracks_have_gains_of_their_own() -> None:
    tracks = np.concatenate([noise(5, 0.9), noise(5, 0.05, seed=1)])
    material = TrackSources(streamed(sixteen(tracks)), RATE, 1, tracks=2)
    made, gains = made_of(material, MixPolicy(loudness=-18, channels=2), AudioFormat(RATE, 2, 5 * RATE))
    assert made.shape == (4, 5 * RATE) and gains[0] != gains[1]
    assert np.array_equal(made[0], made[1]) and np.array_equal(made[2], made[3])
    for k in (0, 2):  # both channels carry it: 3 LU more than one alone
        assert levels(made[k : k + 2])[0] == pytest.approx(-18, abs=0.5)


def test_channels() -> None:
    stereo = np.array([[0.5, 0.1], [0.1, 0.3]], np.float32)
    assert np.allclose(mixing.in_channels(stereo, 1, 1), [[0.3, 0.2]])
    assert np.array_equal(mixing.in_channels(stereo, 2, 2), stereo[[0, 0, 1, 1]])
    assert mixing.in_channels(stereo, 1, 2) is stereo


def test_a_span_at_the_film_s_end_has_no_ramp_there() -> None:
    shape = Envelope([(0.0, 0.5), (0.8, 9.0)], AudioFormat(1000, 1, 1000)).at(0, 1000)
    assert shape[0] == 1 and shape[499] < 0.01 and not shape[500:800].any() and shape[-1] == 1
    pieces = Envelope([(0.0, 0.5), (0.8, 9.0)], AudioFormat(1000, 1, 1000))
    assert np.array_equal(shape, np.concatenate([pieces.at(k, 7) for k in range(0, 1000, 7)])[:1000])


@pytest.mark.parametrize(("suffix", "codec"), [(".avi", "pcm_s16le"), (".mkv", "flac")])
def test_the_film_s_own_sound_comes_sample_by_sample(tmp_path: Path, suffix: str, codec: str) -> None:
    film = media_files.write_video(
        tmp_path / f"film{suffix}", duration_s=3, codec="mpeg4", sound="audible", sound_s=2, rate=48_000,
        audio_codec=codec,
    )  # fmt: skip
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * 48_000) / 48_000)
    with Sandbox() as sandbox:
        own = format_of(sandbox, str(film), 3.0)
        assert own == AudioFormat(48_000, 1, 3 * 48_000)
        found = np.concatenate(list(sandbox.iter_sound(str(film), own.n_samples, own.rate, 1, 0.0)), axis=1)
    assert found.shape == (1, own.n_samples)
    assert np.array_equal(pcm.quantise_exact(found[0, : 2 * 48_000]), (wave * 32767).round().astype(np.int16))
    assert not found[0, 2 * 48_000 :].any()
