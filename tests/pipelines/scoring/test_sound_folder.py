"""Folders of sounds: what is found, and how it is brought to one form."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import wavfile

from pipelines.scoring import sound_folder
from pipelines.scoring.sound_folder import Sound, SoundError, list_sounds, read_sound, wav_bytes

RATE = 44_100


def tone(n: int, rate: int = RATE, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(n) / rate)).astype(np.float32)


def write(path: Path, data: np.ndarray, rate: int = RATE) -> str:
    wavfile.write(path, rate, data)
    return str(path)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint8, np.float32])
def test_every_kind_of_sample_is_the_same_sound(tmp_path: Path, kind: type) -> None:
    wave = tone(4410)
    if kind is np.uint8:
        data = (wave * 128 + 128).round().astype(np.uint8)
    else:
        data = wave if kind is np.float32 else (wave * np.iinfo(kind).max).astype(kind)
    sound = read_sound(write(tmp_path / "a.wav", data))
    assert (sound.rate, sound.channels, sound.samples.dtype) == (RATE, 1, np.float32)
    np.testing.assert_allclose(sound.samples, wave, atol=0.01 if kind is np.uint8 else 1e-4)


def test_other_rates_and_channels_are_brought_to_one_form_and_told(tmp_path: Path) -> None:
    stereo = np.stack([tone(48_000, 48_000), -0.5 * tone(48_000, 48_000)], 1)
    samples, told = read_sound(write(tmp_path / "a.wav", stereo, 48_000)).fitted(RATE)
    assert told == "2 channels averaged, resampled from 48000 Hz"
    middle = slice(2000, -2000)  # the resampler's edges
    np.testing.assert_allclose(samples[middle], 0.25 * tone(RATE)[middle], atol=2e-3)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_length_is_that_of_the_reference(n: int, wanted: int) -> None:
    samples, told = Sound(np.ones(n, np.float32), RATE, 1).fitted(wanted)
    assert len(samples) == wanted and samples.sum() == min(n, wanted)
    assert bool(told) == (n != wanted)


def test_flac_is_decoded_in_the_sandbox_to_its_last_sample(tmp_path: Path) -> None:
    wave = tone(30_000, 16_000)
    with av.open(str(tmp_path / "a.flac"), "w") as file:
        stream = file.add_stream("flac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.rate = 16_000
        file.mux([*stream.encode(frame), *stream.encode(None)])
    sound = read_sound(str(tmp_path / "a.flac"))
    assert (sound.rate, sound.channels) == (16_000, 1)
    expected = tone(round(30_000 * RATE / 16_000))
    assert abs(len(sound.samples) - len(expected)) <= 64
    both = min(len(expected), len(sound.samples)) - 500
    np.testing.assert_allclose(sound.samples[500:both], expected[500:both], atol=0.01)


def test_what_is_no_sound_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound at all")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.flac").write_text("no sound either")
    write(tmp_path / "nan.wav", np.full(100, np.nan, np.float32))
    write(tmp_path / "nothing.wav", np.zeros(0, np.int16))
    for name in ("text.wav", "empty.wav", "text.flac", "nan.wav", "nothing.wav"):
        with pytest.raises(SoundError):
            read_sound(str(tmp_path / name))


def test_a_folder_is_clips_by_name(tmp_path: Path) -> None:
    for name in ("b.wav", "a.WAV", "sub/c.flac", "notes.txt", "_v2a/d.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list(list_sounds(str(tmp_path))) == ["a", "b", "sub/c"]
    (tmp_path / "b.flac").write_bytes(b"")
    with pytest.raises(SoundError, match="b twice"):
        list_sounds(str(tmp_path))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    wave = np.concatenate([tone(1000), [2.0, -2.0]]).astype(np.float32)
    (tmp_path / "a.wav").write_bytes(wav_bytes(wave))
    back = read_sound(str(tmp_path / "a.wav")).samples
    np.testing.assert_allclose(back, np.clip(wave, -1, 1), atol=1e-4)
    assert wavfile.read(io.BytesIO(wav_bytes(wave)))[1].dtype == np.int16


def test_clips_are_exported_flat(tmp_path: Path) -> None:
    source = tmp_path / "in" / "sub"
    source.mkdir(parents=True)
    (source / "c.wav").write_bytes(wav_bytes(tone(100)))
    found = list_sounds(str(tmp_path / "in"))
    names = sound_folder.flat_names(found)
    sound_folder.export_sounds({names[clip]: uri for clip, uri in found.items()}, str(tmp_path / "out"))
    assert (tmp_path / "out" / "sub-c.wav").read_bytes() == (source / "c.wav").read_bytes()
    with pytest.raises(SoundError, match=r"two clips would have the name sub-c\.wav"):
        sound_folder.flat_names(["sub/c", "sub-c"])


@pytest.mark.parametrize("rate", [44099, 44101, 47951, 997, 767_999])
def test_any_rate_is_resampled_with_little_memory(rate: int, tmp_path: Path) -> None:
    seconds = 0.5
    ratio = sound_folder._rate_ratio(rate)
    assert ratio.numerator * ratio.denominator <= sound_folder.LARGEST_FILTER
    assert abs(float(ratio) * rate / RATE - 1) < 3e-5
    sound = read_sound(write(tmp_path / "a.wav", tone(round(seconds * rate), rate), rate))
    assert abs(len(sound.samples) - seconds * RATE) <= 100


@pytest.mark.parametrize("rate", [44100, 48000, 22050, 8000, 96000, 192000])
def test_usual_rates_are_resampled_exactly(rate: int) -> None:
    assert sound_folder._rate_ratio(rate) * rate == RATE


def test_huge_files_and_rates_are_no_clips(tmp_path: Path) -> None:
    with (tmp_path / "a.wav").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SoundError, match="not a clip"):
        read_sound(str(tmp_path / "a.wav"))
    with pytest.raises(SoundError, match="4000000000 samples per second"):
        read_sound(write(tmp_path / "b.wav", np.full(100, 200, np.uint8), 4_000_000_000))
