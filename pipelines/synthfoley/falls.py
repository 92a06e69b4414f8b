"""Falling and flying objects of SynthFoley: bouncing ball, water drip, breaking glass and firework.

Still parts are drawn once per scene and size, moving parts for every frame. Objects land, and rockets burst, exactly at
the onset.
"""

from __future__ import annotations

import numpy as np

from pipelines.synthfoley.effects import Colours, burst, flash, ground, particles
from pipelines.synthfoley.physics import GRAVITY, Scene, coming, generator, recent
from pipelines.synthfoley.shapes import Canvas

FLOOR = 0.36


def _ball_still(c: Canvas, scene: Scene, k: Colours) -> None:
    ground(c, k, FLOOR - 0.04)


def _ball(c: Canvas, scene: Scene, k: Colours, t: float) -> None:
    flights = scene.params["flights"]
    current = None
    for flight in flights:
        if flight[0] <= t:
            current = flight
    if current is None:
        return
    start, end, v, drop, height = current
    r = 0.1 + 0.04 * float(scene.params["size"])
    since = min(t, end) - start
    up = max(0.0, height + v * since - 0.5 * GRAVITY * since * since)
    first = next(f[0] for f in flights if f[3] == drop)
    lane = (0.37 * drop + scene.params["variant"][2]) % 1.0
    x = (lane - 0.5) * 0.3 + (min(t, end) - first) * 0.1 * (1 if lane < 0.5 else -1)
    c.disc(x, FLOOR + 0.01, r * max(0.4, 1.15 - 0.7 * up), (0, 0, 0), 0.5 * max(0.25, 1 - up), ry=0.024)
    squash = max((s * np.exp(-((a / 0.035) ** 2)) for _, a, s in recent(scene, t, 0.15)), default=0.0)
    ry = r * (1 - 0.4 * squash)
    rx = r * (1 + 0.25 * squash)
    y = FLOOR - up - ry
    flash(c, scene, t, x, FLOOR, k["light"], 0.2, life=0.14, ry=0.25)
    c.disc(x, y, rx, k["main"], ry=ry, edge=k["dark"], edge_w=0.014)
    turn = 5 * (t - first)
    c.line(
        x - 0.7 * rx * np.cos(turn),
        y - 0.7 * ry * np.sin(turn),
        x + 0.7 * rx * np.cos(turn),
        y + 0.7 * ry * np.sin(turn),
        0.035,
        k["light"],
    )
    c.disc(x - 0.35 * rx, y - 0.4 * ry, 0.2 * r, (255, 255, 255), 0.7)
    burst(c, scene, t, x, FLOOR, k["light"], n=8, life=0.3, speed=0.6, r=0.012)


_POOL, _SPOUT = 0.24, -0.3


def _water_still(c: Canvas, scene: Scene, k: Colours) -> None:
    c.poly([(-4, _POOL - 0.1), (4, _POOL - 0.1), (4, 4), (-4, 4)], k["water"])
    c.line(-4, _POOL - 0.1, 4, _POOL - 0.1, 0.012, k["light"], 0.6)
    metal, edge = np.asarray(k["metal"]) * 1.5, k["dark"]
    c.line(0.6, -0.42, 0.02, -0.42, 0.1, metal, edge=edge)
    c.line(0.0, -0.42, 0.0, _SPOUT - 0.03, 0.1, metal, edge=edge)
    c.box(0.2, -0.49, 0.02, 0.06, metal, edge=edge)
    c.line(0.12, -0.55, 0.28, -0.55, 0.04, k["second"], edge=edge)


def _water(c: Canvas, scene: Scene, k: Colours, t: float) -> None:
    pale = np.minimum(np.asarray(k["water"]) * 1.3 + 60, 255)
    for number, since, s in recent(scene, t, 1.1):
        fade = (1 - since / 1.1) ** 1.3
        for lag in (0.0, 0.14):
            a = since - lag
            if a >= 0:
                r = 0.05 + 0.45 * a**0.8
                c.ring(0, _POOL, r, 0.02 + 0.02 * s, k["light"], fade * (0.35 + 0.65 * s), ry=0.3 * r)
                c.ring(0, _POOL + 0.02, r * 0.93, 0.015, k["dark"], 0.4 * fade, ry=0.28 * r)
        if since < 0.32:
            jet = 4 * (since / 0.32) * (1 - since / 0.32) * 0.26 * s
            c.line(0, _POOL, 0, _POOL - jet, 0.05, pale)
            c.disc(0, _POOL - jet, 0.035, pale)
            vx, vy, _ = particles(scene.seed, scene.index, number, 9)
            v = 0.5 + 0.6 * s
            c.dots(
                1.1 * vx * v * since, _POOL + vy * v * since + 1.6 * since**2, 0.02, pale, 1 - since / 0.32
            )
    flash(c, scene, t, 0, _POOL, k["light"], 0.16, life=0.1, ry=0.35)
    fall = 0.36
    for _, until, s in coming(scene, t, 0.75):
        r = 0.045 + 0.04 * s
        if until > fall:
            grow = 1 - (until - fall) / 0.39
            y, r = _SPOUT + r * grow, r * grow
        else:
            p = 1 - until / fall
            y0 = _SPOUT + r
            y = y0 + (_POOL - r - y0) * p * p
        c.poly([(-0.75 * r, y - 0.5 * r), (0.75 * r, y - 0.5 * r), (0, y - 2.0 * r)], pale)
        c.disc(0, y, r, pale, edge=k["dark"], edge_w=0.008)
        c.disc(-0.3 * r, y - 0.2 * r, 0.3 * r, (255, 255, 255))


def _glass_still(c: Canvas, scene: Scene, k: Colours) -> None:
    ground(c, k, FLOOR - 0.04)


def _goblet(c: Canvas, k: Colours, x: float, base: float, tilt: float) -> None:
    body, edge = (205.0, 236.0, 245.0), (40.0, 70.0, 90.0)
    ct, st = np.cos(tilt), np.sin(tilt)

    def turn(points):
        return [(x + u * ct - v * st, base + u * st + v * ct) for u, v in points]

    c.poly(turn([(-0.1, 0), (0.1, 0), (0.07, -0.025), (-0.07, -0.025)]), body, edge=edge)
    c.poly(
        turn([(-0.017, -0.02), (0.017, -0.02), (0.017, -0.15), (-0.017, -0.15)]),
        body,
        edge=edge,
        edge_w=0.008,
    )
    c.poly(
        turn([(-0.04, -0.14), (0.04, -0.14), (0.11, -0.21), (0.13, -0.36), (-0.13, -0.36), (-0.11, -0.21)]),
        body,
        alpha=0.9,
        edge=edge,
    )
    c.poly(
        turn([(-0.035, -0.16), (0.035, -0.16), (0.09, -0.22), (0.1, -0.27), (-0.1, -0.27), (-0.09, -0.22)]),
        k["main"],
    )
    c.poly(turn([(-0.1, -0.33), (-0.07, -0.33), (-0.06, -0.22), (-0.085, -0.23)]), (255, 255, 255))


def _glass(c: Canvas, scene: Scene, k: Colours, t: float) -> None:
    for number, since, s in recent(scene, t, 0.8):
        vx, vy, u = particles(scene.seed, scene.index, number, 13)
        x = 0.34 * ((0.618 * number + scene.params["variant"][3]) % 1 - 0.5)
        fade = min(1.0, 2.4 * (1 - since / 0.8))
        v = 0.6 + 0.9 * s
        for i in range(13):
            px = x + 1.2 * vx[i] * v * since
            py = min(FLOOR - 0.16 * u[i] + 0.9 * vy[i] * v * since + 2.1 * since**2, FLOOR + 0.05 * u[i])
            size = 0.028 + 0.035 * u[(i + 3) % 13]
            angle = 6 * u[i] + 9 * (u[(i + 5) % 13] - 0.5) * since
            tri = [(px + size * np.cos(angle + q), py + size * np.sin(angle + q)) for q in (0, 1.9, 3.6)]
            c.poly(tri, (225, 245, 252) if i % 3 else k["main"], alpha=fade, edge=(40, 70, 90), edge_w=0.006)
        if since < 0.12:
            c.disc(x, FLOOR - 0.06, 0.09 + 0.1 * s, (255, 255, 255), 0.65 * (1 - since / 0.12))
    fall = 0.42
    for number, until, s in reversed(coming(scene, t, fall)):
        x = 0.34 * ((0.618 * number + scene.params["variant"][3]) % 1 - 0.5)
        p = 1 - until / fall
        height = (0.75 + 0.5 * s) * (1 - p * p)
        _goblet(c, k, x, FLOOR - height, 0.5 * (1 - p) * (1 if number % 2 else -1))


def _sky_still(c: Canvas, scene: Scene, k: Colours) -> None:
    heights = generator(scene.seed, scene.index, 6).uniform(0.05, 0.2, 16)
    for i, h in enumerate(heights):
        x = (i - 8) * 0.17
        c.poly([(x, 0.52 - h), (x + 0.16, 0.52 - h), (x + 0.16, 2), (x, 2)], (8, 8, 12))


def _firework(c: Canvas, scene: Scene, k: Colours, t: float) -> None:
    palette = (
        (255, 90, 70),
        (255, 215, 90),
        (120, 255, 140),
        (110, 170, 255),
        (240, 120, 255),
        (255, 255, 255),
    )
    shift = int(scene.params["variant"][4] * 6)

    def place(number):
        u = scene.params["variant"]
        return 0.5 * ((0.618 * number + u[5]) % 1 - 0.5), -0.2 + 0.16 * ((0.41 * number + u[6]) % 1)

    for number, since, s in recent(scene, t, 0.9):
        x, y = place(number)
        colour = palette[(number + shift) % 6]
        reach = (0.2 + 0.3 * s) * (1 - np.exp(-since / 0.16))
        angle = np.arange(26) * 0.2417
        ring = np.where(np.arange(26) % 2, 1.0, 0.62)
        fade = (1 - since / 0.9) ** 0.8
        for back, alpha in ((1.0, 1.0), (0.88, 0.7), (0.76, 0.4)):
            r = reach * ring * back
            c.dots(
                x + r * np.cos(angle),
                y + r * np.sin(angle) + 0.16 * since**2,
                0.013 + 0.012 * s,
                colour,
                alpha * fade,
            )
        if since < 0.18:
            c.disc(x, y, 0.06 + 0.2 * s, (255, 250, 220), 0.95 * (1 - since / 0.18) ** 1.2)
    for number, until, _ in coming(scene, t, 0.6):
        x, y = place(number)
        p = np.array([1 - until / 0.6 - 0.03 * i for i in range(7)])
        p = p[p > 0]
        if p.size:
            ease = 1 - (1 - p) ** 1.5
            c.dots(
                x + 0.1 * (1 - ease),
                0.5 + (y - 0.5) * ease,
                np.linspace(0.018, 0.006, len(p)),
                (255, 220, 150),
                np.linspace(1, 0.3, len(p)),
            )


FALLS = {
    "bouncing_ball": (_ball_still, _ball),
    "water_drip": (_water_still, _water),
    "glass": (_glass_still, _glass),
    "firework": (_sky_still, _firework),
}
