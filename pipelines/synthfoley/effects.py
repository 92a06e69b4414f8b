"""Visual effects shared by SynthFoley scenes: floor, dust and sparks, and the flash and shaking of an impact."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from pipelines.synthfoley.physics import Scene, generator, recent
from pipelines.synthfoley.shapes import Canvas, Colour

Colours = Mapping[str, Colour]


@lru_cache(maxsize=4096)
def particles(seed: int, index: int, number: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Launch velocities (x, y upwards negative) and a third uniform number of `n` particles of an event."""
    rng = generator(seed, index, 5, number)
    angle = rng.uniform(-1.25, 1.25, n)
    speed = rng.uniform(0.35, 1.0, n)
    return speed * np.sin(angle), -speed * np.cos(angle), rng.uniform(0, 1, n)


def burst(
    c: Canvas, scene: Scene, t: float, x, y, colour, life=0.4, n=10, speed=0.9, r=0.014, pull=2.2
) -> None:
    """Draw dust, chips or sparks thrown up from (x, y) by each recent event."""
    for number, since, strength in recent(scene, t, life):
        vx, vy, _ = particles(scene.seed, scene.index, number, n)
        k = speed * (0.35 + 0.65 * strength)
        px = x + vx * k * since
        py = y + vy * k * since + 0.5 * pull * since * since
        c.dots(px, py, r * (0.6 + 0.6 * strength), colour, 1 - since / life)


def flash(c: Canvas, scene: Scene, t: float, x, y, colour, r=0.16, life=0.12, ry=None) -> None:
    """Draw a short bright spot at contact."""
    for _, since, strength in recent(scene, t, life):
        size = r * (0.4 + 0.6 * strength) * (0.75 + 0.5 * since / life)
        c.disc(x, y, size, colour, 0.85 * (1 - since / life), ry=None if ry is None else size * ry)


def jolt(scene: Scene, t: float, hz: float = 11.0, decay: float = 0.09) -> float:
    """Damped shaking after impacts, in [-1, 1]; zero at contact itself."""
    return sum(s * np.exp(-a / decay) * np.sin(2 * np.pi * hz * a) for _, a, s in recent(scene, t, 0.5))


def ground(c: Canvas, colours: Colours, y: float) -> None:
    """Draw a floor from height y down."""
    c.poly([(-4, y), (4, y), (4, 4), (-4, 4)], colours["floor"])
    c.line(-4, y, 4, y, 0.008, colours["dark"], 0.5)
