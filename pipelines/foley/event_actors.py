"""Motions with moments: something touches, opens, flashes or turns round exactly when it is heard.

An actor is drawn in units of the picture's height around its middle. It looks like nothing in particular: the
synchrony encoder must learn that something swings and stops, not that it is a drumstick.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.foley.style import Only, Style, quake
from pipelines.synthfoley.physics import recent, stroke
from pipelines.synthfoley.shapes import Canvas, Colour


def _arm(c: Canvas, scene: Any, s: Style, t: float, x: float, y: float, side: float, colour: Colour) -> None:
    """An arm with a tool, which turns about a hand and touches (x, y) at each event."""
    reach = (0.2 + 0.35 * s.u[0]) * s.size
    bend = side * (0.4 + 0.9 * s.u[1]) * stroke(scene, t, 0.25 + 0.3 * s.u[2])
    away = s.turn * 0.3 - (np.pi / 2 - side * (0.5 + 0.5 * s.u[3]))
    hand = (x + reach * np.cos(away), y + reach * np.sin(away))
    angle = away + np.pi + bend
    tip = (hand[0] + reach * np.cos(angle), hand[1] + reach * np.sin(angle))
    c.line(*hand, *tip, (0.02 + 0.06 * s.u[4]) * s.size, colour)
    c.disc(*tip, (0.02 + 0.07 * s.u[5]) * s.size, s.colours[1])
    shoulder = (
        hand[0] + 0.5 * reach * np.cos(away + 0.4 * bend + 0.5),
        hand[1] + 0.5 * reach * np.sin(away + 0.4 * bend + 0.5),
    )
    c.line(*hand, *shoulder, (0.05 + 0.06 * s.u[6]) * s.size, colour)
    c.disc(*hand, (0.03 + 0.04 * s.u[6]) * s.size, colour)


def swing(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """Something swung hits something that stands."""
    y = 0.1 * s.size + quake(scene, t, 0.02 * s.size)
    c.box(0, y + 0.12 * s.size, 0.2 * s.size, 0.12 * s.size, s.colours[2])
    _arm(c, scene, s, t, 0, y, 1 if s.u[7] < 0.5 else -1, s.colours[0])


def drummer(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """A sitting shape, whose two arms hit several things in turn."""
    c.disc(0, -0.22 * s.size, 0.12 * s.size, s.colours[0])
    c.disc(0, 0.05 * s.size, 0.16 * s.size, s.colours[3], ry=0.2 * s.size)
    for side in (0, 1):
        mine: Any = Only(tuple(e for k, e in enumerate(scene.events) if k % 2 == side))
        x = (0.28 if side else -0.28) * s.size
        y = 0.2 * s.size + quake(mine, t, 0.03 * s.size)
        c.disc(x, y, 0.17 * s.size, s.colours[2], ry=0.06 * s.size, edge=s.dark)
        _arm(c, mine, s, t, x * 0.8, y - 0.03 * s.size, 1 if side else -1, s.colours[0])


def press(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """Two things move towards each other along a line, and meet."""
    h = (0.1 + 0.25 * s.u[0]) * s.size * stroke(scene, t, 0.2 + 0.3 * s.u[1])
    dx, dy = np.cos(s.turn), np.sin(s.turn)
    r = (0.06 + 0.1 * s.u[2]) * s.size
    still = s.u[3] < 0.5
    for sign, colour in ((1.0, s.colours[0]), (-1.0, s.colours[1])):
        gap = r + (0.0 if still and sign < 0 else h)
        x, y = sign * gap * dx, sign * gap * dy
        if s.u[4] < 0.5:
            c.disc(x, y, r, colour, edge=s.dark)
        else:
            c.box(x, y, r, r * 1.4, colour, angle=s.turn)
        c.line(
            x,
            y,
            x + sign * 0.4 * s.size * dx + 0.1 * s.size,
            y + sign * 0.4 * s.size * dy + 0.2 * s.size,
            r * 0.8,
            colour,
        )


def bounce(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """A ball that flies from one event to the next and turns round at each."""
    times = [
        -0.9,
        *(e.onset_s for e in scene.events),
        (scene.events[-1].onset_s if scene.events else 0) + 2.5,
    ]
    k = int(np.searchsorted(times, t, "right")) - 1
    k = min(max(k, 0), len(times) - 2)
    u = (t - times[k]) / (times[k + 1] - times[k])
    height = min(1.1, 4.2 * (times[k + 1] - times[k]) ** 2 / 8) * 4 * u * (1 - u)
    x = (-1) ** k * (u - 0.5) * 0.9 * s.u[0]
    c.line(-0.9, 0.36, 0.9, 0.36, 0.03, s.colours[2])
    c.disc(x, 0.3 - 0.06 * s.size - height, 0.07 * s.size + 0.02, s.colours[0], edge=s.dark)


def mouth(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """A head whose mouth opens just before it is heard, and nods."""
    opened = max((w * np.exp(-max(0.0, a - 0.1) / 0.12) for _, a, w in recent(scene, t, 0.9)), default=0.0)
    nearly = max(
        (e.strength * (1 - (e.onset_s - t) / 0.08) for e in scene.events if 0 < e.onset_s - t < 0.08),
        default=0.0,
    )
    a = max(opened, nearly)
    r = 0.26 * s.size
    nod = -0.12 * a * r
    c.disc(0, nod, r, s.colours[0], ry=r * (0.7 + 0.5 * s.u[0]), edge=s.dark)
    for side in (-1, 1):
        c.disc(side * 0.4 * r, nod - 0.35 * r, 0.1 * r, s.dark)
        if s.u[1] < 0.5:
            c.poly(
                [(side * 0.5 * r, nod - 0.6 * r), (side * 0.9 * r, nod - 1.3 * r), (side * r, nod - 0.4 * r)],
                s.colours[1],
            )
    snout = (s.u[2] - 0.5) * r
    c.disc(snout, nod + 0.3 * r, 0.35 * r, s.colours[2], ry=(0.16 + 0.3 * a) * r)
    c.disc(snout, nod + (0.35 + 0.15 * a) * r, 0.25 * r, (25, 8, 8), ry=max(0.3 * a * r, 0.004))
    c.line(0, r + nod, 0.2 * s.size * (s.u[3] - 0.5), 1.2, 0.25 * s.size, s.colours[1])


def flash(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """A barrel that kicks back, with fire in front of it; or, for thunder, light on everything."""
    kick = sum(w * np.exp(-a / 0.09) * min(1.0, a / 0.02) for _, a, w in recent(scene, t, 0.5))
    dx, dy = np.cos(s.turn), 0.3 * np.sin(s.turn)
    x, y = -0.12 * kick * dx, -0.12 * kick * dy - 0.06 * kick
    c.line(
        x - 0.35 * s.size * dx,
        y - 0.35 * s.size * dy + 0.1,
        x + 0.2 * s.size * dx,
        y + 0.2 * s.size * dy,
        0.07 * s.size,
        s.colours[0],
    )
    c.disc(
        x - 0.4 * s.size * dx,
        y - 0.35 * s.size * dy + 0.25 * s.size,
        0.2 * s.size,
        s.colours[1],
        ry=0.3 * s.size,
    )
    for _, a, w in recent(scene, t, 0.09):
        c.disc(
            0.3 * s.size * dx,
            0.3 * s.size * dy,
            (0.08 + 0.2 * w) * s.size,
            (255, 245, 200),
            0.9 * (1 - a / 0.09),
        )


def burst(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """Light, sparks, splinters or drops that fly apart from a point at each event."""
    for k, a, w in recent(scene, t, 1.4):
        rng = np.random.default_rng([int(s.u[0] * 1e6), k])
        x, y = rng.uniform(-0.4, 0.4), rng.uniform(-0.3, 0.2)
        n = int(12 + 40 * s.u[1])
        angle, speed = rng.uniform(0, 6.28, n), rng.uniform(0.2, 1.0, n) * (0.4 + w) * s.size
        far = speed * (1 - np.exp(-a / 0.5))
        fade = float(np.clip(1.3 - a, 0, 1))
        c.disc(
            x, y, (0.1 + 0.25 * w) * s.size * (1 - np.exp(-a / 0.05)), s.colours[0], 0.9 * np.exp(-a / 0.15)
        )
        c.dots(
            x + far * np.cos(angle),
            y + far * np.sin(angle) + 0.5 * a * a * s.u[2],
            (0.008 + 0.02 * s.u[3]) * s.size,
            s.colours[1],
            fade,
        )


def stepper(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """A shape on two or four legs, one of which comes down at each event, while the body bobs."""
    times = np.array([e.onset_s for e in scene.events]) if scene.events else np.zeros(1)
    k = int(np.searchsorted(times, t, "right"))
    last = times[k - 1] if k else times[0] - 0.6
    nxt = times[k] if k < len(times) else last + 0.6
    u = float(np.clip((t - last) / max(nxt - last, 0.05), 0, 1)) if nxt - last < 1.3 else 1.0
    bob = -0.04 * s.size * np.sin(np.pi * u)
    drift = (s.u[0] - 0.5) * 0.25 * (t - scene.duration_s / 2)
    hip, foot = 0.02 * s.size + bob, 0.38 * s.size
    for leg in range(4 if s.u[1] < 0.3 else 2):
        moving = (k + leg) % 2 == 0
        forward = (u if moving else 1 - u) - 0.5
        lift = 0.1 * s.size * np.sin(np.pi * u) if moving else 0.0
        x = drift + (leg // 2) * 0.3 * s.size
        c.line(x, hip, x + forward * 0.3 * s.size, foot - lift, 0.07 * s.size, s.colours[leg % 2])
        c.disc(x + forward * 0.3 * s.size, foot - lift, 0.05 * s.size, s.dark)
    c.disc(
        drift + (0.15 * s.size if s.u[1] < 0.3 else 0),
        hip - 0.12 * s.size,
        0.14 * s.size,
        s.colours[2],
        ry=(0.1 if s.u[1] < 0.3 else 0.22) * s.size,
    )
    c.disc(drift - 0.02, hip - (0.2 if s.u[1] < 0.3 else 0.42) * s.size, 0.09 * s.size, s.colours[3])


def fall(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """Things that fall, hit the ground at an event and break, splash or come to rest."""
    ground = 0.25
    c.line(-1.5, ground + 0.05, 1.5, ground + 0.05, 0.08, s.colours[2])
    for k, e in enumerate(scene.events):
        since = t - e.onset_s
        x = 0.5 * np.sin(7.3 * k + 6 * s.u[0])
        r = (0.04 + 0.08 * s.u[1]) * s.size
        if -0.45 < since <= 0:
            c.disc(x, ground - r - 2.4 * since * since * 2.2, r, s.colours[0], edge=s.dark)
        elif 0 < since < 0.9:
            rng = np.random.default_rng([int(s.u[2] * 1e6), k])
            n = int(4 + 14 * s.u[3])
            vx, vy = rng.normal(0, 0.5, n), -rng.uniform(0.2, 1.2, n) * e.strength
            c.dots(
                x + vx * since,
                np.minimum(ground, ground + vy * since + 2 * since * since),
                r * 0.4,
                s.colours[0],
                1 - since / 0.9,
            )


def door(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """A leaf that swings and is shut, or stopped, at each event."""
    wide = 0.25 * s.size
    h = stroke(scene, t, 0.5)
    c.box(0, 0, wide, 0.45 * s.size, s.colours[2])
    shown = wide * (1 - 0.8 * min(1.0, h))
    c.box(-wide + shown + quake(scene, t, 0.01), 0, shown, 0.43 * s.size, s.colours[0], edge=s.dark)


def fingers(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """Fingers above a board, one of which goes down at each event."""
    c.box(0, 0.16 * s.size, 0.45 * s.size, 0.1 * s.size, s.colours[2], angle=0.2 * s.turn)
    for k in range(5):
        mine: Any = Only(tuple(e for n, e in enumerate(scene.events) if (n * 3 + int(8 * s.u[0])) % 5 == k))
        lift = (0.04 + 0.08 * s.u[1]) * s.size * stroke(mine, t, 0.14)
        x = (k - 2) * 0.12 * s.size
        c.line(x + 0.03, -0.25 * s.size - 0.5 * lift, x, 0.1 * s.size - lift, 0.06 * s.size, s.colours[0])
        c.disc(x, 0.1 * s.size - lift, 0.035 * s.size, s.colours[1])


def pendulum(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """A weight on a rod, at the end of its way at each event."""
    times = [e.onset_s for e in scene.events]
    k = int(np.searchsorted(times, t, "right"))
    last = times[k - 1] if k else t - 0.5
    nxt = times[k] if k < len(times) else last + 1.0
    u = float(np.clip((t - last) / max(nxt - last, 0.05), 0, 1))
    angle = (-1) ** k * 0.5 * (0.4 + s.u[0]) * np.cos(np.pi * u)
    x, y = 0.5 * s.size * np.sin(angle), -0.3 * s.size + 0.5 * s.size * np.cos(angle)
    c.disc(0, -0.3 * s.size, 0.22 * s.size, s.colours[2])
    c.line(0, -0.3 * s.size, x, y, 0.02 * s.size, s.dark)
    c.disc(x, y, (0.05 + 0.07 * s.u[1]) * s.size, s.colours[0])


def sheet(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """Something thin and wide that is turned or shaken at each event."""
    turn = sum(w * (1 - np.exp(-a / 0.12)) * np.exp(-a / 0.5) for _, a, w in recent(scene, t, 1.5))
    wave = quake(scene, t, 0.05, 0.5)
    w = 0.3 * s.size
    top = [(-w, -0.2 * s.size + wave), (w * (1 - 1.2 * turn), -0.2 * s.size - 0.2 * turn)]
    c.poly(
        [*top, (w * (1 - 1.2 * turn), 0.25 * s.size + wave), (-w, 0.25 * s.size)], s.colours[0], edge=s.dark
    )
    c.disc(w * (1 - 1.2 * turn), 0.1 * s.size, 0.07 * s.size, s.colours[1])


def bow(c: Canvas, scene: Any, s: Style, t: float) -> None:
    """A bow that changes its direction at each event."""
    times = [-0.5, *(e.onset_s for e in scene.events)]
    k = int(np.searchsorted(times, t, "right")) - 1
    nxt = times[k + 1] if k + 1 < len(times) else times[k] + 1.2
    u = float(np.clip((t - times[k]) / max(nxt - times[k], 0.05), 0, 1))
    x = (-1) ** k * (u - 0.5) * 0.6 * s.size
    c.box(0.1, 0.1, 0.13 * s.size, 0.4 * s.size, s.colours[2], angle=0.4)
    c.line(
        x - 0.4 * s.size,
        0.05 - 0.1 * s.u[0],
        x + 0.4 * s.size,
        0.05 + 0.1 * s.u[0],
        0.03 * s.size,
        s.colours[0],
    )
    c.disc(x + 0.4 * s.size, 0.05 + 0.1 * s.u[0], 0.07 * s.size, s.colours[1])
