"""Packets and configurations are equal if a decoder is given the same, whatever the container."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import pytest

from pipelines.mux import access_units
from pipelines.mux.access_units import configuration, unit
from tests.support import media_files

SPS, PPS, SLICE = b"\x67\x4d\x40\x0a\xec", b"\x68\xce\x0f\xc8", b"\x65\x88\x84\x21"
AVCC = b"\x01\x4d\x40\x0a\xff\xe1" + b"\0\5" + SPS + b"\1" + b"\0\4" + PPS


def by_length(*units: bytes, width: int = 4) -> bytes:
    return b"".join(len(data).to_bytes(width, "big") + data for data in units)


def by_start_code(*units: bytes) -> bytes:
    return b"".join((b"\0\0\0\1" if k % 2 == 0 else b"\0\0\1") + data for k, data in enumerate(units))


def test_separators_do_not_matter_but_boundaries_do() -> None:
    wanted = unit(by_length(SPS, SLICE), "h264", 4)
    assert unit(by_start_code(SPS, SLICE), "h264", 0) == wanted
    assert unit(by_length(SPS, SLICE, width=2), "h264", 2) == wanted
    assert unit(by_length(SPS + b"\0\0", SLICE), "h264", 4) == wanted  # zeros at the end mean nothing
    assert unit(by_length(SPS + SLICE[:1], SLICE[1:]), "h264", 4) != wanted
    assert unit(by_length(SPS + SLICE), "h264", 4) != wanted
    assert unit(by_length(SLICE, SPS), "h264", 4) != wanted


def test_a_length_that_is_too_long_is_seen() -> None:
    good = by_length(SPS, SLICE)
    longer = by_length(SPS) + (len(SLICE) + 1).to_bytes(4, "big") + SLICE
    assert unit(longer, "h264", 4) != unit(good, "h264", 4)
    assert unit(good + b"\1", "h264", 4) != unit(good, "h264", 4)


def test_other_codecs_are_taken_as_they_are() -> None:
    assert unit(by_length(SPS), "vp9", 0) == by_length(SPS)


def test_configurations_of_h264() -> None:
    wanted = configuration("h264", AVCC)
    assert configuration("h264", by_start_code(SPS, PPS)) == wanted
    assert configuration("h264", AVCC[:4] + b"\xfd" + AVCC[5:]) == wanted  # lengths of two bytes
    flipped = AVCC[:-1] + bytes([AVCC[-1] ^ 8])
    for other in (flipped, AVCC[:1] + b"\x42" + AVCC[2:], by_start_code(PPS, SPS), AVCC[:-7]):
        assert configuration("h264", other) != wanted


@pytest.mark.parametrize("size", range(0, 40, 3))
def test_damaged_configurations_are_read(size: int) -> None:
    for codec in ("h264", "hevc", "flac"):
        assert isinstance(configuration(codec, (b"\1" + bytes(range(200, 240)))[:size]), str)


def test_configurations_of_sound() -> None:
    assert configuration("aac", b"\x12\x08") == hashlib.sha256(b"\x12\x08").hexdigest()
    assert configuration("pcm_s16le", b"x") == configuration("vp9", b"x") == configuration("aac", b"") == ""
    info = bytes(range(34))
    assert configuration("flac", info) == configuration("flac", b"fLaC\x80\0\0\x22" + info)
    assert configuration("flac", info) == configuration("flac", info[:18] + bytes(16))  # its MD5
    assert configuration("flac", info) != configuration("flac", info[:10] + b"\xff" + info[11:])


def test_a_real_hevc_film(tmp_path: Path) -> None:
    try:
        film = media_files.write_video(tmp_path / "a.mp4", codec="libx265", duration_s=0.3)
    except (ValueError, av.FFmpegError):
        pytest.skip("FFmpeg was built without libx265")
    with av.open(str(film)) as opened:
        data = bytes(opened.streams.video[0].codec_context.extradata or b"")
        assert access_units.length_size("hevc", data) == 4
        [first, *_] = [bytes(p) for p in opened.demux(video=0) if p.size]
    assert unit(first, "hevc", 4)
    at = data.index(b"\x42\x01", 22)  # a sequence parameter set
    assert configuration("hevc", data) != configuration("hevc", data[: at + 9] + b"\x77" + data[at + 10 :])


def test_bytes_of_samples() -> None:
    names = ("pcm_s16le", "pcm_s24be", "pcm_u8", "pcm_f64le", "pcm_alaw")
    assert [access_units.pcm_bytes(name) for name in names] == [2, 3, 1, 8, 1]
