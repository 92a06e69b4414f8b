"""Continuous classes of SynthFoley: still and moving parts of engine, saw, rain, waves and fan."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from pipelines.synthfoley.effects import Colours, ground
from pipelines.synthfoley.physics import Scene, curve_at, generator
from pipelines.synthfoley.shapes import Canvas
from pipelines.synthfoley.sound import swell


def _at(scene: Scene, name: str, t: float) -> float:
    return float(curve_at(scene, name, np.array([t]))[0])


def scene_rows(scene: Scene, rows: int) -> float:
    """Rows of pixels per short side of the native frame, in a picture of `rows` rows."""
    return rows * min(scene.width, scene.height) / scene.height


def _engine_still(c: Canvas, scene: Scene, k: Colours) -> None:
    ground(c, k, 0.38)


def _engine(c: Canvas, scene: Scene, k: Colours, t: float) -> None:
    level, phase = _at(scene, "level", t), _at(scene, "phase", t)
    shake = 0.008 * level * np.sin(2 * np.pi * 9.3 * t)
    body, edge = k["main"], k["dark"]
    grey = np.asarray(k["metal"]) * 1.2
    # smoke leaves the chimney with the turns of the wheel
    for i in range(5):
        p = (phase * 1.0 + i / 5) % 1
        if level > 0.02:
            c.disc(
                -0.36 + 0.1 * p,
                -0.34 - 0.3 * p,
                0.03 + 0.06 * p,
                (215, 215, 215),
                0.75 * (1 - p) * min(1, 3 * level),
            )
    c.box(-0.36, -0.2 + shake, 0.04, 0.15, grey, edge=edge)
    c.box(-0.24, 0.12 + shake, 0.22, 0.22, body, edge=edge)
    c.box(-0.24, 0.0 + shake, 0.16, 0.03, np.asarray(body) * 0.6)
    c.box(-0.24, 0.4, 0.24, 0.05, edge)
    wx, wy, r = 0.18, 0.13 + shake * 0.5, 0.27
    c.disc(wx, wy, r - 0.02, k["light"], 0.35)
    c.ring(wx, wy, r - 0.02, 0.06, (36, 36, 42))
    angle = 2 * np.pi * phase
    for i in range(5):
        a = angle + 2 * np.pi * i / 5
        c.line(
            wx,
            wy,
            wx + 0.23 * np.cos(a),
            wy + 0.23 * np.sin(a),
            0.045 if i else 0.065,
            (220, 40, 40) if i == 0 else (70, 70, 80),
        )
    c.disc(wx, wy, 0.06, grey, edge=edge)
    cx, cy = wx + 0.13 * np.cos(angle), wy + 0.13 * np.sin(angle)
    piston = -0.12 + 0.13 * np.cos(angle)
    c.line(piston, wy, cx, cy, 0.035, k["gold"], edge=edge, edge_w=0.008)
    c.box(piston, wy, 0.04, 0.055, k["gold"], edge=edge)


def _saw_still(c: Canvas, scene: Scene, k: Colours) -> None:
    ground(c, k, 0.36)
    bark, wood = np.asarray(k["wood"]) * 0.5, np.minimum(np.asarray(k["wood"]) * 1.35, 255)
    c.line(-0.3, 0.24, 0.75, 0.24, 0.42, bark, edge=k["dark"])
    c.disc(-0.3, 0.24, 0.15, wood, ry=0.21, edge=bark, edge_w=0.02)
    for r in (0.14, 0.085, 0.035):
        c.ring(-0.3, 0.24, 0.72 * r, 0.01, bark, 0.7, ry=r)
    for i in range(5):
        c.line(-0.05 + 0.06 * i, 0.1 + 0.07 * i, 0.6, 0.1 + 0.07 * i, 0.008, k["dark"], 0.6)


def _saw(c: Canvas, scene: Scene, k: Colours, t: float) -> None:
    phase, speed, level = _at(scene, "phase", t), _at(scene, "speed", t), _at(scene, "level", t)
    push = np.sin(2 * np.pi * phase)
    x, y = 0.17 * push, 0.07
    blade = (205, 210, 218)
    c.poly(
        [(x - 0.5, y - 0.06), (x + 0.3, y - 0.17), (x + 0.3, y + 0.04), (x - 0.5, y + 0.03)],
        blade,
        edge=k["dark"],
    )
    for i in range(13):
        u = x - 0.48 + 0.06 * i
        c.poly([(u, y + 0.02), (u + 0.05, y + 0.02), (u + 0.025, y + 0.065)], blade)
    c.line(x + 0.34, y - 0.19, x + 0.42, y + 0.04, 0.09, k["second"], edge=k["dark"])
    c.disc(x + 0.38, y - 0.07, 0.07, k["skin"], edge=k["dark"])
    # the log stands in front of the cut
    c.poly([(0.0, y + 0.05), (0.22, y + 0.05), (0.22, 0.2), (0.0, 0.2)], np.asarray(k["wood"]) * 0.5)
    if level > 0.02:
        u = (np.arange(16) * 0.618 + phase * 2.0) % 1
        spread = np.sin(np.arange(16) * 2.4)
        c.dots(
            0.0 + 0.14 * spread * u,
            y + 0.06 + 0.42 * u * u,
            0.014,
            (240, 215, 150),
            (1 - u) * min(1.0, speed),
        )


def _rain_still(c: Canvas, scene: Scene, k: Colours) -> None:
    ground(c, k, 0.3)
    grey = np.asarray(k["back"]) * 0.55
    bumps = generator(scene.seed, scene.index, 6).uniform(0.1, 0.2, 18)
    for i, r in enumerate(bumps):
        c.disc((i - 9) * 0.15, -0.52, r * 1.2, grey * (0.9 + 0.02 * (i % 5)), ry=r)


@lru_cache(maxsize=24)
def _streaks(seed: int, index: int, w: int, h: int, unit: float, stretch: float) -> np.ndarray:
    """Tile of falling streaks [h, w]: 0 for none, else 1 + the level from which the streak is visible."""
    rng = generator(seed, index, 8)
    tile = np.zeros((h, w), np.float32)
    area = (w / unit / stretch) * (h / unit)
    n = int(150 * area)
    xs, ys, threshold = rng.uniform(0, w, n), rng.uniform(0, h, n), np.sort(rng.uniform(0, 1, n))[::-1]
    length = rng.uniform(0.06, 0.13, n) * unit
    for x, y, s, m in zip(xs, ys, threshold, length, strict=True):
        rows = (int(y) + np.arange(max(2, int(m)))) % h
        for j in range(max(1, round(0.011 * unit * stretch))):
            tile[rows, (int(x) + j + (np.arange(len(rows)) * 0.12 * stretch).astype(int)) % w] = 1 + s
    return tile


def _rain(c: Canvas, scene: Scene, k: Colours, t: float) -> None:
    level = _at(scene, "level", t)
    if level <= 0.01:
        return
    unit = float(scene_rows(scene, c.h))
    tile = _streaks(scene.seed, scene.index, c.w, c.h + c.h // 3, unit, c.stretch)
    fall = int(t * 2.3 * unit) % tile.shape[0]
    rows = np.arange(c.h) - fall
    seen = tile[rows % tile.shape[0]]
    cover = np.where(seen > 0, np.clip((level - (seen - 1)) * 8 + 0.3, 0, 1), 0) * np.float32(0.75)
    c.blend(c.image, cover.astype(np.float32), (225, 232, 245))
    # splashes on the ground
    slots = 26
    beat = t * 5.0 + np.arange(slots) * 0.618
    number, p = np.floor(beat), beat % 1
    u = np.sin(number * 12.9898 + np.arange(slots) * 78.233) * 43758.5453 % 1
    v = np.sin(number * 39.346 + np.arange(slots) * 11.135) * 24634.6345 % 1
    wide = c.w / c.stretch / unit
    for i in np.flatnonzero(np.arange(slots) < slots * level):
        x, y = (u[i] - 0.5) * wide * 1.1, 0.33 + 0.16 * v[i]
        c.ring(x, y, 0.015 + 0.05 * p[i], 0.01, (235, 240, 250), 0.8 * (1 - p[i]), ry=0.006 + 0.018 * p[i])


def _waves_still(c: Canvas, scene: Scene, k: Colours) -> None:
    c.disc(0.3, -0.34, 0.08, (255, 240, 170), 0.9)


def _waves(c: Canvas, scene: Scene, k: Colours, t: float) -> None:
    level = _at(scene, "level", t)
    up = float(swell(scene, np.array([t]))[0])
    phase = _at(scene, "phase", t)
    x = ((np.arange(c.w, dtype=np.float32) + 0.5) / c.stretch - c.x0) / c.unit * c.flip
    y = (np.arange(c.h, dtype=np.float32)[:, None] + 0.5 - c.y0) / c.unit
    deep = np.asarray(k["water"], np.float32)
    far = 0.0 + 0.008 * np.sin(9 * x + 2 * t)
    c.blend(c.image, np.clip((y - far) * c.unit + 0.5, 0, 1), deep * 0.8)
    ripple = 0.012 * np.sin(14 * x - 3 * t) + 0.008 * np.sin(23 * x + 4 * t)
    crest = 0.6 - phase % 1 * 1.2  # the hump walks to the shore
    hump = np.exp(-(((x - crest) / 0.45) ** 2))
    surface = 0.2 + ripple - (0.1 + 0.34 * level) * up * (0.35 + 0.65 * hump)
    below = np.clip((y - surface) * c.unit + 0.5, 0, 1)
    c.blend(c.image, below, deep)
    lines = 0.5 + 0.5 * np.sin((y - surface) * 60)
    c.blend(c.image, below * lines.astype(np.float32) * 0.12, k["light"])
    thick = 0.015 + 0.13 * up * (0.2 + 0.8 * level) * (0.4 + 0.6 * hump) * min(1.0, level * 4)
    foam = below * np.clip((surface + thick - y) * c.unit * 0.5 + 0.5, 0, 1)
    c.blend(c.image, foam * np.float32(0.95), (250, 252, 255))


def _fan_still(c: Canvas, scene: Scene, k: Colours) -> None:
    ground(c, k, 0.42)
    c.box(0, 0.35, 0.03, 0.12, k["metal"], edge=k["dark"])
    c.disc(0, 0.47, 0.2, k["metal"], ry=0.05, edge=k["dark"])
    c.disc(0, -0.06, 0.36, (238, 238, 235), ry=0.36, edge=k["dark"])


def _fan(c: Canvas, scene: Scene, k: Colours, t: float) -> None:
    phase, speed = _at(scene, "phase", t), _at(scene, "speed", t)
    cx, cy, r = 0.0, -0.06, 0.31
    px, py = c.to_pixels(cx, cy)
    reach = r * c.unit
    box = c.area(px - reach, px + reach, py - reach, py + reach)
    if box is not None:
        region, gx, gy = box
        dx, dy = (gx - px) * c.flip, gy - py
        rho = np.sqrt(dx * dx + dy * dy) + 1e-3
        theta = np.arctan2(dy, dx)
        inside = np.clip(reach - rho + 0.5, 0, 1)
        swirl = theta - 0.5 * rho / reach
        for i in range(3):
            off = (swirl - 2 * np.pi * (phase + i / 3) + np.pi) % (2 * np.pi) - np.pi
            half = 0.62 * np.sqrt(np.clip(rho / reach, 0.05, 1)) * 0.85
            blur = 0.02 + 0.05 * speed + 1.0 / rho
            cover = np.clip((half - np.abs(off)) / blur + 0.5, 0, 1) * inside
            c.blend(region, cover.astype(np.float32), k["main"] if i else k["second"])
    c.ring(cx, cy, 0.36, 0.03, k["dark"])
    c.ring(cx, cy, 0.2, 0.01, k["dark"], 0.6)
    for i in range(6):
        a = np.pi * i / 6
        c.line(
            cx - 0.36 * np.cos(a),
            cy - 0.36 * np.sin(a),
            cx + 0.36 * np.cos(a),
            cy + 0.36 * np.sin(a),
            0.007,
            k["dark"],
            0.45,
        )
    c.disc(cx, cy, 0.065, k["metal"], edge=k["dark"])


MACHINES = {
    "engine": (_engine_still, _engine),
    "saw": (_saw_still, _saw),
    "rain": (_rain_still, _rain),
    "waves": (_waves_still, _waves),
    "fan": (_fan_still, _fan),
}
