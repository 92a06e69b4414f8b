"""Facts in the headers of single pictures: coding, size, frame rate, and whether a camera for photos took them.

Read from a few bytes at known places, without decoding anything; what is damaged states nothing.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

from pipelines import storage

_HEAD = 1 << 18
"""Bytes from the start of a picture that are looked at; EXIF and its thumbnail take 64 KiB."""

_WIDTH, _HEIGHT, _MAKE, _EXIF = 256, 257, 271, 34665
"""Tags of TIFF and EXIF."""


@dataclass(frozen=True)
class PictureFacts:
    """Facts about a picture; unknown ones have the defaults."""

    coding: bytes = b""
    """QuickTime's name of its coding (`storage.FORMATS`); empty for no picture of these."""
    size: tuple[int, int] | None = None
    """Width and height, in pixels."""
    rate: Fraction | None = None
    """Pictures per second of the film that it belongs to."""
    camera: bool = False
    """True if it has the EXIF data of a camera."""


def picture_facts(file: BinaryIO) -> PictureFacts:
    """Facts about the picture in an open file. Raises only the errors of `file`."""
    head = file.read(_HEAD)
    try:
        if head[:4] in (b"SDPX", b"XPDS"):
            return _dpx(head)
        if head[:4] == b"v/1\x01":
            return _exr(head)
        if head[:4] in (b"II*\x00", b"MM\x00*"):
            tags = _tags(file)
            return PictureFacts(b"tiff", _size(tags), camera=_has_camera(tags))
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(head)
        if head.startswith(b"\xff\xd8\xff"):
            return _jpeg(head)
        if head.startswith(b"\xff\x4f\xff\x51"):
            return PictureFacts(b"mjp2", struct.unpack_from(">II", head, 8))
        if head.startswith(b"\x00\x00\x00\x0cjP  "):
            at = head.find(b"ihdr")
            height, width = struct.unpack_from(">II", head, at + 4) if at > 0 else (0, 0)
            return PictureFacts(b"mjp2", (width, height))
    except (struct.error, ValueError):
        pass
    return PictureFacts()


def _dpx(head: bytes) -> PictureFacts:
    """SMPTE 268M: the rate is in the header for film, else in that for television."""
    order = ">" if head[:4] == b"SDPX" else "<"
    width, height = struct.unpack_from(f"{order}II", head, 772)
    rates = [struct.unpack_from(f"{order}f", head, at)[0] for at in (1724, 1940) if len(head) >= at + 4]
    rate = next((rate for value in rates if (rate := storage.nearest_rate(value))), None)
    return PictureFacts(b"dpx ", (width, height), rate)


def _exr(head: bytes) -> PictureFacts:
    """OpenEXR: named attributes up to an empty name."""
    at, size, rate = 8, None, None
    while at < len(head) and head[at]:
        name, kind, _ = head[at : at + 600].split(b"\0", 2)
        at += len(name) + len(kind) + 2
        (n,) = struct.unpack_from("<i", head, at)
        if name == b"framesPerSecond" and kind == b"rational":
            numerator, denominator = struct.unpack_from("<iI", head, at + 4)
            rate = storage.nearest_rate(numerator / denominator) if denominator else None
        if name == b"dataWindow" and kind == b"box2i":
            left, top, right, bottom = struct.unpack_from("<4i", head, at + 4)
            size = right - left + 1, bottom - top + 1
        at += 4 + max(0, n)
    return PictureFacts(b"exr ", size, rate)


def _png(head: bytes) -> PictureFacts:
    size, at = struct.unpack_from(">II", head, 16), 8
    while head[at + 4 : at + 8] not in (b"IDAT", b""):
        (n,) = struct.unpack_from(">I", head, at)
        if head[at + 4 : at + 8] == b"eXIf":
            tags = _tags(io.BytesIO(head[at + 8 : at + 8 + n]))
            return PictureFacts(b"png ", size, camera=_has_camera(tags))
        at += 12 + n
    return PictureFacts(b"png ", size)


def _jpeg(head: bytes) -> PictureFacts:
    at, camera = 2, False
    while at + 4 <= len(head) and head[at] == 0xFF:
        marker, n = head[at + 1], struct.unpack_from(">H", head, at + 2)[0]
        if marker == 0xE1 and head[at + 4 : at + 10] == b"Exif\0\0":
            camera = camera or _has_camera(_tags(io.BytesIO(head[at + 10 : at + 2 + n])))
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", head, at + 5)
            return PictureFacts(b"jpeg", (width, height), camera=camera)
        at += 2 + n
    return PictureFacts(b"jpeg", camera=camera)


def _tags(file: Any) -> dict[int, int]:
    """Tags of the first picture of a TIFF file or of EXIF data, with their values as far as they are one number."""
    file.seek(0)
    start = file.read(8)
    order = "<" if start[:2] == b"II" else ">"
    (place,) = struct.unpack_from(f"{order}I", start, 4)
    file.seek(place)
    (n,) = struct.unpack(f"{order}H", file.read(2))
    entries = file.read(12 * n)
    tags = {}
    for at in range(0, len(entries) - 11, 12):
        tag, kind, _ = struct.unpack_from(f"{order}HHI", entries, at)
        (tags[tag],) = struct.unpack_from(f"{order}H" if kind == 3 else f"{order}I", entries, at + 8)
    return tags


def _size(tags: dict[int, int]) -> tuple[int, int] | None:
    return (tags[_WIDTH], tags[_HEIGHT]) if _WIDTH in tags and _HEIGHT in tags else None


def _has_camera(tags: dict[int, int]) -> bool:
    # Scanners name themselves as makers too, but state no exposure.
    return _MAKE in tags and _EXIF in tags
