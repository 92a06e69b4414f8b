"""Shorthands for what is decoded of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.media import video
from pipelines.media.errors import DecodeFailed
from pipelines.media.video import View
from tests.support import media_files

SMALL = View(25, 48, 32)


def probe(path: Path) -> video.Probe:
    with path.open("rb") as file:
        return video.probe(file)


def views(path: Path, start_s: float, end_s: float, *wanted: View) -> list[np.ndarray]:
    with path.open("rb") as file:
        return video.decode_views(file, wanted or (SMALL,), start_s, end_s, threads=1)


def numbers(path: Path, start_s: float, end_s: float, fps: float = 25) -> list[int]:
    """Numbers of the pictures that a view gets."""
    return [media_files.number_of(p) for p in views(path, start_s, end_s, View(fps, 48, 32))[0]]


def sound(path: Path, start_s: float, end_s: float, rate: int = 44_100) -> np.ndarray:
    with path.open("rb") as file:
        return video.decode_sound(file, start_s, end_s, rate)


def failure(path: Path) -> DecodeFailed:
    with pytest.raises(DecodeFailed) as caught:
        probe(path)
    return caught.value
