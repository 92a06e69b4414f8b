"""Streams that Matroska holds under a RIFF header: packets stay, and an independent reader decodes them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.mux import remux
from pipelines.mux.headers import riff
from pipelines.mux.track import Track
from tests.support import media_files
from tests.support.muxing import RATE, decode_track, title_of
from tests.support.odd_streams import payloads

SOUNDS = {"pcm_alaw": 6, "pcm_mulaw": 7, "adpcm_ms": 2, "adpcm_ima_wav": 0x11, "wmav2": 0x161}
"""Tags of WAVEFORMATEX by codec (mmreg.h)."""

PICTURES = {"huffyuv": "yuv422p", "utvideo": "yuv420p", "msmpeg4v2": "yuv420p", "v210": "yuv422p10le"}


def copied(source: Path, name: str) -> tuple[Path, remux.MuxResult]:
    out = source.parent / name
    return out, remux.mux(str(source), [np.zeros((1, RATE), np.int16)], out, Track(RATE, 0.0))


def own_sound(path: Path) -> int:
    with av.open(str(path)) as film:
        return next(s.index for s in film.streams.audio if title_of(s) != remux.TITLE)


@pytest.mark.parametrize("codec", SOUNDS)
def test_sound_of_windows_goes_into_matroska(tmp_path: Path, codec: str) -> None:
    source = media_files.write_video(
        tmp_path / "a.avi", codec="mpeg4", sound="audible", audio_codec=codec, channels=2
    )
    copy, result = copied(source, "a.mkv")
    assert (result.dropped, result.converted) == ((), ())
    before, after = decode_track(source, own_sound(source)), decode_track(copy, own_sound(copy))
    np.testing.assert_array_equal(before[0], after[0])
    assert before[2] == after[2] and after[0].shape[0] == 2
    assert b"".join(payloads(source, "audio")[0]) in [b"".join(track) for track in payloads(copy, "audio")]
    with av.open(str(source)) as film:
        header = riff.header_of(film.streams.audio[0])
    assert struct.unpack("<HH", header[:4]) == (SOUNDS[codec], 2) and header in copy.read_bytes()


@pytest.mark.parametrize("codec", PICTURES)
def test_pictures_of_windows_go_into_matroska(tmp_path: Path, codec: str) -> None:
    source = media_files.write_video(tmp_path / "a.avi", codec=codec, pix_fmt=PICTURES[codec])
    copy, result = copied(source, "a.mkv")
    assert result.dropped == () and payloads(copy, "video") == payloads(source, "video")

    def pictures(path: Path) -> list[Any]:
        with av.open(str(path)) as film:
            return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]

    np.testing.assert_array_equal(pictures(source), pictures(copy))


def test_sound_of_a_quicktime_film_gets_the_tag_of_riff(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mov", sound="audible", audio_codec="pcm_alaw", rate=8000)
    copy, _ = copied(source, "a.mkv")
    with av.open(str(copy)) as film:
        track = film.streams[own_sound(copy)]
        assert (track.codec_context.name, track.codec_context.sample_rate) == ("pcm_alaw", 8000)


def test_blocks_of_unknown_size_are_decoded(tmp_path: Path) -> None:
    options: dict[str, Any] = {"codec": "mpeg4", "container_format": "nut", "rate": 48_000, "channels": 2}
    source = media_files.write_video(tmp_path / "a.nut", sound="audible", audio_codec="adpcm_ms", **options)
    copy, result = copied(source, "a.mkv")
    assert len(result.converted) == 1 and "adpcm_ms" in result.converted[0]
    before, after = decode_track(source, own_sound(source)), decode_track(copy, own_sound(copy))
    np.testing.assert_array_equal(before[0], after[0])


def test_codecs_without_a_tag_have_no_header(tmp_path: Path) -> None:
    source = media_files.write_video(
        tmp_path / "a.flv", codec="flv", sound="audible", audio_codec="nellymoser"
    )
    with av.open(str(source)) as film:
        assert riff.header_of(film.streams.audio[0]) == b""
        assert riff.header_of(film.streams.video[0]) != b""
