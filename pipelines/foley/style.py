"""Look of a Foley scene's actor, and what its motions share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.foley.scene import FoleyScene
from pipelines.synthfoley.physics import Event, recent
from pipelines.synthfoley.shapes import Colour


@dataclass(frozen=True)
class Only:
    """Some events of a scene, for one of several limbs."""

    events: tuple[Event, ...]


@dataclass(frozen=True)
class Style:
    """Random constants of an actor's look."""

    x: float
    y: float
    size: float
    turn: float
    """Direction of its motion, radians."""
    colours: tuple[Colour, ...]
    u: np.ndarray
    """Sixteen numbers in [0, 1] for whatever else an actor varies."""

    @property
    def dark(self) -> Colour:
        return self.colours[3]


def style_of(scene: FoleyScene) -> Style:
    """Look of a scene's actor."""
    rng = scene.rng(2)
    size = float(np.exp(rng.uniform(np.log(0.35), np.log(1.5))))
    colours = tuple(tuple(float(v) for v in 255 * rng.uniform(0.03, 0.97) * _tint(rng)) for _ in range(4))
    return Style(
        float(rng.normal(0, 0.16)), float(rng.normal(0, 0.12)), size, float(rng.uniform(-np.pi, np.pi)),
        colours, rng.uniform(0, 1, 16),  # type: ignore[arg-type]
    )  # fmt: skip


def _tint(rng: np.random.Generator) -> np.ndarray:
    return np.clip(1 + rng.normal(0, rng.uniform(0.03, 0.4), 3), 0.2, 1.6)


def quake(scene: Any, t: float, amount: float, within_s: float = 0.3) -> float:
    """Damped shaking after events; zero at contact itself."""
    return sum(
        amount * s * np.exp(-a / 0.07) * np.sin(2 * np.pi * 13 * a) for _, a, s in recent(scene, t, within_s)
    )
