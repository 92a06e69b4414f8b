"""Kinds of files by their first bytes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.archive import kinds
from tests.support import media_files

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(50) + b"ATTR" + bytes(200)


def box(brand: bytes, *compatible: bytes) -> bytes:
    """The first box of a file in boxes, and the beginning of the next."""
    content = brand + bytes(4) + b"".join(compatible)
    return (
        struct.pack(">I4s", 8 + len(content), b"ftyp")
        + content
        + struct.pack(">I4s", 300, b"meta")
        + bytes(99)
    )


def nal_units(*units: bytes, long: bool = True) -> bytes:
    return b"".join((b"\x00\x00\x00\x01" if long else b"\x00\x00\x01") + unit for unit in units) + bytes(
        range(256)
    )


@pytest.mark.parametrize(
    ("kind", "heads"),
    [
        (kinds.EMPTY, [b""]),
        (kinds.APPLE_DOUBLE, [APPLE_DOUBLE, b"\x00\x05\x16\x00" + bytes(99)]),
        (kinds.PHOTO, [box(b"avif", b"mif1"), box(b"heic", b"mif1", b"isom"), box(b"mif1")]),
        (kinds.PHOTO, [box(b"avis"), box(b"crx ")]),
        (kinds.PHOTO, [b"\xff\xd8\xff\xe1" + bytes(99), b"RIFF\x10\x00\x00\x00WEBPVP8 " + bytes(9)]),
        (kinds.PHOTO, [b"II*\x00" + bytes(9)]),
        (kinds.PHOTO, [b"BM\x36\x00\x00\x00\x00\x00\x00\x00\x36" + bytes(60)]),
        (kinds.PHOTO, [b"GIF89a\x01\x00\x01\x00" + bytes(9)]),
        (kinds.FILM, [box(b"isom", b"mif1"), box(b"qt  "), box(b"mp42", b"avc1"), box(b"M4V ")]),
        (kinds.FILM, [b"\x00\x00\x00\x08wide" + bytes(99), b"\x00\x00\x10\x00free" + bytes(99)]),
        (kinds.FILM, [b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\x00\x00\x00\x1cftypmjp2" + bytes(20)]),
        (kinds.FILM, [nal_units(b"\x67\x42\xc0\x1e", b"\x68\xce")]),
        (kinds.FILM, [nal_units(b"\x09\xf0", b"\x27\x64\x00", long=False)]),
        (kinds.FILM, [nal_units(b"\x06\x05\x10", b"\x67\x4d\x40")]),
        (kinds.FILM, [b"\x00\x00" + nal_units(b"\x67\x64\x00\x28")]),
        (kinds.FILM, [nal_units(b"\x40\x01\x0c\x01"), nal_units(b"\x46\x01\x10", b"\x42\x01\x01")]),
        (kinds.FILM, [nal_units(b"\x00\x79\x00")]),
        (kinds.FILM, [b"DHAV\xfd\x00" + bytes(99), b"DAHUA" + bytes(1024)]),
        (kinds.FILM, [b"IMKH" + bytes(99), b"\x12\x00\x0a\x0a" + bytes(9)]),
        (kinds.FILM, [(b"\x47" + bytes(187)) * 3, bytes(4) + (b"\x47" + bytes(191)) * 3]),
        (kinds.FILM, [(b"\x47" + bytes(203)) * 3]),
        (kinds.FILM, [b"\x01" * 70 + (b"\x47" + bytes(187)) * 12]),  # the first packet is cut off
        (kinds.SOUND, [b"RIFF\x10\x00\x00\x00WAVEfmt \x10" + bytes(20), b"fLaC\x00\x00\x00\x22" + bytes(9)]),
        (kinds.SOUND, [b"ID3\x04" + bytes(9)]),
        (kinds.DOCUMENT, [b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", b"%PDF-1.4\nplain"]),
        (kinds.DOCUMENT, [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(9)]),
        (kinds.PACKED, [b"PK\x03\x04\x14\x00" + bytes(20), b"\x1f\x8b\x08\x00" + bytes(20)]),
        (kinds.TEXT, [b"The wide world is full of films.", b"import { a } from 'b';\n"]),
        (kinds.TEXT, [b"BM, said the text", b"ID3 tags explained"]),
        (kinds.TEXT, ["caf\u00e9 \u2014 d\u00e9j\u00e0".encode(), "caf\u00e9".encode("latin-1")]),
        (kinds.TEXT, ["\ufeffa,b\r\n".encode("utf-16")]),
        (kinds.TEXT, [b'<?xml version="1.0"?>\n<!DOCTYPE TS>\n<TS version="2.1">', b"G" * 400]),
        (kinds.TEXT, ["\u6620\u753b".encode("shift-jis")]),
        (kinds.OTHER, [bytes(500), b"\x7fELF\x02\x01\x01" + bytes(99)]),
        (kinds.OTHER, [b"\x00\x00\x01\x00\x01\x00\x10\x10" + bytes(99)]),
        (kinds.OTHER, [b"SQLite format 3\x00" + bytes(99), nal_units(b"\x65\x88\x84"), b"\x00\x00\x00\x01"]),
    ],
)  # fmt: skip
def test_kinds(kind: str, heads: list[bytes]) -> None:
    for head in heads:
        assert kinds.kind_of(head) == kind, head[:40]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "avi", "ts", "mpg", "flv", "mxf", "h264"])
def test_every_container_of_films_is_known_by_its_content(tmp_path: Path, suffix: str) -> None:
    codec = {"webm": "libvpx", "mpg": "mpeg2video", "mxf": "mpeg2video", "flv": "flv"}.get(suffix, "libx264")
    path = media_files.write_video(tmp_path / f"a.{suffix}", duration_s=0.4, codec=codec)
    assert kinds.kind_of(path.read_bytes()[: kinds.HEAD]) == kinds.FILM


@given(st.binary(max_size=600))
def test_any_bytes_have_a_kind(head: bytes) -> None:
    assert kinds.kind_of(head)


@given(st.text(max_size=300).filter(lambda text: text and not any(c < " " or c == "\x7f" for c in text)))
def test_text_is_text(text: str) -> None:
    data = text.encode("utf-8", "ignore")
    assert not data or kinds.kind_of(data) in (kinds.TEXT, kinds.DOCUMENT)


def test_what_is_passed_over_by_content_and_name() -> None:
    over = kinds.is_passed_over
    assert over(kinds.PHOTO, ".mp4", True) and over(kinds.APPLE_DOUBLE, ".mov", True)
    assert (
        over(kinds.TEXT, ".ts", True) and over(kinds.TEXT, ".txt", False) and over(kinds.PACKED, ".mod", True)
    )
    assert not over(kinds.TEXT, ".mp4", True)  # a page with an error that was saved as a film
    assert not over(kinds.PHOTO, ".mjpg", True) and not over(kinds.FILM, ".ts", True)
    assert not over(kinds.OTHER, ".ts", True)


def test_numbers_of_kinds() -> None:
    counts = {"sound file": 3, "photo": 1212, "AppleDouble file": 40, "text file": 1, "empty file": 1}
    assert (
        kinds.counted(counts)
        == "1,212 photos, 40 AppleDouble files, 3 sound files, 1 empty file, 1 text file"
    )
    assert kinds.counted({}) == ""
