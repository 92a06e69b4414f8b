"""Struck objects of SynthFoley: drum, hammer on wood, anvil, hands and bell.

Still parts are drawn once per scene and size, moving parts for every frame. A tool makes contact exactly at the onset.
"""

from __future__ import annotations

import numpy as np

from pipelines.synthfoley.effects import Colours, burst, flash, ground, jolt, particles
from pipelines.synthfoley.physics import Scene, recent, stroke
from pipelines.synthfoley.shapes import Canvas


def _drum_still(c: Canvas, scene: Scene, k: Colours) -> None:
    ground(c, k, 0.3)
    c.disc(0, 0.38, 0.32, k["main"], ry=0.09, edge=k["dark"])
    c.poly([(-0.32, 0.08), (0.32, 0.08), (0.32, 0.38), (-0.32, 0.38)], k["main"])
    for i in range(-3, 3):
        x = i * 0.107
        c.line(x, 0.14, x + 0.053, 0.42, 0.014, k["light"], 0.9)
        c.line(x + 0.053, 0.42, x + 0.107, 0.14, 0.014, k["light"], 0.9)
    c.line(-0.32, 0.08, -0.32, 0.38, 0.02, k["dark"])
    c.line(0.32, 0.08, 0.32, 0.38, 0.02, k["dark"])


def _drum(c: Canvas, scene: Scene, k: Colours, t: float) -> None:
    shake = 0.03 * jolt(scene, t)
    glow = max((s * np.exp(-a / 0.07) for _, a, s in recent(scene, t, 0.4)), default=0.0)
    c.disc(0, 0.08 + shake * 0.3, 0.33, (222, 214, 196), ry=0.1, edge=k["dark"], edge_w=0.02)
    c.disc(0, 0.08 + shake, 0.2, (255, 255, 255), 0.25 + 0.7 * glow, ry=0.055)
    for _, since, s in recent(scene, t, 0.3):
        c.ring(
            0,
            0.08 + shake,
            0.05 + 0.9 * since,
            0.014,
            k["dark"],
            0.8 * s * (1 - since / 0.3),
            ry=0.015 + 0.27 * since,
        )
    burst(c, scene, t, 0.0, 0.06, k["light"], n=9, life=0.35)
    h = stroke(scene, t)
    tip_x, tip_y = 0.02 + 0.05 * h, 0.065 - 0.44 * h
    c.line(tip_x, tip_y, 0.46, -0.08 - 0.2 * h, 0.036, k["wood"], edge=k["dark"], edge_w=0.01)
    c.disc(tip_x, tip_y - 0.01, 0.042, k["second"], edge=k["dark"], edge_w=0.01)
    c.disc(0.47, -0.08 - 0.2 * h, 0.07, k["skin"], edge=k["dark"], edge_w=0.01)


def _wood_still(c: Canvas, scene: Scene, k: Colours) -> None:
    ground(c, k, 0.34)


def _swing(
    c: Canvas, k: Colours, h: float, x: float, y: float, head, handle, half_w: float, half_h: float
) -> None:
    """Draw a hammer that rotates about a grip at the right; its face touches (x, y) when h is 0."""
    grip = (0.52, y - half_h)
    angle = 0.95 * h
    ca, sa = np.cos(angle), np.sin(angle)
    reach = x - grip[0]
    hx, hy = grip[0] + reach * ca, grip[1] + reach * sa
    c.line(grip[0], grip[1], hx, hy, 0.05, handle, edge=k["dark"], edge_w=0.01)
    c.box(hx, hy, half_w, half_h, head, angle=angle, edge=k["dark"])
    c.disc(grip[0] - 0.02, grip[1], 0.07, k["skin"], edge=k["dark"], edge_w=0.01)


def _wood(c: Canvas, scene: Scene, k: Colours, t: float) -> None:
    dy = 0.02 * jolt(scene, t)
    top = np.asarray(k["wood"]) * 1.25
    c.poly(
        [(-0.38, 0.16 + dy), (0.3, 0.16 + dy), (0.3, 0.42 + dy), (-0.38, 0.42 + dy)],
        k["wood"],
        edge=k["dark"],
    )
    c.poly([(-0.38, 0.16 + dy), (0.3, 0.16 + dy), (0.36, 0.08 + dy), (-0.3, 0.08 + dy)], top, edge=k["dark"])
    for i in range(4):
        y = 0.205 + 0.055 * i + dy
        c.line(-0.36, y, 0.28, y + 0.012 * (-1) ** i, 0.01, np.asarray(k["wood"]) * 0.6, 0.8)
    c.disc(-0.2, 0.29 + dy, 0.05, np.asarray(k["wood"]) * 0.55, ry=0.035)
    flash(c, scene, t, -0.06, 0.12, (240, 215, 160), 0.15, ry=0.4)
    _swing(c, k, stroke(scene, t), -0.06, 0.12, k["metal"], (178, 40, 34), 0.06, 0.12)
    burst(c, scene, t, -0.06, 0.11, (235, 205, 140), n=10, life=0.45, r=0.018)


def _anvil_still(c: Canvas, scene: Scene, k: Colours) -> None:
    ground(c, k, 0.38)
    steel, edge = np.asarray(k["metal"]) * 0.75, k["dark"]
    c.poly([(-0.24, 0.47), (0.24, 0.47), (0.16, 0.37), (-0.16, 0.37)], steel, edge=edge)
    c.poly([(-0.1, 0.2), (0.1, 0.2), (0.14, 0.39), (-0.14, 0.39)], steel * 0.9)
    c.poly([(-0.26, 0.1), (0.24, 0.1), (0.2, 0.22), (-0.18, 0.22)], steel, edge=edge)
    c.poly([(-0.25, 0.1), (-0.2, 0.19), (-0.5, 0.12)], steel, edge=edge)
    c.line(-0.25, 0.11, 0.23, 0.11, 0.02, steel * 1.9, 0.9)


def _anvil(c: Canvas, scene: Scene, k: Colours, t: float) -> None:
    heat = max((s * np.exp(-a / 0.12) for _, a, s in recent(scene, t, 0.6)), default=0.0)
    c.box(-0.02, 0.08, 0.15, 0.022, (255, 110 + 120 * heat, 30 + 170 * heat))
    flash(c, scene, t, -0.02, 0.06, (255, 240, 170), 0.17)
    h = stroke(scene, t)
    _swing(c, k, h, -0.02, 0.06, (58, 60, 68), (120, 84, 50), 0.075, 0.085)
    for number, since, s in recent(scene, t, 0.5):
        vx, vy, u = particles(scene.seed, scene.index, number, 16)
        v = 1.7 * (0.4 + 0.6 * s)
        for lag, alpha in ((0.0, 1.0), (0.02, 0.6)):
            a = max(since - lag, 0.0)
            c.dots(
                -0.02 + 1.3 * vx * v * a,
                0.06 + 0.8 * vy * v * a + 1.3 * a * a,
                0.013 + 0.008 * s,
                (255, 225, 110),
                alpha * np.clip(1.3 - since / (0.25 + 0.25 * u), 0, 1),
            )


def _hand(c: Canvas, k: Colours, side: int, gap: float, sleeve) -> None:
    """Draw a hand from the side of the thumb, palm towards the middle; the surface of the palm is at x = gap."""
    skin, edge = k["skin"], np.asarray(k["skin"]) * 0.35
    x = side * (gap + 0.055)
    c.line(x + side * 0.03, 0.2, x + side * 0.2, 0.55, 0.15, sleeve, edge=k["dark"])
    for i in range(4):
        spread = side * 0.045 * i
        c.line(
            x + spread * 0.5,
            0.02,
            x + spread * 1.3,
            -0.29 + 0.035 * abs(i - 1),
            0.075,
            skin,
            edge=edge,
            edge_w=0.01,
        )
    c.disc(x + side * 0.04, 0.08, 0.105, skin, ry=0.16, edge=edge)
    c.line(x + side * 0.01, 0.06, x - side * 0.015, -0.08, 0.06, skin, edge=edge, edge_w=0.01)


def _nothing(c: Canvas, scene: Scene, k: Colours) -> None:
    return


def _clap(c: Canvas, scene: Scene, k: Colours, t: float) -> None:
    gap = 0.27 * stroke(scene, t)
    _hand(c, k, -1, gap, k["main"])
    _hand(c, k, 1, gap, k["main"])
    for _, since, s in recent(scene, t, 0.16):
        fade = 1 - since / 0.16
        near, far = 0.2 + 0.7 * since, 0.28 + 0.12 * s + 0.9 * since
        for angle in np.linspace(-2.7, -0.44, 6):
            ca, sa = np.cos(angle), np.sin(angle)
            c.line(
                1.2 * near * ca,
                -0.12 + near * sa,
                1.2 * far * ca,
                -0.12 + far * sa,
                0.022,
                (255, 250, 200),
                fade,
            )
        c.disc(0, -0.1, 0.1 + 0.08 * s, (255, 250, 210), 0.75 * fade)


def _bell_still(c: Canvas, scene: Scene, k: Colours) -> None:
    c.box(0, -0.41, 0.42, 0.035, k["wood"], edge=k["dark"])
    c.box(-0.4, 0.1, 0.03, 0.5, k["wood"], edge=k["dark"])


def _bell(c: Canvas, scene: Scene, k: Colours, t: float) -> None:
    swing = sum(
        -0.16 * s * np.exp(-a / 0.45) * np.sin(2 * np.pi * 2.1 * a) for _, a, s in recent(scene, t, 1.6)
    )
    ca, sa = np.cos(swing), np.sin(swing)

    def turn(x: float, y: float) -> tuple[float, float]:
        return x * ca - (y + 0.38) * sa - 0.06, -0.38 + x * sa + (y + 0.38) * ca

    gold, edge = np.asarray(k["gold"]), (70.0, 45.0, 10.0)
    c.line(*turn(0, -0.38), *turn(0, -0.26), 0.05, k["dark"])
    clapper = turn(0.0, 0.3)
    c.disc(*clapper, 0.045, k["dark"])
    c.disc(*turn(0, -0.12), 0.14, gold, edge=edge)
    c.poly([turn(*p) for p in ((-0.17, 0.08), (0.17, 0.08), (0.27, 0.26), (-0.27, 0.26))], gold, edge=edge)
    c.poly([turn(*p) for p in ((-0.14, -0.14), (0.14, -0.14), (0.175, 0.1), (-0.175, 0.1))], gold)
    for side in (-1, 1):
        c.line(*turn(side * 0.14, -0.12), *turn(side * 0.173, 0.09), 0.013, edge)
    c.line(*turn(-0.26, 0.25), *turn(0.26, 0.25), 0.045, gold * 0.8, edge=edge)
    c.line(*turn(-0.07, -0.12), *turn(-0.1, 0.14), 0.03, np.minimum(gold * 1.3 + 30, 255), 0.9)
    for _, since, s in recent(scene, t, 0.55):
        r = 0.3 + 0.55 * since
        c.ring(-0.06, 0.05, r, 0.018 + 0.012 * s, (255, 240, 150), s * (1 - since / 0.55))
        c.ring(-0.06, 0.05, r + 0.06, 0.012, (255, 240, 150), 0.7 * s * (1 - since / 0.55))
    h = stroke(scene, t)
    x = 0.2 + 0.058 + 0.3 * h
    flash(c, scene, t, 0.2, 0.24, (255, 255, 220), 0.13)
    c.line(x, 0.24, x + 0.14, 0.5 - 0.1 * h, 0.04, k["wood"], edge=k["dark"], edge_w=0.01)
    c.disc(x, 0.24, 0.062, k["second"], edge=k["dark"])


STRIKES = {
    "drum": (_drum_still, _drum),
    "hammer_wood": (_wood_still, _wood),
    "anvil": (_anvil_still, _anvil),
    "clap": (_nothing, _clap),
    "bell": (_bell_still, _bell),
}
