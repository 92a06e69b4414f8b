"""Numbered pictures as scanners deliver them, one file each, which carry their number (`media_files.numbered`)."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.support import media_files

CODECS = {
    "dpx": ("dpx", "rgb24"),
    "exr": ("exr", "gbrpf32le"),
    "tif": ("tiff", "rgb24"),
    "jp2": ("jpeg2000", "rgb24"),
    "png": ("png", "rgb24"),
    "jpg": ("mjpeg", "yuvj444p"),
}
"""FFmpeg's encoder and pixel format, by suffix."""

DPX_FILM_RATE = 1724
"""Offset of the frame rate in the film header of a DPX file."""


@functools.cache
def coded(suffix: str, number: int, size: tuple[int, int] = (96, 64)) -> bytes:
    """The picture with that number, as a file of its own."""
    codec, pix_fmt = CODECS[suffix]
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = *size, pix_fmt
    encoder.time_base = Fraction(1, 24)
    frame = av.VideoFrame.from_ndarray(media_files.numbered(number, *size), format="rgb24")
    frame = frame.reformat(format=pix_fmt)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))


def write_run(
    folder: Path, numbers: Iterable[int], suffix: str = "dpx", prefix: str = "scan_", width: int = 7
) -> Path:
    """Write `scan_0000100.dpx` and so on; returns the folder. Pictures carry their number modulo 64."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{prefix}{number:0{width}d}.{suffix}").write_bytes(coded(suffix, number % 64))
    return folder


def with_dpx_rate(data: bytes, rate: float) -> bytes:
    """A DPX picture that states a frame rate in its film header."""
    order = ">" if data.startswith(b"SDPX") else "<"
    changed = bytearray(data)
    struct.pack_into(f"{order}f", changed, DPX_FILM_RATE, rate)
    return bytes(changed)


def with_exif(jpeg: bytes) -> bytes:
    """A JPEG picture with the EXIF data of a camera: its maker, and a pointer to the exposure."""
    entries = struct.pack("<HHII", 271, 2, 4, 0x00434241) + struct.pack("<HHII", 34665, 4, 1, 38)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(16)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def numbers_of(pictures: np.ndarray) -> list[int]:
    """Numbers of pictures, uint8 [T, H, W, 3]."""
    return [media_files.number_of(picture) for picture in pictures]
