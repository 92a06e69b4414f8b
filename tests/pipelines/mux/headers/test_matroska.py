"""The header of a Matroska file: pixel aspect and codecs, written into place that the muxer left."""

from __future__ import annotations

import io
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.mux import remux
from pipelines.mux.headers import matroska
from pipelines.mux.headers.matroska import TrackHeader, display, element, elements
from pipelines.mux.track import Track
from tests.support import media_files
from tests.support.muxing import RATE, title_of

ENTRY, TRACKS, SEGMENT, NAME, VIDEO = 0xAE, 0x1654AE6B, 0x18538067, 0x536E, 0xE0


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(16, 11), Fraction(8, 9)])
def test_the_aspect_of_pixels_goes_into_the_header(tmp_path: Path, name: str, aspect: Fraction) -> None:
    source = media_files.write_video(tmp_path / "a.mp4", codec="libvpx-vp9", aspect=aspect)
    copy = tmp_path / name
    result = remux.mux(str(source), [np.zeros((1, RATE), np.int16)], copy, Track(RATE, 0.0))
    again = tmp_path / f"again-{name}"
    remux.mux(str(copy), [np.zeros((1, RATE), np.int16)], again, Track(RATE, 0.0))
    for path in (copy, again):
        with av.open(str(path)) as film:
            assert film.streams.video[0].sample_aspect_ratio == aspect
            assert "v2a header" not in title_of(film.streams.video[0])
            assert sum(1 for _ in film.decode(video=0)) == 25
    assert result.dropped == () and b"v2a header" not in copy.read_bytes()


def test_displays_are_exact() -> None:
    assert display(720, 576, Fraction(64, 45)) == (1024, 576, 0)
    width, height, unit = display(720, 576, Fraction(16, 11))
    assert unit == 3 and Fraction(width, height) == Fraction(720 * 16, 11 * 576)


def header_of(name: str, crc: bool) -> bytes:
    parts = element(0xD7, b"\1") + element(VIDEO, element(0xB0, b"\x60")) + element(NAME, name.encode())
    tracks = element(ENTRY, parts)
    if crc:
        tracks = element(0xBF, zlib.crc32(tracks).to_bytes(4, "little")) + tracks
    return element(0x1A45DFA3, b"") + element(SEGMENT, element(TRACKS, tracks) + element(0x1F43B675, b"x"))


def tracks_of(data: bytes) -> bytes:
    segment = next(content for name, content in elements(data) if name == SEGMENT)
    return next(content for name, content in elements(segment) if name == TRACKS)


@pytest.mark.parametrize("crc", [True, False])
@pytest.mark.parametrize("n", range(0, 300, 7))
def test_any_rest_of_the_place_is_filled(crc: bool, n: int) -> None:
    header = TrackHeader(name="N" * n, language="pt-BR", display=(4, 3, 3))
    before = header_of(header.placeholder(5) + "." * (n % 5), crc)
    file = io.BytesIO(before)
    matroska.write_headers(file, {5: header})
    after = file.getvalue()
    assert len(after) == len(before)
    tracks = tracks_of(after)
    if crc:
        assert tracks[:2] == b"\xbf\x84" and zlib.crc32(tracks[6:]) == int.from_bytes(tracks[2:6], "little")
    entry = dict(elements(next(content for name, content in elements(tracks) if name == ENTRY)))
    assert entry.get(NAME, b"") == b"N" * n and entry[0x22B59D] == b"pt-BR" and entry[0xD7] == b"\1"
    assert dict(elements(entry[VIDEO])) == {0xB0: b"\x60", 0x54B0: b"\4", 0x54BA: b"\3", 0x54B2: b"\3"}


def test_a_header_without_the_track_or_the_place_is_refused() -> None:
    header = TrackHeader(private=b"x" * 200, codec_id="A_MS/ACM")
    for data in (
        header_of("other", True),
        header_of(header.placeholder(5)[:40], True),
        b"",
        b"\x1a\x45\xdf\xa3\x80",
        header_of(header.placeholder(5), True)[:60],
    ):
        with pytest.raises(matroska.HeaderDamaged):
            matroska.write_headers(io.BytesIO(data), {5: header})
