"""Synthesised takes, for classes of sound that have few recordings or none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import signal

from pipelines import synthfoley
from pipelines.synthfoley.physics import Event
from v2a_models import grid

LONG_S = 8.0
"""Length of a take that goes on."""


def _struck(label: str, length_s: float) -> Callable[[np.random.Generator], np.ndarray]:
    """One stroke of a SynthFoley class."""

    def make(rng: np.random.Generator) -> np.ndarray:
        scene = synthfoley.make_scene(int(rng.integers(1 << 30)), 0, length_s + 1.0, label=label)
        stroke = Event(0.01, float(rng.uniform(0.5, 1.0)), label)
        return synthfoley.render_sound(replace(scene, events=(stroke,)))[: round(length_s * grid.SAMPLE_RATE)]

    return make


def _going_on(label: str) -> Callable[[np.random.Generator], np.ndarray]:
    """A SynthFoley class that goes on, at a level that does not change."""

    def make(rng: np.random.Generator) -> np.ndarray:
        scene = synthfoley.make_scene(int(rng.integers(1 << 30)), 0, LONG_S, label=label)
        level = np.full_like(scene.params["level"], rng.uniform(0.5, 1.0))
        speed, phase = synthfoley.physics.moving(label, level, scene.params)
        steady = {**scene.params, "level": level, "speed": speed, "phase": phase}
        return synthfoley.render_sound(replace(scene, params=steady))

    return make


def _band(noise: np.ndarray, low: float, high: float) -> np.ndarray:
    return signal.sosfilt(signal.butter(2, (low, high), "bandpass", fs=grid.SAMPLE_RATE, output="sos"), noise)


def _click(rng: np.random.Generator, length_s: float, low: float, high: float, decay_s: float) -> np.ndarray:
    t = np.arange(round(length_s * grid.SAMPLE_RATE)) / grid.SAMPLE_RATE
    return _band(rng.standard_normal(len(t)), low, high) * np.exp(-t / decay_s)


def typing(rng: np.random.Generator) -> np.ndarray:
    """A key goes down and, softer, comes up."""
    down = _click(rng, 0.16, rng.uniform(300, 900), rng.uniform(3000, 8000), rng.uniform(0.006, 0.015))
    up = _click(rng, 0.16, rng.uniform(800, 1500), rng.uniform(4000, 9000), rng.uniform(0.004, 0.008))
    delay = round(rng.uniform(0.06, 0.1) * grid.SAMPLE_RATE)
    down[delay:] += rng.uniform(0.2, 0.5) * up[: len(down) - delay]
    return down.astype(np.float32)


def clock(rng: np.random.Generator) -> np.ndarray:
    """A tick with a small ringing case."""
    t = np.arange(round(0.15 * grid.SAMPLE_RATE)) / grid.SAMPLE_RATE
    ring = sum(
        a * np.exp(-t / d) * np.sin(2 * np.pi * f * rng.uniform(0.9, 1.1) * t)
        for f, d, a in ((2300, 0.02, 0.5), (4100, 0.012, 0.4), (6700, 0.008, 0.3))
    )
    return (ring + 0.7 * _click(rng, 0.15, 1500, 9000, 0.003)).astype(np.float32)


def insects(rng: np.random.Generator) -> np.ndarray:
    """Bees and flies, which hum, or crickets, which chirp."""
    t = np.arange(round(LONG_S * grid.SAMPLE_RATE)) / grid.SAMPLE_RATE
    wander = np.interp(t, np.linspace(0, LONG_S, 24), rng.uniform(-1, 1, 24))
    if rng.uniform() < 0.5:
        pitch = rng.uniform(120, 260) * 2 ** (0.15 * wander)
        cycle = 2 * np.pi * np.cumsum(pitch) / grid.SAMPLE_RATE
        tone = sum(np.sin(k * cycle + k) / k**0.7 for k in range(1, 14))
        near = np.interp(t, np.linspace(0, LONG_S, 12), rng.uniform(0.2, 1.0, 12))
        return (tone * near).astype(np.float32)
    rate, tune = rng.uniform(1.2, 3.0), rng.uniform(3500, 5500)
    chirp = np.clip(np.sin(2 * np.pi * rate * t), 0, 1) ** 0.5 * (np.sin(2 * np.pi * 45 * t) > 0)
    return (
        chirp * np.sin(2 * np.pi * tune * t) + 0.05 * _band(rng.standard_normal(len(t)), 3000, 9000)
    ).astype(np.float32)


def motorcycle(rng: np.random.Generator) -> np.ndarray:
    """Two cylinders: uneven pulses through an open pipe."""
    t = np.arange(round(LONG_S * grid.SAMPLE_RATE)) / grid.SAMPLE_RATE
    turns = rng.uniform(18, 45) * 2 ** (0.4 * np.interp(t, np.linspace(0, LONG_S, 8), rng.uniform(-1, 1, 8)))
    phase = np.cumsum(turns) / grid.SAMPLE_RATE
    beat = np.exp(-((phase % 1.0) / 0.16)) + 0.8 * np.exp(-(((phase + rng.uniform(0.35, 0.5)) % 1.0) / 0.16))
    rough = 1 + 0.3 * _band(rng.standard_normal(len(t)), 20, 200)
    pipe = _band(beat * rough, 60, rng.uniform(900, 2200))
    return (pipe / np.abs(pipe).max() + 0.06 * _band(rng.standard_normal(len(t)), 500, 4000)).astype(
        np.float32
    )


def street(rng: np.random.Generator) -> np.ndarray:
    """Tyres and engines far away, which come and go."""
    n = round(LONG_S * grid.SAMPLE_RATE)
    t = np.arange(n) / grid.SAMPLE_RATE
    out = 0.5 * _band(rng.standard_normal(n), 60, 500)
    for _ in range(int(rng.integers(2, 5))):
        near = 1 / (1 + ((t - rng.uniform(0, LONG_S)) / rng.uniform(0.8, 2.0)) ** 2)
        out += near * rng.uniform(0.4, 1.0) * _band(rng.standard_normal(n), 150, rng.uniform(900, 2500))
    return out.astype(np.float32)


def room(rng: np.random.Generator) -> np.ndarray:
    """Quiet air with a trace of mains hum."""
    n = round(LONG_S * grid.SAMPLE_RATE)
    t = np.arange(n) / grid.SAMPLE_RATE
    air = _band(rng.standard_normal(n), 40, rng.uniform(400, 1200))
    hum = sum(np.sin(2 * np.pi * 50 * k * t + k) / k for k in (1, 2, 4))
    return (air / np.abs(air).max() + rng.uniform(0.0, 0.08) * hum).astype(np.float32)


def crowd(rng: np.random.Generator) -> np.ndarray:
    """Many voices at once: noise in the formants of speech, each voice with its own syllables."""
    n = round(LONG_S * grid.SAMPLE_RATE)
    t = np.arange(n) / grid.SAMPLE_RATE
    out = np.zeros(n)
    for _ in range(9):
        pitch = rng.uniform(90, 240) * 2 ** (
            0.2 * np.interp(t, np.linspace(0, LONG_S, 40), rng.uniform(-1, 1, 40))
        )
        voice = signal.sawtooth(2 * np.pi * np.cumsum(pitch) / grid.SAMPLE_RATE) + 0.3 * rng.standard_normal(
            n
        )
        formant = rng.uniform(350, 900)
        words = np.clip(np.interp(t, np.linspace(0, LONG_S, 48), rng.uniform(-0.6, 1, 48)), 0, 1)
        out += words * (_band(voice, formant * 0.7, formant * 1.4) + 0.5 * _band(voice, 1200, 2600))
    return out.astype(np.float32)


TAKES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "hammer": _struck("hammer_wood", 0.5),
    "metal": _struck("anvil", 0.9),
    "glass": _struck("glass", 0.9),
    "drum": _struck("drum", 0.6),
    "bell": _struck("bell", 1.6),
    "clap": _struck("clap", 0.3),
    "explosion": _struck("firework", 1.2),
    "ball": _struck("bouncing_ball", 0.4),
    "splash": _struck("water_drip", 0.4),
    "typing": typing,
    "clock": clock,
    "insects": insects,
    "car": _going_on("engine"),
    "motorcycle": motorcycle,
    "tools": _going_on("saw"),
    "fan": _going_on("fan"),
    "waves": _going_on("waves"),
    "rain": _going_on("rain"),
    "crowd": crowd,
    "room": room,
    "street": street,
}
"""Makers of one take, mono float32 at 44.1 kHz, by class."""
