"""Renders the pictures of a SynthFoley scene, at any times and any size."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from pipelines.synthfoley.falls import FALLS
from pipelines.synthfoley.machines import MACHINES
from pipelines.synthfoley.physics import Scene, generator
from pipelines.synthfoley.shapes import Canvas
from pipelines.synthfoley.strikes import STRIKES

ACTORS = {**STRIKES, **FALLS, **MACHINES}  # class: (paint the still part, paint the moving part)

MARGIN = 0.07  # of the short side: how far the camera may wander over the still background
GRAIN_SPAN = 41  # offsets of the grain tile, rows and columns


def render_frames(
    scene: Scene, times: np.ndarray, width: int | None = None, height: int | None = None
) -> np.ndarray:
    """Frames at exactly `times` (seconds, any order), uint8 [T, height, width, 3] RGB.

    A picture does not depend on the other times. Raises ValueError for an empty size.
    """
    width = scene.width if width is None else width
    height = scene.height if height is None else height
    if width < 1 or height < 1:
        raise ValueError("width and height must be at least 1")
    times = np.asarray(times, float).reshape(-1)
    look = _look(scene)
    still, grain, pad = _still(scene, width, height)
    unit_x, unit_y = _units(scene, width, height)
    out = np.empty((len(times), height, width, 3), np.uint8)
    _, moving = ACTORS[scene.label]
    for k, t in enumerate(times):
        dx, dy = _camera(look, float(t))
        dx, dy = dx * unit_x, dy * unit_y
        image = _shift(still, pad[0] - dx, pad[1] - dy, width, height)
        canvas = _canvas(image, look, unit_x, unit_y, width / 2 + dx, height / 2 + dy)
        _distractors(canvas, look, float(t), width / unit_x, height / unit_y)
        moving(canvas, scene, look.colours, float(t))
        image *= _light(look, float(t))
        shift = round(float(t) * 1e4) * 7919
        row, column = shift % GRAIN_SPAN, (shift // 97) % GRAIN_SPAN
        image += grain[row : row + height, column : column + width, None]
        np.clip(image, 0, 255, out=image)
        out[k] = image
    return out


def _units(scene: Scene, width: int, height: int) -> tuple[float, float]:
    """Columns and rows per short side of the native frame, so that a small picture is the native one resized."""
    short = min(scene.width, scene.height)
    return width * short / scene.width, height * short / scene.height


@dataclass(frozen=True)
class Look:
    """Constants of a scene's appearance."""

    flip: int
    scale: float
    x: float
    y: float
    colours: dict[str, tuple[float, float, float]]
    drift: np.ndarray  # [n, 4]: amplitude x, amplitude y, frequency, phase
    light: np.ndarray  # [n, 5]: amplitude r, g, b, frequency, phase
    gain: np.ndarray  # [3]
    movers: tuple[tuple, ...]
    texture: tuple[float, ...]
    grain: float
    key: tuple[int, int]


def _rgb(h: float, s: float, v: float) -> tuple[float, float, float]:
    r, g, b = colorsys.hsv_to_rgb(h % 1, min(max(s, 0), 1), min(max(v, 0), 1))
    return 255 * r, 255 * g, 255 * b


@lru_cache(maxsize=64)
def _look(scene: Scene) -> Look:
    rng = generator(scene.seed, scene.index, 2)
    dark = scene.label == "firework"
    wide = scene.label in ("rain", "waves", "firework")
    value = rng.uniform(0.06, 0.22) if dark else rng.uniform(0.3, 0.85)
    hue = rng.uniform(0.55, 0.75) if dark else rng.uniform()
    sat = rng.uniform(0.05, 0.4)
    if scene.label in ("rain", "waves"):
        hue, sat = rng.uniform(0.52, 0.66), rng.uniform(0.1, 0.4)
        value = rng.uniform(0.25, 0.5) if scene.label == "rain" else rng.uniform(0.55, 0.95)
    colours = {
        "back": _rgb(hue, sat, value),
        "floor": _rgb(hue + rng.uniform(0.05, 0.5), sat * 0.8, value * rng.uniform(0.5, 0.8)),
        "main": _rgb(rng.uniform(), rng.uniform(0.55, 0.9), rng.uniform(0.6, 0.95)),
        "second": _rgb(rng.uniform(), rng.uniform(0.5, 0.9), rng.uniform(0.5, 0.95)),
        "wood": _rgb(rng.uniform(0.06, 0.1), rng.uniform(0.45, 0.7), rng.uniform(0.5, 0.75)),
        "skin": _rgb(rng.uniform(0.04, 0.08), rng.uniform(0.3, 0.6), rng.uniform(0.4, 0.95)),
        "metal": _rgb(rng.uniform(0.5, 0.65), rng.uniform(0.05, 0.15), rng.uniform(0.3, 0.45)),
        "gold": _rgb(rng.uniform(0.1, 0.14), rng.uniform(0.6, 0.85), rng.uniform(0.7, 0.95)),
        "water": _rgb(rng.uniform(0.5, 0.6), rng.uniform(0.45, 0.75), rng.uniform(0.4, 0.7)),
        "dark": (22.0, 20.0, 24.0),
        "light": (248.0, 246.0, 240.0),
    }
    portrait = scene.height > scene.width
    room_x = 0.02 if portrait or wide else max(0.0, (scene.width / scene.height - 1) / 2 - 0.02)
    n = 3
    drift = np.stack(
        [
            rng.uniform(0, 0.013, n) * rng.choice([0.2, 1.0, 1.6]),
            rng.uniform(0, 0.009, n) * rng.choice([0.2, 1.0, 1.6]),
            np.array([0.11, 0.43, 1.9]) * rng.uniform(0.6, 1.5, n),
            rng.uniform(0, 6.28, n),
        ],
        axis=1,
    )
    drift[2, :2] *= 0.25
    light = np.concatenate(
        [
            rng.uniform(0, 0.035, (2, 1)) + rng.uniform(-0.012, 0.012, (2, 3)),
            np.array([[0.2], [1.7]]) * rng.uniform(0.5, 1.6, (2, 1)),
            rng.uniform(0, 6.28, (2, 1)),
        ],
        axis=1,
    )
    movers = tuple(
        (
            *(float(v) for v in rng.uniform(0, 1, 8)),
            _rgb(rng.uniform(), rng.uniform(0, 0.6), rng.uniform(0.2, 0.9)),
        )
        for _ in range(int(rng.choice(4, p=[0.4, 0.3, 0.2, 0.1])))
    )
    return Look(
        flip=int(rng.choice([-1, 1])),
        scale=(0.84 + 0.24 * float(scene.params["size"])) * (1.0 if wide else rng.uniform(0.94, 1.06)),
        x=float(rng.uniform(-1, 1)) * room_x,
        y=0.0 if wide else float(rng.uniform(-0.03, 0.04)),
        colours=colours,
        drift=drift,
        light=light,
        gain=rng.uniform(0.82, 1.1) * rng.uniform(0.95, 1.05, 3),
        movers=movers,
        texture=tuple(float(v) for v in rng.uniform(0, 1, 8)),
        grain=float(rng.uniform(0.8, 4.0)),
        key=(scene.seed, scene.index),
    )


def _canvas(image: np.ndarray, look: Look, unit_x: float, unit_y: float, cx: float, cy: float) -> Canvas:
    x, y = cx + look.x * unit_x, cy + look.y * unit_y
    return Canvas(image, unit_y * look.scale, x, y, look.flip, unit_x / unit_y)


@lru_cache(maxsize=48)
def _still(scene: Scene, width: int, height: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Background and still parts with a margin, a tile of sensor noise, and the margin in pixels."""
    look = _look(scene)
    unit_x, unit_y = _units(scene, width, height)
    pad = (int(np.ceil(MARGIN * unit_x)) + 2, int(np.ceil(MARGIN * unit_y)) + 2)
    w, h = width + 2 * pad[0], height + 2 * pad[1]
    image = _backdrop(look, w, h, unit_x, unit_y)
    canvas = _canvas(image, look, unit_x, unit_y, w / 2, h / 2)
    static, _ = ACTORS[scene.label]
    static(canvas, scene, look.colours)
    rng = generator(*look.key, 3)
    grain = rng.standard_normal((height + GRAIN_SPAN, width + GRAIN_SPAN)).astype(np.float32) * np.float32(
        look.grain
    )
    return image, grain, pad


def _backdrop(look: Look, w: int, h: int, unit_x: float, unit_y: float) -> np.ndarray:
    """Wall with a vertical gradient, soft blotches and optional stripes, the same at every size."""
    y = ((np.arange(h, dtype=np.float32) + 0.5 - h / 2) / unit_y)[:, None]
    x = ((np.arange(w, dtype=np.float32) + 0.5 - w / 2) / unit_x)[None, :]
    a, b, c, d, e, f, g, _ = look.texture
    shade = 1 + (a - 0.5) * 0.5 * y + (b - 0.5) * 0.3 * x
    rng = generator(*look.key, 4)
    coarse = rng.standard_normal((12, 20)).astype(np.float32)
    fine = rng.standard_normal((48, 80)).astype(np.float32)
    for tile, amp, per_unit in ((coarse, 0.05 + 0.1 * c, 5.0), (fine, 0.01 + 0.06 * d, 20.0)):
        gy = np.broadcast_to((y + 1.2) * per_unit, (h, w))
        gx = np.broadcast_to((x + 2.0) * per_unit, (h, w))
        shade = shade + amp * ndimage.map_coordinates(tile, [gy, gx], order=1, mode="wrap")
    if e < 0.35:
        axis = (x if f < 0.5 else y) * (4 + 8 * g)
        shade = shade * (1 - 0.16 * np.clip(np.sin(2 * np.pi * axis) * 3 - 1.6, 0, 1))
    return (shade[..., None] * np.asarray(look.colours["back"], np.float32)).astype(np.float32)


def _camera(look: Look, t: float) -> tuple[float, float]:
    wave = np.sin(2 * np.pi * look.drift[:, 2] * t + look.drift[:, 3])
    return float(wave @ look.drift[:, 0]), float(wave[::-1] @ look.drift[:, 1])


def _light(look: Look, t: float) -> np.ndarray:
    wave = np.sin(2 * np.pi * look.light[:, 3] * t + look.light[:, 4])
    return (look.gain * (1 + wave @ look.light[:, :3])).astype(np.float32)


def _shift(still: np.ndarray, left: float, top: float, width: int, height: int) -> np.ndarray:
    """Crop at a fractional offset (bilinear)."""
    left = min(max(left, 0.0), still.shape[1] - width - 1.001)
    top = min(max(top, 0.0), still.shape[0] - height - 1.001)
    x, y = int(left), int(top)
    u, v = np.float32(left - x), np.float32(top - y)
    rows = still[y : y + height + 1, x : x + width + 1]
    rows = rows[:-1] * (1 - v) + rows[1:] * v
    return rows[:, :-1] * (1 - u) + rows[:, 1:] * u


def _distractors(canvas: Canvas, look: Look, t: float, aspect_x: float, aspect_y: float) -> None:
    """Draw moving shapes that make no sound."""
    for a, b, c, d, e, f, g, size, colour in look.movers:
        # a triangle wave reverses abruptly, a sine smoothly: both kinds of motion occur
        phase = c + t * (0.05 + 0.3 * d)
        swing = abs(2 * (phase % 1) - 1) if f < 0.5 else 0.5 + 0.5 * np.sin(2 * np.pi * phase)
        x = ((a - 0.5) + (swing - 0.5) * (0.3 + 0.6 * e)) * aspect_x
        y = (b - 0.5) * aspect_y * 0.9 + 0.08 * np.sin(2 * np.pi * (0.1 + 0.5 * g) * t + 6 * a)
        r = 0.02 + 0.04 * size
        if g < 0.5:
            canvas.disc(x, y, r, colour)
        else:
            canvas.box(x, y, r, r * 0.8, colour, angle=t * (d - 0.5) * 3)
