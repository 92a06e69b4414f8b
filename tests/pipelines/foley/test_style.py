"""Look of actors."""

from __future__ import annotations

import numpy as np

from pipelines.foley.scene import FoleyScene
from pipelines.foley.style import quake, style_of
from pipelines.synthfoley.physics import Event


def scene(index: int) -> FoleyScene:
    return FoleyScene(0, index, "train", 4.0, "dog", "mouth", (Event(1.0, 1.0, "dog"),), (), np.zeros(402))


def test_looks_are_drawn_by_scene_and_stay_in_range() -> None:
    styles = [style_of(scene(index)) for index in range(50)]
    assert style_of(scene(3)).colours == styles[3].colours
    assert len({style.colours for style in styles}) == 50
    assert all(0 <= value <= 260 * 1.6 for style in styles for colour in style.colours for value in colour)
    assert all(0.35 <= style.size <= 1.5 for style in styles)


def test_things_shake_after_an_event_and_not_at_it() -> None:
    assert quake(scene(0), 1.0, 1.0) == 0.0 and quake(scene(0), 0.9, 1.0) == 0.0
    assert abs(quake(scene(0), 1.02, 1.0)) > 0.5
    assert quake(scene(0), 2.0, 1.0) == 0.0
