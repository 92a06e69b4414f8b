"""Timed events of a SynthFoley scene: one list that drives both picture and sound.

All functions are pure functions of (seed, index), independent of frame rate, picture size and workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.synthfoley.captions import caption

IMPACTS: tuple[str, ...] = (
    "drum",
    "hammer_wood",
    "anvil",
    "bouncing_ball",
    "clap",
    "water_drip",
    "glass",
    "bell",
    "firework",
)
CONTINUOUS: tuple[str, ...] = ("engine", "saw", "rain", "waves", "fan")
CLASSES: tuple[str, ...] = IMPACTS + CONTINUOUS

DRAWN: dict[str, str] = dict(
    drum="drum", hammer_wood="hammer", anvil="metal", bouncing_ball="ball", clap="clap", water_drip="splash",
    glass="glass", bell="bell", firework="explosion", engine="car", saw="tools", rain="rain", waves="waves", fan="fan",
)  # fmt: skip
"""Class of sound (`v2a_models.encoders.sound_classes`) of each class of SynthFoley."""

CURVE_RATE = 1000  # samples per second of the level and phase curves of continuous scenes
MIN_GAP_S = 0.3
GRAVITY = 4.2  # frame heights per second squared, for the bouncing ball

SIZES: tuple[tuple[int, int], ...] = (
    (426, 240),
    (320, 240),
    (480, 270),
    (480, 360),
    (640, 360),
    (640, 480),
    (854, 480),
    (240, 426),
)
SIZE_WEIGHTS = (0.24, 0.2, 0.14, 0.12, 0.12, 0.07, 0.05, 0.06)
RATES: tuple[float, ...] = (24.0, 25.0, 30000 / 1001, 30.0)


def class_among(classes: Collection[str], label: str) -> str | None:
    """Class of a classifier that a label names, also by SynthFoley's name for it; None if there is none."""
    return next((name for name in (label, DRAWN.get(label)) if name in classes), None)


@dataclass(frozen=True)
class Event:
    """One sound event. `onset_s`: seconds from the first frame; `strength`: in (0, 1]; `label`: a class."""

    onset_s: float
    strength: float
    label: str


@dataclass(frozen=True)
class Scene:
    """Scene, fully determined by (seed, index). `params` holds its random constants of motion and appearance."""

    label: str
    caption: str
    duration_s: float
    width: int
    height: int
    fps: float
    seed: int
    index: int
    split: str
    events: tuple[Event, ...]
    params: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


def generator(*key: int) -> np.random.Generator:
    """Random generator of a stream identified by integers."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(key))))


def split_of(index: int) -> str:
    """train, val or test (80/10/10) by a hash of the clip index alone."""
    bucket = int.from_bytes(hashlib.sha256(f"synthfoley/{index}".encode()).digest()[:4], "big") % 10
    return "test" if bucket == 0 else "val" if bucket == 1 else "train"


def label_of(seed: int, index: int) -> str:
    """Class of a clip. Every block of len(CLASSES) consecutive indices holds each class once."""
    block, place = divmod(index, len(CLASSES))
    return CLASSES[int(generator(seed, block, 7).permutation(len(CLASSES))[place])]


def make_scene(
    seed: int,
    index: int,
    duration_s: float = 8.0,
    *,
    label: str | None = None,
    width: int | None = None,
    height: int | None = None,
    fps: float | None = None,
) -> Scene:
    """Draw scene `index` of the corpus `seed`.

    Raises ValueError for an unknown label, a negative seed or index, or a duration under one second.
    """
    if label is not None and label not in CLASSES:
        raise ValueError(f"unknown class {label!r}; choose one of {', '.join(CLASSES)}")
    if seed < 0 or index < 0:
        raise ValueError("seed and index must not be negative")
    if not duration_s >= 1.0:
        raise ValueError("a scene lasts at least one second")
    label = label or label_of(seed, index)
    rng = generator(seed, index)
    size = SIZES[int(rng.choice(len(SIZES), p=np.array(SIZE_WEIGHTS) / sum(SIZE_WEIGHTS)))]
    rate = RATES[int(rng.integers(len(RATES)))]
    params: dict[str, Any] = {"size": float(rng.uniform(0, 1)), "pitch": float(rng.uniform(0, 1))}
    params["variant"] = [float(x) for x in rng.uniform(0, 1, 8)]
    if label == "bouncing_ball":
        times, strengths, params["flights"] = _ball(rng, duration_s)
    elif label in IMPACTS:
        times, strengths = _strikes(rng, duration_s)
    else:
        times, strengths, level = _levels(rng, duration_s)
        rev, phase = moving(label, level, params)
        params["level"] = level.astype(np.float32)
        params["speed"] = rev.astype(np.float32)
        params["phase"] = phase + float(rng.uniform(0, 1))
    events = tuple(Event(float(t), float(s), label) for t, s in zip(times, strengths, strict=True))
    return Scene(
        label=label,
        caption=caption(label, events, params, rng, duration_s),
        duration_s=float(duration_s),
        width=width or size[0],
        height=height or size[1],
        fps=fps or rate,
        seed=seed,
        index=index,
        split=split_of(index),
        events=events,
        params=params,
    )


def frame_times(scene: Scene) -> np.ndarray:
    """Times n/fps of the scene's own frames, float64 [T]."""
    return np.arange(int(np.ceil(scene.duration_s * scene.fps - 1e-9))) / scene.fps


def _strikes(rng: np.random.Generator, duration_s: float) -> tuple[list[float], list[float]]:
    rate = rng.uniform(0.6, 1.6)
    base = rng.uniform(0.35, 1.0)
    regular = rng.uniform() < 0.3
    mean_gap = 1 / rate
    t = rng.uniform(0.35, max(0.4, min(1.6, duration_s / 3)))
    times, strengths = [], []
    while t < duration_s - 0.15:
        times.append(t)
        strengths.append(float(np.clip(base * rng.uniform(0.5, 1.35), 0.2, 1.0)))
        wander = rng.normal(1, 0.06) if regular else rng.exponential(1) * 0.75 + 0.25
        t += max(MIN_GAP_S, mean_gap * float(wander))
        if rng.uniform() < 0.07:
            t += rng.uniform(1.0, 2.2)
    return times, strengths


def _ball(rng: np.random.Generator, duration_s: float):
    """Drops with restitution. A flight is (start, end, vertical speed at start, drop number)."""
    restitution = rng.uniform(0.66, 0.82)
    drop_height = rng.uniform(0.75, 1.1)
    times, strengths, flights = [], [], []
    t, drop = rng.uniform(0.0, 0.5), 0
    top_speed = np.sqrt(2 * GRAVITY * 1.1)
    while t < duration_s:
        height = drop_height * rng.uniform(0.85, 1.0)
        v = np.sqrt(2 * GRAVITY * height)
        flights.append((t, t + v / GRAVITY, 0.0, drop, height))
        t += v / GRAVITY
        while True:
            if t < duration_s - 0.1:
                times.append(float(t))
                strengths.append(float(np.clip(v / top_speed, 0.05, 1.0)))
            v *= restitution
            if 2 * v / GRAVITY < MIN_GAP_S:
                break
            flights.append((t, t + 2 * v / GRAVITY, v, drop, 0.0))
            t += 2 * v / GRAVITY
        t += rng.uniform(0.15, 0.6)
        drop += 1
    return times, strengths, flights


def _levels(rng: np.random.Generator, duration_s: float):
    """Piecewise constant levels with smooth ramps: onset times, levels and the curve at CURVE_RATE."""
    start = 0.0 if rng.uniform() < 0.55 else float(rng.uniform(0.4, min(2.5, duration_s / 2)))
    times, levels = [start], [float(rng.uniform(0.2, 1.0))]
    while True:
        t = times[-1] + float(rng.uniform(1.2, 3.5))
        if t > duration_s - 0.8:
            break
        step = float(rng.uniform(0.3, 0.65)) * (1 if rng.uniform() < 0.5 else -1)
        if not 0.15 <= levels[-1] + step <= 1.0:
            step = -step
        times.append(t)
        levels.append(float(np.clip(levels[-1] + step, 0.15, 1.0)))
    grid = np.arange(int(np.ceil(duration_s * CURVE_RATE)) + 2) / CURVE_RATE
    curve = np.full(grid.shape, levels[0] if start == 0 else 0.0)
    before = levels[0] if start == 0 else 0.0
    for t, level in zip(times, levels, strict=True):
        u = np.clip((grid - t) / 0.35, 0, 1)
        curve = curve + (level - before) * u * u * (3 - 2 * u)
        before = level
    return times, levels, curve


def moving(label: str, level: np.ndarray, params: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Speed (turns or strokes per second) and phase of a continuous class whose level follows a curve."""
    speed = _speed(label, level, params)
    return speed, np.cumsum(speed) / CURVE_RATE


def _speed(label: str, level: np.ndarray, params: Mapping[str, Any]) -> np.ndarray:
    """Visible rate of the motion (turns or strokes per second) at each point of the level curve."""
    top = {"engine": 1.9, "saw": 1.9, "rain": 0.0, "waves": 0.0, "fan": 2.6}[label]
    if label == "waves":
        return np.full(level.shape, 0.3 + 0.25 * params["variant"][1])
    if label == "rain":
        return np.full(level.shape, 1.0)
    return top * (0.15 * np.clip(level / 0.15, 0, 1) + 0.85 * level)


def curve_at(scene: Scene, name: str, times: np.ndarray) -> np.ndarray:
    """Value of the curve `name` (level, speed or phase) of a continuous scene at `times` (seconds)."""
    curve = np.asarray(scene.params[name])
    return np.interp(np.asarray(times) * CURVE_RATE, np.arange(len(curve)), curve)


def stroke(scene: Scene, t: float, windup_s: float = 0.42) -> float:
    """Distance of a striking tool from its target (0 at contact, about 1 at the top of a full stroke).

    The tool rests a little above the target, is lifted, and accelerates down so that it touches exactly at
    the onset; the height of the stroke follows the strength.
    """
    rest, last, nxt = 0.16, -10.0, None
    for event in scene.events:
        if event.onset_s <= t:
            last = event.onset_s
        else:
            nxt = event
            break
    since = t - last
    height = rest * (1 - np.exp(-since / 0.05))
    if nxt is None:
        return float(height)
    span = min(windup_s, 0.9 * (nxt.onset_s - last))
    p = 1 - (nxt.onset_s - t) / span
    if p <= 0:
        return float(height)
    top = 0.3 + 0.7 * nxt.strength
    if p < 0.62:
        u = p / 0.62
        return float(height + (top - height) * u * u * (3 - 2 * u))
    q = (p - 0.62) / 0.38
    return float(top * (1 - q * q))


def recent(scene: Scene, t: float, within_s: float) -> list[tuple[int, float, float]]:
    """Events of the last `within_s` seconds: (number, seconds since, strength), oldest first."""
    return [
        (i, t - e.onset_s, e.strength) for i, e in enumerate(scene.events) if 0 <= t - e.onset_s < within_s
    ]


def coming(scene: Scene, t: float, within_s: float) -> list[tuple[int, float, float]]:
    """Events of the next `within_s` seconds: (number, seconds until, strength)."""
    return [
        (i, e.onset_s - t, e.strength) for i, e in enumerate(scene.events) if 0 < e.onset_s - t <= within_s
    ]
