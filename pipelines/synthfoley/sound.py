"""Sound of a SynthFoley scene: modal synthesis for impacts, filtered noise and pulses for the rest."""

from __future__ import annotations

import numpy as np
from scipy import signal

from pipelines.synthfoley.physics import IMPACTS, Scene, curve_at, generator

RATE = 44100


def render_sound(scene: Scene) -> np.ndarray:
    """Mono sound of the scene, float32 [round(duration_s * 44100)], peak at most 0.9."""
    n = round(scene.duration_s * RATE)
    rng = generator(scene.seed, scene.index, 1)
    dry = _impacts(scene, n, rng) if scene.label in IMPACTS else _CONTINUOUS[scene.label](scene, n, rng)
    gain = 10 ** (rng.uniform(-4, 1) / 20)
    wet = rng.uniform(0.03, 0.22)
    tail = int(rng.uniform(0.12, 0.45) * RATE)
    room = rng.standard_normal(tail) * np.exp(-6.0 * np.arange(tail) / tail)
    room[: int(0.002 * RATE)] = 0
    room /= np.sqrt(np.sum(room**2))
    sound = dry + wet * signal.oaconvolve(dry, room)[:n]
    background = _coloured(n, rng, 900.0) * 10 ** (rng.uniform(-65, -55) / 20)
    sound = gain * 0.8 * sound + background
    peak = float(np.max(np.abs(sound)))
    if peak > 0.9:
        sound *= 0.9 / peak
    return np.clip(sound, -0.9, 0.9).astype(np.float32)


def _coloured(n: int, rng: np.random.Generator, corner_hz: float) -> np.ndarray:
    """Low-pass filtered noise with unit RMS and its corner at corner_hz."""
    x = signal.sosfilt(signal.butter(1, corner_hz, fs=RATE, output="sos"), rng.standard_normal(n))
    return x / (np.sqrt(np.mean(x**2)) + 1e-12)


def _band(x: np.ndarray, low: float, high: float, order: int = 2) -> np.ndarray:
    return signal.sosfilt(signal.butter(order, (low, high), "bandpass", fs=RATE, output="sos"), x)


def _modes(t, base, ratios, decays, amps, strength, tilt, rng) -> np.ndarray:
    """Sum of decaying partials; a softer strike excites the higher ones less (tilt)."""
    out = np.zeros_like(t)
    for ratio, decay, amp in zip(ratios, decays, amps, strict=True):
        f = base * ratio
        if f < 0.45 * RATE:
            a = amp * strength ** (tilt * np.log2(max(ratio / ratios[0], 1.0)))
            out += a * np.exp(-t / decay) * np.sin(2 * np.pi * f * t + rng.uniform(-0.3, 0.3) + np.pi / 2)
    return out


def _noise_hit(t, decay, low, high, rng) -> np.ndarray:
    x = _band(rng.standard_normal(t.shape[0]), low, min(high, 20000))
    x *= np.exp(-t / decay)
    return x / (np.max(np.abs(x)) + 1e-9)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / (np.max(np.abs(x)) + 1e-9)


def _impacts(scene: Scene, n: int, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros(n)
    make = _HITS[scene.label]
    pitch = 2 ** ((float(scene.params["pitch"]) - 0.5) * 0.7) * 2 ** (
        (0.5 - float(scene.params["size"])) * 0.5
    )
    length = {"bell": 1.6, "firework": 1.0, "glass": 0.9, "anvil": 0.8}.get(scene.label, 0.5)
    t = np.arange(int(length * RATE)) / RATE
    attack = np.minimum(1.0, t / 0.0008)
    fade = np.minimum(1.0, (t[-1] - t) / 0.05)
    for event in scene.events:
        hit = _unit(make(t, pitch * rng.uniform(0.985, 1.015), event.strength, rng)) * attack * fade
        at = round(event.onset_s * RATE)
        m = min(len(hit), n - at)
        if m > 0:
            out[at : at + m] += hit[:m] * event.strength**1.15
    return out


def _drum(t, p, s, rng):
    r = (1.0, 1.59, 2.14, 2.3, 2.65, 2.92, 3.5)
    glide = p * 105 * (1 + 0.25 * s * np.exp(-t / 0.03))
    low = np.exp(-t / 0.16) * np.sin(2 * np.pi * np.cumsum(glide) / RATE + 0.8)
    rest = _modes(
        t, 105 * p, r[1:], (0.14, 0.1, 0.09, 0.07, 0.06, 0.05), (0.5, 0.35, 0.3, 0.25, 0.2, 0.15), s, 0.8, rng
    )
    return low + rest + (0.15 + 0.45 * s) * _noise_hit(t, 0.02, 300, 1200 + 4000 * s, rng)


def _hammer_wood(t, p, s, rng):
    r = (1.0, 1.72, 2.35, 3.4, 4.6)
    x = _modes(t, 420 * p, r, (0.06, 0.045, 0.035, 0.025, 0.018), (1, 0.8, 0.6, 0.45, 0.35), s, 0.9, rng)
    return x + (0.2 + 0.5 * s) * _noise_hit(t, 0.006, 500, 1500 + 5000 * s, rng)


def _anvil(t, p, s, rng):
    r = (1.0, 1.37, 1.93, 2.51, 3.17, 4.09)
    x = _modes(t, 1900 * p, r, (0.3, 0.24, 0.2, 0.15, 0.1, 0.07), (1, 0.8, 0.7, 0.6, 0.5, 0.4), s, 0.8, rng)
    return x + (0.2 + 0.5 * s) * _noise_hit(t, 0.006, 1500, 5000 + 9000 * s, rng)


def _ball(t, p, s, rng):
    sweep = p * 170 * (1 + 0.5 * np.exp(-t / 0.015))
    x = np.exp(-t / 0.05) * np.sin(2 * np.pi * np.cumsum(sweep) / RATE + 0.8)
    x += 0.4 * s**0.8 * np.exp(-t / 0.03) * np.sin(2 * np.pi * 560 * p * t)
    return x + (0.1 + 0.3 * s) * _noise_hit(t, 0.008, 200, 900 + 1800 * s, rng)


def _clap(t, p, s, rng):
    x = np.zeros_like(t)
    for delay, a in ((0.0, 1.0), (0.004, 0.5), (0.009, 0.35)):
        k = int((delay * rng.uniform(0.6, 1.4)) * RATE)
        hit = _noise_hit(t, 0.014, 700 * p, (1500 + 3000 * s) * p, rng)
        x[k:] += a * hit[: len(x) - k]
    return x


def _water(t, p, s, rng):
    f = p * rng.uniform(700, 1000) * (1.35 - 0.45 * s)
    sweep = f * (1 + 9.0 * np.minimum(t, 0.12))
    plop = np.exp(-t / (0.03 + 0.04 * s)) * np.sin(2 * np.pi * np.cumsum(sweep) / RATE + 0.8)
    return plop + (0.08 + 0.3 * s) * _noise_hit(t, 0.01, 1500, 4000 + 5000 * s, rng)


def _glass(t, p, s, rng):
    r = np.sort(rng.uniform(1.0, 3.6, 9))
    x = _modes(t, 2500 * p, r, rng.uniform(0.04, 0.16, 9), rng.uniform(0.4, 1, 9), s, 0.5, rng)
    x = _unit(x) + (0.4 + 0.6 * s) * _noise_hit(t, 0.03, 2500, 7000 + 9000 * s, rng)
    for _ in range(int(4 + 10 * s)):
        k = int(rng.uniform(0.03, 0.45) * RATE)
        tt = t[: len(t) - k]
        x[k:] += (
            rng.uniform(0.02, 0.1)
            * np.exp(-tt / rng.uniform(0.01, 0.05))
            * np.sin(2 * np.pi * p * rng.uniform(3500, 9000) * tt)
        )
    return x


def _bell(t, p, s, rng):
    r = (0.5, 1.0, 1.2, 1.5, 2.0, 2.67, 3.0, 4.0)
    d = (0.5, 0.45, 0.4, 0.32, 0.28, 0.2, 0.15, 0.1)
    x = _modes(t, 640 * p, r, d, (0.5, 1, 0.7, 0.4, 0.8, 0.5, 0.4, 0.3), s, 0.5, rng)
    return x + (0.3 + 0.4 * s) * _noise_hit(t, 0.008, 1200, 3000 + 6000 * s, rng)


def _firework(t, p, s, rng):
    x = _noise_hit(t, 0.16, 45 * p, (250 + 500 * s) * p, rng) + (0.3 + 0.4 * s) * _noise_hit(
        t, 0.02, 400, 5000, rng
    )
    crackle = rng.standard_normal(len(t)) * (rng.uniform(0, 1, len(t)) < 0.0025 * (0.3 + s))
    crackle = _band(crackle, 2000, 9000) * np.minimum(t / 0.12, 1) * np.exp(-t / 0.3)
    return x + 0.2 * s * crackle / (np.max(np.abs(crackle)) + 1e-9)


_HITS = {
    "drum": _drum,
    "hammer_wood": _hammer_wood,
    "anvil": _anvil,
    "bouncing_ball": _ball,
    "clap": _clap,
    "water_drip": _water,
    "glass": _glass,
    "bell": _bell,
    "firework": _firework,
}


def _curves(scene: Scene, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    t = np.arange(n) / RATE
    return curve_at(scene, "level", t), curve_at(scene, "speed", t), curve_at(scene, "phase", t)


def engine_pitch(speed: np.ndarray | float) -> np.ndarray | float:
    """Firing rate of the engine in Hz at a wheel speed in turns per second."""
    return 18.0 + 42.0 * np.asarray(speed)


def _engine(scene: Scene, n: int, rng: np.random.Generator) -> np.ndarray:
    level, speed, _ = _curves(scene, n)
    cycle = 2 * np.pi * np.cumsum(engine_pitch(speed)) / RATE
    x = np.zeros(n)
    for k in range(1, 16):
        bright = (0.25 + 0.75 * level) ** (0.35 * k)
        x += bright * np.sin(k * cycle + rng.uniform(0, 6.28)) * rng.uniform(0.5, 1.0) / k**0.6
    pulse = (0.5 + 0.5 * np.cos(cycle)) ** 4
    x = x / 4 + 0.9 * pulse * _band(rng.standard_normal(n), 120, 1500)
    return 0.42 * x * np.clip(level / 0.15, 0, 1) * (0.35 + 0.65 * level)


def _saw(scene: Scene, n: int, rng: np.random.Generator) -> np.ndarray:
    _, speed, phase = _curves(scene, n)
    velocity = np.cos(2 * np.pi * phase)
    push = np.where(velocity > 0, 1.0, 0.7)
    drive = np.abs(velocity) ** 1.2 * push * np.clip(speed / 1.9, 0, 1) ** 0.7
    teeth = 0.6 + 0.4 * np.sin(2 * np.pi * np.cumsum(140 + 500 * np.abs(velocity) * speed / 1.9) / RATE)
    base = rng.standard_normal(n)
    centre = 1500 * 2 ** (float(scene.params["pitch"]) - 0.5)
    x = _band(base, centre * 0.6, centre * 1.6) * 1.2 + 0.4 * _band(base, centre * 2, centre * 4.2)
    return 1.0 * x * teeth * drive


def _rain(scene: Scene, n: int, rng: np.random.Generator) -> np.ndarray:
    level, _, _ = _curves(scene, n)
    base = rng.standard_normal(n)
    hiss = _band(base, 1500, 12000, 1)
    low = _band(base, 200, 1500, 1)
    drops = rng.standard_normal(n) * (rng.uniform(0, 1, n) < 0.0012 * level)
    drops = np.tanh(_band(drops, 1800, 6000) * 3)
    return 0.3 * level**1.2 * (hiss + 0.9 * level * low) + 0.3 * level**0.5 * drops


def swell(scene: Scene, times: np.ndarray) -> np.ndarray:
    """Height of the breaking wave in [0, 1] at `times`, which drives both foam and noise."""
    phase = curve_at(scene, "phase", times)
    return (0.5 - 0.5 * np.cos(2 * np.pi * phase)) ** 2


def _waves(scene: Scene, n: int, rng: np.random.Generator) -> np.ndarray:
    level, _, _ = _curves(scene, n)
    up = swell(scene, np.arange(n) / RATE)
    base = rng.standard_normal(n)
    low, high = _band(base, 60, 500, 1), _band(base, 400, 3500, 1)
    return 0.5 * level * ((0.2 + 0.8 * up) * low * 1.3 + (0.05 + 0.95 * up**1.5) * high)


def _fan(scene: Scene, n: int, rng: np.random.Generator) -> np.ndarray:
    level, speed, phase = _curves(scene, n)
    on = np.clip(level / 0.15, 0, 1)
    hum = np.zeros(n)
    cycle = 2 * np.pi * np.cumsum(90 + 75 * speed) / RATE
    for k, a in enumerate((1.0, 0.5, 0.3, 0.12), 1):
        hum += a * np.sin(k * cycle + k)
    blade = 0.65 + 0.35 * np.cos(2 * np.pi * 3 * phase)
    base = rng.standard_normal(n)
    air = _band(base, 250, 1400, 1) * blade + 0.6 * level * _band(base, 1400, 5000, 1)
    return on * (0.16 * hum * (0.4 + 0.6 * level) + 0.42 * level * air)


_CONTINUOUS = {"engine": _engine, "saw": _saw, "rain": _rain, "waves": _waves, "fan": _fan}
