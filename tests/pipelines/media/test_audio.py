"""Decoding sound: on the timeline of the pictures, at any rate, with any channels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.media import audio, container
from pipelines.media import video as media_video
from pipelines.media.errors import DecodeFailed
from tests.support import media_files
from tests.support.decoding import probe, sound
from v2a_models import grid


@pytest.mark.parametrize(
    ("kinds", "state", "n_tracks"),
    [
        ((), "none", 0),
        (("empty",), "empty", 1),
        (("silent",), "silent", 1),
        (("quiet",), "silent", 1),
        (("audible",), "audible", 1),
        (("silent", "empty", "audible"), "audible", 3),
    ],
)
def test_audio_state_comes_from_the_samples_of_all_tracks(
    tmp_path: Path, kinds: tuple[Any, ...], state: str, n_tracks: int
) -> None:
    facts = probe(media_files.write_video(tmp_path / "a.mkv", sound=kinds, duration_s=0.5))
    assert (facts.audio_state, facts.n_audio_tracks) == (state, n_tracks)
    if state in ("none", "empty"):
        assert facts.peak_dbfs is None
    elif state == "audible":
        assert facts.peak_dbfs == pytest.approx(-6.02, abs=0.1)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_f32le", "flac"])
def test_peak_is_the_same_in_every_sample_format(tmp_path: Path, codec: str) -> None:
    facts = probe(
        media_files.write_video(tmp_path / "a.mkv", sound="audible", duration_s=0.5, audio_codec=codec)
    )
    assert facts.peak_dbfs == pytest.approx(-6.02, abs=0.6)


@pytest.mark.parametrize(
    ("name", "rate", "channels"), [("a.mkv", 44_100, 1), ("a.mp4", 48_000, 2), ("b.mkv", 22_050, 6)]
)
def test_sound_is_resampled_to_an_exact_length(tmp_path: Path, name: str, rate: int, channels: int) -> None:
    path = media_files.write_video(
        tmp_path / name, duration_s=2, sound="audible", rate=rate, channels=channels
    )
    got = sound(path, 0, 1.7)
    assert got.shape == (channels, grid.samples(1.7))
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(got.shape[1]) / 44_100)
    middle = slice(8000, -8000)
    correlation = np.corrcoef(got[0, middle], wave[middle])[0, 1]
    assert correlation > 0.99, "in step with the pictures"
    later = sound(path, 1.2, 1.7)
    assert np.corrcoef(later[0, 2000:-2000], wave[-later.shape[1] :][2000:-2000])[0, 1] > 0.99


def test_sound_is_zero_where_the_track_has_none(tmp_path: Path) -> None:
    path = media_files.write_video(
        tmp_path / "a.mkv", duration_s=3, sound="audible", sound_start_s=1, sound_s=1
    )
    got = np.abs(sound(path, 0, 3)[0])
    assert got[:43_000].max() == 0
    assert got[46_000:86_000].max() > 0.4
    assert got[90_000:].max() == 0


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.ts"])
def test_sound_needs_no_picture_when_its_origin_is_known(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = media_files.write_video(
        tmp_path / name, start_s=1.5, duration_s=4, sound="audible", sound_start_s=1.5
    )
    origin_s = probe(path).video_start_s
    expected = sound(path, 2.2, 3)
    monkeypatch.delattr(container, "picture_start")
    with path.open("rb") as file:
        assert np.array_equal(media_video.decode_sound(file, 2.2, 3, origin_s=origin_s), expected)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_sound_is_mixed_to_the_channels_asked_for(tmp_path: Path, channels: int) -> None:
    path = media_files.write_video(tmp_path / "a.mkv", duration_s=1, sound="audible", channels=channels)
    with path.open("rb") as file:
        mono, stereo = (media_video.decode_sound(file, 0, 1, channels=n) for n in (1, 2))
        with pytest.raises(ValueError, match="channels"):
            media_video.decode_sound(file, 0, 1, channels=3)
    assert mono.shape == (1, 44_100) and stereo.shape == (2, 44_100)
    own = sound(path, 0, 1)
    for mixed in (*mono, *stereo):
        assert np.corrcoef(mixed[2000:-2000], own[0, 2000:-2000])[0, 1] > 0.99
        assert np.abs(mixed).max() == pytest.approx(0.5, abs=0.01), "the same tone in all stays as loud"
    assert np.allclose(mono[0], own.mean(0), atol=1e-6)
    if channels == 2:
        assert np.array_equal(stereo, own)


@pytest.mark.parametrize(
    "layout", ["2.1", "3.0", "quad", "5.0", "5.1", "6.1", "7.1", "7.1(wide)", "22.2", "9 channels"]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_mixing_is_bounded(layout: str, channels: int) -> None:
    weights = audio.mixing(av.AudioLayout(layout), channels)
    assert weights is not None
    assert weights.shape == (channels, av.AudioLayout(layout).nb_channels) and weights.dtype == np.float32
    assert np.abs(weights).sum(1).max() <= 1 + 1e-6


def test_mixing_keeps_what_it_can() -> None:
    mono, stereo, surround = map(av.AudioLayout, ("mono", "stereo", "5.1"))
    assert audio.mixing(mono, 1) is audio.mixing(stereo, 2) is audio.mixing(surround, None) is None
    assert np.array_equal(audio.mixing(mono, 2), [[1], [1]])
    assert np.array_equal(audio.mixing(stereo, 1), [[0.5, 0.5]])
    beside = 0.5**0.5
    left, right = [1, 0, beside, 0, beside, 0], [0, 1, beside, 0, 0, beside]
    assert np.allclose(audio.mixing(surround, 2), np.array([left, right]) / (1 + 2 * beside))
    quad = [[1, 0, beside, 0], [0, 1, 0, beside]]
    assert np.allclose(audio.mixing(av.AudioLayout("quad"), 2), np.array(quad) / (1 + 2 * beside))


@pytest.mark.parametrize("channels", [1, 2, None])
def test_sound_of_eight_channels_is_read(tmp_path: Path, channels: int | None) -> None:
    path = media_files.write_video(tmp_path / "a.mkv", duration_s=1)
    eight = tmp_path / "b.mkv"
    with av.open(str(path)) as film, av.open(str(eight), "w") as out:
        video = out.add_stream_from_template(film.streams.video[0])
        track: Any = out.add_stream("aac", rate=48_000)
        track.bit_rate, track.codec_context.layout = 512_000, "7.1"
        for packet in film.demux(film.streams.video[0]):
            if packet.dts is not None:
                packet.stream = video
                out.mux(packet)
        for at in range(0, 48_000, 1024):
            wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(at, at + 1024) / 48_000)
            block = np.repeat(wave.astype(np.float32), 8).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(block, format="flt", layout="7.1")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, at, Fraction(1, 48_000)
            resampler = av.AudioResampler(format="fltp", layout="7.1", rate=48_000)
            for part in resampler.resample(frame) + resampler.resample(None):
                out.mux(track.encode(part))
        out.mux(track.encode(None))
    facts = probe(eight)
    assert facts.peak_dbfs is not None and -7 < facts.peak_dbfs < 0
    with eight.open("rb") as file:
        got = media_video.decode_sound(file, 0, 1, channels=channels)
    assert got.shape == (channels or 8, 44_100)
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(got.shape[1]) / 44_100)
    assert np.corrcoef(got[0, 8000:-8000], wave[8000:-8000])[0, 1] > 0.99


def test_silence_has_the_channels_asked_for(tmp_path: Path) -> None:
    path = media_files.write_video(tmp_path / "a.mkv", duration_s=1, sound="empty")
    with path.open("rb") as file:
        assert media_video.decode_sound(file, 0, 1, channels=2).shape == (2, 44_100)


def test_sound_without_a_track(tmp_path: Path) -> None:
    with pytest.raises(DecodeFailed, match="NoAudioStream"):
        sound(media_files.write_video(tmp_path / "a.mp4", duration_s=0.2), 0, 0.1)
