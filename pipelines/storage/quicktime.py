"""Header of a QuickTime file of pictures that are coded one by one (QuickTime File Format, "Movie atoms").

FFmpeg's reader of QuickTime is the one of its readers that knows DPX, EXR, TIFF, JPEG 2000, PNG and JPEG.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from fractions import Fraction

_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def header(coding: bytes, sizes: Sequence[int], lasts: Sequence[int], rate: Fraction) -> bytes:
    """The bytes of the file before its pictures, which follow one after another.

    coding: QuickTime's name of it, 4 bytes. sizes: bytes of each picture. lasts: pictures of the film for which each
    stays. rate: pictures per second. The size of the pictures in pixels is left to their own headers.
    """
    n = len(_movie(coding, sizes, lasts, rate, 0))
    return _movie(coding, sizes, lasts, rate, n)


def _movie(coding: bytes, sizes: Sequence[int], lasts: Sequence[int], rate: Fraction, start: int) -> bytes:
    """The header of a file whose pictures begin at the byte `start`."""
    clock, tick = rate.numerator, rate.denominator
    total = sum(lasts) * tick
    movie = struct.pack(">QQIQIH10x", 0, 0, clock, total, 0x10000, 0x100) + _MATRIX + struct.pack(">24xI", 2)
    track = struct.pack(">QQI4xQ8xHHH2x", 0, 0, 1, total, 0, 0, 0) + _MATRIX + bytes(8)
    entry = struct.pack(">6xH16xHHII4xH32xHH", 1, 0, 0, 0x480000, 0x480000, 1, 24, 0xFFFF)
    times = [(len(list(same)), lasting * tick) for lasting, same in itertools.groupby(lasts)]
    tables = _box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1) + _box(coding, entry)),
        _full(b"stts", struct.pack(">I", len(times)), *itertools.starmap(struct.Struct(">II").pack, times)),
        _full(b"stsc", struct.pack(">4I", 1, 1, len(sizes), 1)),
        _full(b"stsz", struct.pack(">II", 0, len(sizes)), struct.pack(f">{len(sizes)}I", *sizes)),
        _full(b"co64", struct.pack(">IQ", 1, start)),
    )
    own_file = _full(b"dref", struct.pack(">I", 1) + _full(b"url ", flags=1))
    media = _box(
        b"mdia",
        _full(b"mdhd", struct.pack(">QQIQHH", 0, 0, clock, total, 0x55C4, 0), version=1),
        _full(b"hdlr", b"mhlrvide", bytes(13)),
        _box(b"minf", _full(b"vmhd", bytes(8), flags=1), _box(b"dinf", own_file), tables),
    )
    track_box = _box(b"trak", _full(b"tkhd", track, version=1, flags=7), media)
    return b"".join(
        (
            _box(b"ftyp", b"qt  ", bytes(4), b"qt  "),
            _box(b"moov", _full(b"mvhd", movie, version=1), track_box),
            struct.pack(">I4sQ", 1, b"mdat", 16 + sum(sizes)),
        )
    )


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _full(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)
