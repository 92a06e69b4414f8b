"""Sound of a Foley scene: recordings at their times, in a room, at a sensible level."""

from __future__ import annotations

import numpy as np
from scipy import signal

from pipelines.foley.recordings import Library
from pipelines.foley.scene import CURVE_RATE, FoleyScene, Placed
from v2a_models import grid

EVENT_PEAK_DB = (-9.0, -1.0)
"""Peaks of the loudest event of a scene, dBFS."""
STEADY_RMS_DB = (-25.0, -14.0)
"""Level of a sound that goes on, where its motion is at its fullest, dBFS."""


def render_sound(library: Library, scene: FoleyScene) -> np.ndarray:
    """Mono sound of the scene, float32 [round(duration_s * 44100)], peak at most 0.95."""
    n, rng = round(scene.duration_s * grid.SAMPLE_RATE), scene.rng(1)
    dry = np.zeros(n)
    for item in scene.placed:
        if scene.goes_on:
            dry += _looped(library, item, n)
        else:
            _lay(dry, _played(library, item), item.at_s)
    if scene.goes_on:
        level = np.interp(
            np.arange(n) / grid.SAMPLE_RATE * CURVE_RATE, np.arange(len(scene.curve)), scene.curve
        )
        dry *= level**1.2
    sound = _in_a_room(dry, rng)
    if scene.goes_on:
        loudest = np.sort(np.abs(sound))[-n // 4 :]
        sound *= 10 ** (rng.uniform(*STEADY_RMS_DB) / 20) / max(float(np.sqrt(np.mean(loudest**2))), 1e-6)
    elif scene.placed:
        sound *= 10 ** (rng.uniform(*EVENT_PEAK_DB) / 20) / max(float(np.abs(sound).max()), 1e-6)
    for item in scene.bed:
        beside = np.zeros(n)
        if item.recording.length > 3 * grid.SAMPLE_RATE:
            beside += _looped(library, item, n) * item.gain
        else:
            _lay(beside, _played(library, item), item.at_s)
        sound += beside
    hiss = rng.standard_normal(n) * 10 ** (rng.uniform(-80, -66) / 20)
    sound = sound + hiss
    peak = float(np.abs(sound).max())
    return (sound * min(1.0, 0.95 / max(peak, 1e-6))).astype(np.float32)


def _lay(target: np.ndarray, wave: np.ndarray, at_s: float) -> None:
    """Add a wave to the target at a time, cut at both ends."""
    at = round(at_s * grid.SAMPLE_RATE)
    wave, at = wave[max(0, -at) :], max(0, at)
    m = min(len(wave), len(target) - at)
    if m > 0:
        target[at : at + m] += wave[:m]


def _played(library: Library, item: Placed) -> np.ndarray:
    """Samples of a recording at its speed and gain. A softer stroke is duller."""
    wave = library.sound(item.recording)
    places = np.arange(0, len(wave) - 1, item.speed)
    played = np.interp(places, np.arange(len(wave)), wave)
    if item.gain < 0.6:
        corner = 3000 + 16000 * item.gain
        played = signal.sosfilt(
            signal.butter(1, min(corner, 20000), fs=grid.SAMPLE_RATE, output="sos"), played
        )
    if fade := min(round(item.fade_s * grid.SAMPLE_RATE), len(played)):
        played[-fade:] *= np.linspace(1, 0, fade)
    return played * item.gain


def _looped(library: Library, item: Placed, n: int) -> np.ndarray:
    """Samples of a recording that goes on for n samples, of about unit level; its ends are joined by a crossfade."""
    wave = library.sound(item.recording)
    played = np.interp(np.arange(0, len(wave) - 1, item.speed), np.arange(len(wave)), wave)
    played = played / max(float(np.sqrt(np.mean(played**2))), 1e-4)
    fade = min(grid.SAMPLE_RATE // 4, len(played) // 4)
    ramp = np.sqrt(np.linspace(0, 1, fade))
    piece = played[: len(played) - fade].copy()
    piece[:fade] = piece[:fade] * ramp + played[len(played) - fade :] * ramp[::-1]
    begin = round(-item.at_s * grid.SAMPLE_RATE) % len(piece)
    return np.tile(piece, 2 + n // len(piece))[begin : begin + n]


def _in_a_room(dry: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With the decaying echo of a room, from none to a hall, and the treble that distance takes."""
    if rng.uniform() < 0.35:
        return dry
    tail = int(rng.uniform(0.08, 0.9) * grid.SAMPLE_RATE)
    echo = rng.standard_normal(tail) * np.exp(-6.0 * np.arange(tail) / tail)
    echo = signal.sosfilt(signal.butter(1, rng.uniform(2000, 9000), fs=grid.SAMPLE_RATE, output="sos"), echo)
    echo[: int(rng.uniform(0.001, 0.012) * grid.SAMPLE_RATE)] = 0
    echo /= np.sqrt(np.sum(echo**2))
    return dry + rng.uniform(0.03, 0.3) * signal.oaconvolve(dry, echo)[: len(dry)]
