"""Motions that go on: the more there is to hear, the more moves."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.foley import steady_actors
from pipelines.foley.scene import FoleyScene
from pipelines.foley.style import style_of
from pipelines.synthfoley.shapes import Canvas


def motion(name: str, level: float) -> float:
    """Mean change from frame to frame over some looks."""
    total = 0.0
    for index in range(6):
        scene = FoleyScene(0, index, "train", 4.0, "fan", name, (), (), np.full(402, level))
        style, frames = style_of(scene), []
        for t in np.arange(1.0, 2.0, 0.04):
            image = np.full((64, 64, 3), 90.0, np.float32)
            getattr(steady_actors, name)(Canvas(image, 46.0, 32.0, 32.0), scene, style, float(t))
            frames.append(image)
        total += float(np.abs(np.diff(np.stack(frames), axis=0)).mean())
    return total / 6


@pytest.mark.parametrize("name", ["wheel", "shake", "saw", "flow", "flicker", "sway", "people"])
def test_motion_grows_with_the_level(name: str) -> None:
    assert motion(name, 1.0) > 1.15 * motion(name, 0.15)


def test_what_passes_is_largest_when_it_is_loudest() -> None:
    curve = 1 / np.sqrt(1 + ((np.arange(402) / 100 - 2.0) / 1.0) ** 2)
    covered = []
    for t in (0.3, 2.0, 3.7):
        area = 0.0
        for index in range(6):
            scene = FoleyScene(0, index, "train", 4.0, "train", "passer", (), (), curve)
            image = np.full((64, 64, 3), 90.0, np.float32)
            steady_actors.passer(Canvas(image, 46.0, 32.0, 32.0), scene, style_of(scene), t)
            area += float((np.abs(image - 90) > 2).mean())
        covered.append(area)
    assert covered[1] > covered[0] and covered[1] > covered[2]


def test_what_stands_still_does_not_move() -> None:
    assert motion("still", 1.0) == 0.0 and motion("gesture", 0.0) > 0.0
