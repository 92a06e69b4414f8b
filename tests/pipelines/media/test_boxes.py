"""Facts in headers that players follow and FFmpeg does not tell."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from pipelines.media.boxes import read_headers
from tests.support import media_files


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("films")
    names = ("a.mp4", "a.mkv")
    return {
        n: media_files.write_video(folder / n, duration_s=0.2, sound="audible").read_bytes() for n in names
    }


def test_plain_films(films: dict[str, bytes]) -> None:
    found = read_headers(io.BytesIO(films["a.mp4"]), "mov,mp4,m4a")
    assert found.tracks[1] == {"announced": "96x64"} and found.odd == [] and found.brand == "isom"
    assert set(found.tracks) == {1, 2} and set(found.tracks[2]) <= {"announced"}
    found = read_headers(io.BytesIO(films["a.mkv"]), "matroska,webm")
    assert found.tracks == {0: {"announced": "96x64"}, 1: {}} and found.odd == []


def element(name: int, data: bytes) -> bytes:
    return (
        name.to_bytes((name.bit_length() + 7) // 8, "big") + (len(data) | 1 << 28).to_bytes(4, "big") + data
    )


def matroska(*parts: bytes, video: bytes = b"", entry: bytes = b"") -> io.BytesIO:
    size = element(0xB0, b"\x60") + element(0xBA, b"\x40")
    track = element(0x83, b"\1") + element(0xE0, size + video) + entry
    return io.BytesIO(element(0x18538067, element(0x1654AE6B, element(0xAE, track)) + b"".join(parts)))


def test_matroska() -> None:
    assert read_headers(matroska(), "matroska").tracks == {0: {"announced": "96x64"}}
    crop = element(0x54CC, b"\x08") + element(0x54AA, b"\x10")
    assert read_headers(matroska(video=crop), "matroska").tracks[0]["crop"] == "8 0 0 16"
    assert read_headers(matroska(entry=element(0xB9, b"\0")), "matroska").tracks[0]["disabled"] == "yes"
    ordered = element(0x1043A770, element(0x45B9, element(0x45DD, b"\1")))
    assert read_headers(matroska(ordered), "matroska").odd == ["ordered chapters"]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_damaged_headers_cost_little_and_raise_nothing(films: dict[str, bytes], name: str) -> None:
    demuxer = {"a.mp4": "mov", "a.mkv": "matroska"}[name]
    data = films[name]
    for at in range(0, len(data), max(1, len(data) // 60)):
        spoilt = data[:at] + b"\xff\0\xff\xff" + data[at + 4 :]
        read_headers(io.BytesIO(spoilt), demuxer)
        read_headers(io.BytesIO(data[:at]), demuxer)
    endless = struct.pack(">I4s", 8, b"free") * 300_000
    assert read_headers(io.BytesIO(endless), "mov").tracks == {}


class Counting(io.BytesIO):
    """A file that counts how often it is read."""

    reads = 0

    def read(self, n: int | None = -1) -> bytes:
        self.reads += 1
        return super().read(n)


def test_tracks_alone_cost_the_same_however_long_the_film_is(films: dict[str, bytes]) -> None:
    crop, clusters = element(0x54CC, b"\x08"), [element(0x1F43B675, b"")] * 5000
    for film, demuxer in (
        (matroska(*clusters, video=crop).getvalue(), "matroska"),
        (films["a.mp4"] + struct.pack(">I4s", 8, b"moof") * 5000, "mov"),
    ):
        file, whole = Counting(film), read_headers(io.BytesIO(film), demuxer)
        assert read_headers(file, demuxer, tracks_only=True).tracks == whole.tracks
        assert file.reads < 200


def test_other_containers(tmp_path: Path) -> None:
    assert read_headers(io.BytesIO(b"RIFF"), "avi").tracks == {}


def test_headers_behind_too_many_others_are_unusual(films: dict[str, bytes]) -> None:
    at = films["a.mp4"].index(b"moov") - 4
    boxes = films["a.mp4"][:at] + b"\0\0\0\x08free" * 100_000 + films["a.mp4"][at:]
    assert read_headers(io.BytesIO(boxes), "mov,mp4,m4a").odd == ["more than 100000 headers"]
