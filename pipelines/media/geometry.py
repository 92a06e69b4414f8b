"""Geometry of pictures as containers describe it: rotation, mirroring, pixel aspect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type as SideDataType


def orientation(matrix: Sequence[int] | None) -> tuple[int, bool]:
    """Clockwise quarter turns, and whether to mirror left-right first, from a display matrix.

    matrix: 3 x 3, nine 16.16 fixed point numbers; None or a degenerate one means upright. Odd angles are rounded to the
    nearest quarter turn.
    """
    if matrix is None or len(matrix) < 5:
        return 0, False
    a, b, c, d = (value / 65536 for value in (matrix[0], matrix[1], matrix[3], matrix[4]))
    if not (math.hypot(a, b) > 1e-3 and math.hypot(c, d) > 1e-3) or abs(a * d - b * c) < 1e-6:
        return 0, False
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return round(math.degrees(math.atan2(b, a)) / 90) % 4, mirrored


def display_size(width: int, height: int, aspect: float, quarter_turns: int) -> tuple[int, int]:
    """Displayed (width, height) of a coded picture with pixels `aspect` times as wide as high."""
    if not 0.02 < aspect < 50:
        aspect = 1.0
    # Stretch, never shrink: no detail is lost.
    if aspect >= 1:
        width = round(width * aspect)
    else:
        height = round(height / aspect)
    return (height, width) if quarter_turns % 2 else (width, height)


def turn(pictures: np.ndarray, quarter_turns: int, mirrored: bool) -> np.ndarray:
    """Coded pictures [..., H, W, 3] as a player shows them."""
    if mirrored:
        pictures = pictures[..., :, ::-1, :]
    return np.rot90(pictures, -quarter_turns, axes=(-3, -2)) if quarter_turns else pictures


def display_matrix(frame: Any) -> list[int] | None:
    """The display matrix of a picture, nine numbers for `orientation`, or None."""
    kinds = side_data(frame)
    if kinds is None:
        return _turned(frame.rotation)
    for data in kinds:
        if data.type == SideDataType.DISPLAYMATRIX:
            return [int(value) for value in np.frombuffer(data, np.int32)]
    return None


def side_data(frame: Any) -> list[Any] | None:
    """The side data of a picture; None if it has a kind that PyAV does not know (EXIF of TIFF and JPEG)."""
    try:
        return list(frame.side_data)
    except ValueError:
        return None


def _turned(degrees: float) -> list[int]:
    """Display matrix of a turn, counter-clockwise."""
    a, b = math.cos(math.radians(degrees)), -math.sin(math.radians(degrees))
    return [round(value * 65536) for value in (a, b, 0, -b, a, 0, 0, 0)] + [1 << 30]


def pixel_aspect(video: Any) -> float:
    """Width of a pixel over its height."""
    ratio = video.sample_aspect_ratio or video.codec_context.sample_aspect_ratio
    return float(ratio) if ratio else 1.0
