"""Motions of Foley scenes, by the names that `classes.csv` gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipelines.foley import event_actors as events
from pipelines.foley import steady_actors as steady
from pipelines.foley.style import Style
from pipelines.synthfoley.shapes import Canvas

Actor = Callable[[Canvas, Any, Style, float], None]
"""Draws a scene's motion at a time."""

_EVENTS: tuple[Actor, ...] = (
    events.swing,
    events.drummer,
    events.press,
    events.bounce,
    events.mouth,
    events.flash,
    events.burst,
    events.stepper,
    events.fall,
    events.door,
    events.fingers,
    events.pendulum,
    events.sheet,
    events.bow,
)
_STEADY: tuple[Actor, ...] = (
    steady.wheel,
    steady.shake,
    steady.passer,
    steady.saw,
    steady.flow,
    steady.flicker,
    steady.sway,
    steady.people,
    steady.gesture,
    steady.still,
)
ACTORS: dict[str, Actor] = {actor.__name__: actor for actor in (*_EVENTS, *_STEADY)}  # type: ignore[attr-defined]
