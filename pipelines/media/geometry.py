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
    for data in side_data(frame):
        if data.type == SideDataType.DISPLAYMATRIX:
            return [int(value) for value in np.frombuffer(data, np.int32)]
    return None


def side_data(frame: Any) -> tuple[Any, ...]:
    """Additions of a decoder to a picture; nothing where PyAV does not know one of its kinds (such as EXIF)."""
    try:
        return tuple(frame.side_data)
    except ValueError:
        return ()


def pixel_aspect(video: Any) -> float:
    """Width of a pixel over its height."""
    ratio = video.sample_aspect_ratio or video.codec_context.sample_aspect_ratio
    return float(ratio) if ratio else 1.0
