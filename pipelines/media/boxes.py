"""Facts in the headers of mp4 and Matroska that players follow and FFmpeg does not tell.

Cropping by the container, the volume of a track, the announced size, tracks that are switched off, speed factors,
ordered chapters. Every loop is bounded, so a hostile header costs little. What is not read to its end is unusual, and a
size that is too large ends with what is around it, as FFmpeg takes it: no header can hide facts from this reader alone.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar

_MOST = 100_000
"""Boxes or elements that are looked at in one file."""

_TOO_MANY = f"more than {_MOST} headers"

_LEAF = 1 << 16
"""Bytes that are read of one box."""


@dataclass
class HeaderFacts:
    """Facts about a file's tracks by their identifier, and about the whole.

    The identifier is FFmpeg's `stream.id`, or its `stream.index` for Matroska, where it knows no other.
    """

    tracks: dict[int, dict[str, str]] = field(default_factory=dict)
    """`crop` (left top right bottom), `announced` (width x height of a picture), `volume`, `balance`, `layer`, `blend`
    (graphics mode), `disabled`; usual values are left out."""
    chapters: list[str] | None = None
    """Titles in the list of chapters that mp4 has besides a track of them; None without such a list."""
    brand: str = ""
    """Major brand of an mp4 or mov file, without spaces."""
    read: bool = False
    """True for a container whose headers are read."""
    odd: list[str] = field(default_factory=list)
    """Unusual facts about the file as a whole, in words."""


def read_headers(file: BinaryIO, format_name: str, *, tracks_only: bool = False) -> HeaderFacts:
    """Facts in the headers of an open file, which may be damaged; it moves the file's position.

    format_name: FFmpeg's demuxer. tracks_only: look no further than the description of the tracks, instead of over the
    whole file.
    """
    facts = HeaderFacts()
    size = file.seek(0, os.SEEK_END)
    names = format_name.split(",")
    facts.read = "mov" in names or "matroska" in names
    try:
        if "mov" in names:
            _Mp4(file, facts, tracks_only).film(size)
        elif "matroska" in names:
            _Matroska(file, facts, tracks_only).film(size)
    except (struct.error, IndexError, ValueError, OverflowError):
        facts.odd.append("a damaged header")
    facts.odd = sorted(set(facts.odd))[:20]
    return facts


class _Mp4:
    """Reader of the boxes of an mp4 or mov file (ISO/IEC 14496-12)."""

    def __init__(self, file: BinaryIO, facts: HeaderFacts, tracks_only: bool) -> None:
        self._file, self._facts, self._left = file, facts, _MOST
        self._tracks_only = tracks_only
        self._track: dict[str, str] = {}

    def film(self, size: int) -> None:
        indexes = 0
        for kind, start, stop in self._boxes(0, size):
            if kind == b"ftyp" and not self._facts.brand:
                self._facts.brand = self._read(start, stop)[:4].decode("latin-1").strip()
            elif kind == b"moov":
                indexes += 1
                if indexes == 1:
                    self._movie(start, stop)
                if self._tracks_only:
                    return
        if indexes > 1:
            self._facts.odd.append(f"{indexes} indexes (moov)")

    def _boxes(self, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
        """(type, start and stop of the content) of the boxes between two places."""
        while start + 8 <= stop:
            if not self._left:
                self._facts.odd.append(_TOO_MANY)
                return
            self._left -= 1
            self._file.seek(start)
            head = self._file.read(16)
            size, kind = struct.unpack(">I4s", head[:8])
            content = start + 8
            if size == 1:
                size, content = struct.unpack(">Q", head[8:16])[0], start + 16
            end = stop if size == 0 else min(start + size, stop)
            if end < content:
                return
            yield kind, content, end
            start = end

    def _read(self, start: int, stop: int) -> bytes:
        self._file.seek(start)
        return self._file.read(min(stop - start, _LEAF))

    def _movie(self, start: int, stop: int) -> None:
        for kind, a, b in self._boxes(start, stop):
            if kind == b"mvhd":
                data = self._read(a, b)
                at = 4 + (28 if data[0] == 1 else 16)
                rate, volume = struct.unpack(">ih", data[at : at + 6])
                if rate not in (0, 1 << 16):
                    self._facts.odd.append(f"preferred rate {rate / 65536:.4g}")
                if volume not in (0, 256):
                    self._facts.odd.append(f"preferred volume {volume / 256:.4g}")
            elif kind == b"trak":
                self._track = {}
                self._parts(a, b)
            elif kind == b"udta":
                for inner, start_, stop_ in self._boxes(a, b):
                    if inner == b"chpl":
                        self._facts.chapters = _titles(self._read(start_, stop_))

    def _parts(self, start: int, stop: int) -> None:
        for kind, a, b in self._boxes(start, stop):
            if kind in (b"mdia", b"minf", b"stbl", b"edts"):
                self._parts(a, b)
            elif kind == b"tkhd":
                data = self._read(a, b)
                at = 4 + (16 if data[0] == 1 else 8)
                found = self._facts.tracks.setdefault(struct.unpack(">I", data[at : at + 4])[0], {})
                found.update(self._track)  # of boxes that came before
                self._track = found
                at += 4 + (12 if data[0] == 1 else 8) + 8 + 4
                layer, volume = struct.unpack(">hxxh", data[at - 4 : at + 2])
                if volume not in (0, 256):
                    self._track["volume"] = f"{volume / 256:.4g}"
                if layer:
                    self._track["layer"] = str(layer)
            elif kind == b"smhd":
                if balance := struct.unpack(">h", self._read(a, b)[4:6])[0]:
                    self._track["balance"] = f"{balance / 256:.4g}"
            elif kind == b"vmhd":
                mode = struct.unpack(">H", self._read(a, b)[4:6])[0]
                if mode not in (0, 0x40):  # copied, also with dithering
                    self._track["blend"] = f"{mode:#x}"
            elif kind == b"elst":
                self._edits(self._read(a, b))
            elif kind == b"stsd":
                self._entries(a + 8, b)

    def _edits(self, data: bytes) -> None:
        entry = ">QqI" if data[0] == 1 else ">IiI"
        width = struct.calcsize(entry)
        announced = struct.unpack(">I", data[4:8])[0]
        number = min(announced, (len(data) - 8) // width)
        if number < announced:
            self._facts.odd.append("an edit list that goes on")
        for k in range(number):
            rate = struct.unpack(entry, data[8 + k * width : 8 + (k + 1) * width])[2]
            if rate != 1 << 16:
                self._facts.odd.append(f"an edit at rate {rate / 65536:.4g}")

    def _entries(self, start: int, stop: int) -> None:
        for number, (_, a, b) in enumerate(self._boxes(start, stop)):
            data = self._read(a, b)
            if number == 0 and len(data) >= 78:
                width, height = struct.unpack(">HH", data[24:28])
                self._track["announced"] = f"{width}x{height}"
                for kind, inner, end in self._boxes(a + 78, b):
                    if kind == b"clap" and end - inner >= 32:
                        self._track["crop"] = _aperture(self._read(inner, end), width, height)
            elif number > 0:
                self._facts.odd.append("a track with several configurations")


def _titles(data: bytes) -> list[str]:
    """Titles of a `chpl` box."""
    found, at = [], 9
    for _ in range(data[8]):
        size = data[at + 8]
        found.append(data[at + 9 : at + 9 + size].decode(errors="replace"))
        at += 9 + size
    return found


def _aperture(data: bytes, width: int, height: int) -> str:
    """Left, top, right and bottom crop in pixels of a `clap` box."""
    w_n, w_d, h_n, h_d, x_n, x_d, y_n, y_d = struct.unpack(">IIIIiIiI", data[:32])
    w, h, x, y = w_n / max(1, w_d), h_n / max(1, h_d), x_n / max(1, x_d), y_n / max(1, y_d)
    left, top = (width - w) / 2 + x, (height - h) / 2 + y
    return _crop(left, top, width - w - left, height - h - top)


def _crop(*sides: float) -> str:
    text = " ".join(f"{side:.4g}" for side in sides)
    return "" if text.replace("-", "") == "0 0 0 0" else text


class _Matroska:
    """Reader of the elements of a Matroska or WebM file (RFC 9559)."""

    _SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
    _INTO = (0x1654AE6B, 0x1043A770, 0x45B9, 0xE0)
    """Tracks, Chapters, EditionEntry, Video."""
    _CROP: ClassVar = {0x54CC: "left", 0x54BB: "top", 0x54DD: "right", 0x54AA: "bottom"}

    def __init__(self, file: BinaryIO, facts: HeaderFacts, tracks_only: bool) -> None:
        self._file, self._facts, self._left = file, facts, _MOST
        self._tracks_only = tracks_only
        self._now: dict[str, int] = {}

    def film(self, size: int) -> None:
        segments = 0
        for name, start, stop in self._elements(0, size):
            if name == self._SEGMENT:
                segments += 1
                if segments == 1:
                    self._inside(start, stop)
                if self._tracks_only:
                    return
        if segments > 1:
            self._facts.odd.append(f"{segments} segments")

    def _number(self, keep_marker: bool) -> int | None:
        """An element's identifier, or a size; None for an unknown size or at the end of the file."""
        first = self._file.read(1)
        if not first or first[0] == 0:
            return None
        width = 9 - first[0].bit_length()
        value = first[0] if keep_marker else first[0] - (1 << (8 - width))
        rest = self._file.read(width - 1)
        number = int.from_bytes(bytes([value]) + rest, "big")
        return None if not keep_marker and number == (1 << 7 * width) - 1 else number

    def _elements(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """(identifier, start and stop of the content) of the elements between two places."""
        while start < stop:
            if not self._left:
                self._facts.odd.append(_TOO_MANY)
                return
            self._left -= 1
            self._file.seek(start)
            name = self._number(keep_marker=True)
            if name is None:
                return
            size = self._number(keep_marker=False)
            content = self._file.tell()
            end = stop if size is None else content + size
            if end > stop:
                end = stop
            yield name, content, end
            start = end

    def _value(self, start: int, stop: int) -> int:
        self._file.seek(start)
        return int.from_bytes(self._file.read(min(8, stop - start)), "big")

    def _inside(self, start: int, stop: int) -> None:
        for name, a, b in self._elements(start, stop):
            if name == self._CLUSTER and self._tracks_only and self._facts.tracks:
                return
            if name == 0xAE:  # TrackEntry
                self._now = {}
                self._inside(a, b)
                self._keep()
            elif name in self._INTO:
                self._inside(a, b)
            elif name in self._CROP:
                self._now[self._CROP[name]] = self._value(a, b)
            elif name in (0x83, 0xB0, 0xBA, 0xB9):
                key = {0x83: "type", 0xB0: "width", 0xBA: "height", 0xB9: "enabled"}[name]
                self._now[key] = self._value(a, b)
            elif name == 0xE2:
                self._facts.odd.append("a track combined from others")
            elif name == 0x45DD and self._value(a, b):
                self._facts.odd.append("ordered chapters")

    def _keep(self) -> None:
        now: dict[str, Any] = self._now
        if now.get("type") not in (0x01, 0x02, 0x11, 0x21):
            self._facts.odd.append("a track of an unusual type")
            return
        track = self._facts.tracks.setdefault(len(self._facts.tracks), {})
        if "width" in now:
            track["announced"] = f"{now['width']}x{now.get('height', 0)}"
        if crop := _crop(*(now.get(side, 0) for side in ("left", "top", "right", "bottom"))):
            track["crop"] = crop
        if now.get("enabled") == 0:
            track["disabled"] = "yes"
