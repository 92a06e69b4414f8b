"""Motions that go on, faster or larger as they are louder; and motions that make no sound."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.foley.style import Style
from pipelines.synthfoley.shapes import Canvas


def wheel(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """Blades or spokes, whose speed is the level."""
    turns, r = (1 + 3 * s.u[0]) * scene.phase(t), 0.35 * s.size
    shake = 0.006 * scene.level(t) * np.sin(90 * t)
    c.disc(shake, shake, r, s.colours[2], edge=s.dark)
    for k in range(int(2 + 5 * s.u[1])):
        a = 2 * np.pi * (turns + k / int(2 + 5 * s.u[1]))
        c.line(shake, shake, r * np.cos(a), r * np.sin(a), 0.06 * s.size, s.colours[0])
    c.disc(shake, shake, 0.07 * s.size, s.dark)


def shake(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """A machine that trembles as much as it is loud."""
    a = 0.02 * scene.level(t)
    x, y = a * np.sin(97 * t), a * np.cos(83 * t)
    c.box(x, y, 0.3 * s.size, 0.2 * s.size, s.colours[0], edge=s.dark)
    c.disc(x + 0.1, y, 0.1 * s.size, s.colours[1])
    puff = (t * 1.7) % 1.0
    c.disc(
        -0.3 * s.size + x,
        -0.2 * s.size - 0.3 * puff,
        0.05 + 0.1 * puff,
        s.colours[2],
        0.6 * scene.level(t) * (1 - puff),
    )


def passer(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """Something on wheels that comes near and goes away again: as large as it is loud."""
    near = max(scene.level(t), 0.1)
    peak = int(np.argmax(scene.curve)) / 100
    x = (1 if s.u[0] < 0.5 else -1) * np.sign(t - peak) * (1 / near**2 - 1) ** 0.5 * 0.35
    r = 0.35 * s.size * near ** (0.5 + s.u[1])
    for k in range(1 + int(3 * s.u[2])):
        cx = x + k * 1.9 * r
        c.box(cx, 0.1, 0.9 * r, 0.4 * r, s.colours[k % 2], edge=s.dark)
        c.box(cx, 0.1 - 0.5 * r, 0.5 * r, 0.25 * r, s.colours[2])
        for side in (-0.5, 0.5):
            c.disc(cx + side * r, 0.1 + 0.4 * r, 0.2 * r, s.dark)


def saw(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """A tool pushed to and fro, faster as it is louder."""
    x = 0.22 * s.size * np.sin(2 * np.pi * (1 + s.u[0]) * scene.phase(t))
    dx, dy = np.cos(0.4 * s.turn), np.sin(0.4 * s.turn)
    c.box(0, 0.25 * s.size, 0.4 * s.size, 0.15 * s.size, s.colours[2])
    c.line(
        (x - 0.4 * s.size) * dx,
        x * dy + 0.08,
        (x + 0.4 * s.size) * dx,
        (x + 0.4 * s.size) * dy + 0.08,
        0.08 * s.size,
        s.colours[0],
    )
    c.disc((x + 0.45 * s.size) * dx, (x + 0.45 * s.size) * dy + 0.05, 0.1 * s.size, s.colours[1])
    c.dots(
        0.1 * np.sin(17 * t + np.arange(6)),
        0.15 + 0.2 * ((3 * t + np.arange(6) / 6) % 1),
        0.012,
        s.colours[3],
        scene.level(t),
    )


def flow(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """Drops, waves or a current: many marks that move one way, more and faster as it is louder."""
    rng = np.random.default_rng(int(s.u[0] * 1e6))
    n = int(40 + 120 * s.u[1])
    x, y, pace = rng.uniform(-1, 1, n), rng.uniform(-0.6, 0.6, n), rng.uniform(0.5, 1.5, n)
    way = (0.3 + 1.5 * s.u[2]) * scene.phase(t)
    dx, dy = np.cos(s.turn), np.sin(s.turn)
    c.dots(
        (x + dx * way * pace + 1) % 2 - 1,
        (y + dy * way * pace + 0.6) % 1.2 - 0.6,
        0.006 + 0.02 * s.u[3],
        s.colours[0],
        0.3 + 0.6 * scene.level(t),
    )
    if s.u[4] < 0.5:
        for k in range(3):
            c.line(
                -1.5,
                0.1 + 0.15 * k + 0.05 * np.sin(1.9 * way + k),
                1.5,
                0.1 + 0.15 * k - 0.05 * np.sin(1.9 * way + k),
                0.03,
                s.colours[1],
                0.6,
            )


def flicker(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """Flames."""
    a = scene.level(t)
    for k in range(6):
        h = (0.15 + 0.3 * a * (0.6 + 0.4 * np.sin(t * (7 + 3 * k) + 5 * s.u[k]))) * s.size
        x = (k - 2.5) * 0.1 * s.size + 0.02 * np.sin(9 * t + k)
        c.poly([(x - 0.09 * s.size, 0.2), (x + 0.09 * s.size, 0.2), (x + 0.04 * np.sin(6 * t + k), 0.2 - h)],
               (255, 110 + 100 * s.u[k], 40), 0.8)  # fmt: skip
    c.line(-0.3 * s.size, 0.22, 0.3 * s.size, 0.22, 0.08 * s.size, s.dark)


def sway(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """Branches that bend in the wind."""
    a = 0.3 * scene.level(t)
    for k in range(int(4 + 6 * s.u[0])):
        x = (k / 5 - 0.8) * 1.2
        bend = a * (np.sin((1.1 + 0.3 * k) * t + k) + 0.4 * np.sin(3.7 * t + 2 * k))
        c.line(x, 0.5, x + bend, -0.2 - 0.2 * s.u[1 + k % 8], 0.03 * s.size, s.colours[k % 2])
        c.disc(x + bend, -0.25 - 0.2 * s.u[1 + k % 8], 0.1 * s.size, s.colours[2], 0.8)


def people(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """Upright shapes that walk and shift about without a beat."""
    a = 0.4 + scene.level(t)
    for k in range(int(2 + 6 * s.u[0])):
        x = 0.9 * np.sin(0.2 * a * t * (1 + s.u[k]) + 9 * s.u[k + 1]) + 0.03 * np.sin(2.3 * a * t + 5 * k)
        y = 0.15 * s.u[(k + 5) % 16] + 0.008 * np.sin(6 * a * t + k)
        r = 0.09 * s.size * (0.7 + 0.6 * s.u[(k + 3) % 16])
        c.disc(x, y + r, r, s.colours[k % 3], ry=2.2 * r)
        c.disc(x, y - 1.7 * r, 0.6 * r, s.colours[(k + 1) % 3])


def gesture(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """An arm that moves smoothly and touches nothing."""
    a = (
        s.turn
        + (0.3 + s.u[0]) * np.sin(2 * np.pi * (0.2 + 0.8 * s.u[1]) * t)
        + 0.3 * np.sin(1.7 * t + 3 * s.u[2])
    )
    c.disc(0, -0.25 * s.size, 0.12 * s.size, s.colours[1])
    c.disc(0, 0.1 * s.size, 0.15 * s.size, s.colours[2], ry=0.25 * s.size)
    c.line(0.1, 0, 0.1 + 0.3 * s.size * np.cos(a), 0.3 * s.size * np.sin(a), 0.07 * s.size, s.colours[0])


def still(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """Things that stand still."""
    c.box(0.2, 0.1, 0.2 * s.size, 0.3 * s.size, s.colours[0])
    c.disc(-0.3, 0.15, 0.15 * s.size, s.colours[1])
