"""Motions with moments: they move before the event, and change abruptly at it."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.foley import event_actors
from pipelines.foley.scene import FoleyScene
from pipelines.foley.style import style_of
from pipelines.synthfoley.physics import Event
from pipelines.synthfoley.shapes import Canvas

MOVES = ("swing", "drummer", "press", "bounce", "mouth", "flash", "burst", "stepper", "fall", "door", "fingers",
         "pendulum", "sheet", "bow")  # fmt: skip


def scene_of(name: str, index: int) -> FoleyScene:
    events = tuple(Event(t, 1.0, "dog") for t in (1.0, 2.0, 3.0))
    return FoleyScene(0, index, "train", 4.0, "dog", name, events, (), np.zeros(402))


def pictures(name: str, index: int, times: np.ndarray) -> np.ndarray:
    scene = scene_of(name, index)
    style, out = style_of(scene), []
    for t in times:
        image = np.full((64, 64, 3), 90.0, np.float32)
        getattr(event_actors, name)(Canvas(image, 46.0, 32.0, 32.0), scene, style, float(t))
        out.append(image)
    return np.stack(out)


@pytest.mark.parametrize("name", MOVES)
def test_something_moves_at_an_event_and_the_look_differs(name: str) -> None:
    times = np.arange(1.5, 2.5, 0.04)
    changes, looks = np.zeros(len(times) - 1), []
    for index in range(6):
        drawn = pictures(name, index, times)
        changes += np.abs(np.diff(drawn, axis=0)).mean((1, 2, 3))
        looks.append(drawn[0])
        assert np.isfinite(drawn).all() and np.array_equal(drawn[:2], pictures(name, index, times[:2]))
    near = changes[8:18].mean()
    assert near > 0.05
    if name != "pendulum":  # it stands at its ends, where it ticks
        assert near > 0.8 * changes.mean()
    assert len({look.tobytes() for look in looks}) == 6


@pytest.mark.parametrize("name", ["swing", "press", "door"])
def test_a_tool_touches_at_the_event_itself(name: str) -> None:
    """The farthest it goes is at the event: a little before and after it is back on its way."""
    for index in range(4):
        at, before, after = pictures(name, index, np.array([2.0, 1.92, 2.1]))
        assert np.abs(at - before).mean() > 0 and np.abs(after - at).mean() > 0
