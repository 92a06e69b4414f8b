"""Footage for the experiments with raw-waveform systems: scenes of one material, with its sound at a low rate, stereo.

load(material)        pictures and sound of one video, rendered or recorded
clips(labels, ...)    many short rendered windows
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from pipelines import synthfoley
from pipelines.synthfoley import corpus
from v2a_models.metrics.waveform import multi_resolution_stft
from v2a_models.recipe import Recipe, View

RATE = 4000
"""Samples per second: what two cores can learn and sample in minutes. The paper reduced its sound too."""
FPS, SIZE = 25, 32
PEAK = 0.7
SECONDS = 60.0
SEED = 10
"""Seed of a scene in which the hands clap often enough."""

RENDERED = {"engine": "engine", "clapping": "clap", "water": "waves"}
"""Material as in the paper's Table I (car chase, clapping, nature) and the class that is rendered for it."""
RECORDED = {"car": "car.mp4", "drum": "drum.mp4", "fireworks": "video_02997.mp4"}
"""Real clips of ten seconds in $V2A_FOOTAGE, if there is such a folder."""


@dataclass
class Footage:
    """One video."""

    name: str
    frames: np.ndarray
    """uint8 [T, SIZE, SIZE, 3] at FPS."""
    sound: np.ndarray
    """int16 [2, T * RATE / FPS]."""
    events: list[float]
    """Seconds at which something is struck; empty where nothing is known."""


def recipe(window_s: float) -> Recipe:
    """Inputs of the models in the experiments."""
    return Recipe(
        "experiment", window_s=window_s, overlap_s=0.0, semantic=None, sync=None,
        frames=View(FPS, SIZE, SIZE), sample_rate=RATE, channels=2, waveform=True,
    )  # fmt: skip


def load(material: str) -> Footage:
    """A rendered or recorded video by the name of its material. Raises KeyError for an unknown name."""
    if material in RENDERED:
        return _rendered(material, RENDERED[material])
    return _recorded(material, folder() / RECORDED[material])


def folder() -> Path:
    """Folder of the recorded clips."""
    return Path(os.environ.get("V2A_FOOTAGE", ""))


def recorded() -> list[str]:
    """Names of the recorded materials that are there."""
    there = "V2A_FOOTAGE" in os.environ
    return [name for name, file in RECORDED.items() if there and (folder() / file).is_file()]


def clips(labels: list[str], each: int, window_s: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of rendered scenes: frames uint8 [N, T, SIZE, SIZE, 3] and sound int16 [N, 2, S]; each scene once."""
    pictures, sounds = [], []
    for number, label in enumerate(labels):
        for k in range(each):
            scene = synthfoley.make_scene(seed, 1000 * number + k, window_s, label=label)
            pictures.append(_picture(scene))
            sounds.append(_stereo(synthfoley.render_sound(scene), pictures[-1].shape[0]))
    return np.stack(pictures), np.stack(sounds)


def stft_distance(generated: np.ndarray, true: np.ndarray) -> float:
    """Multi-resolution STFT distance of two mono sounds [n], with windows of 16, 32 and 64 ms."""
    return multi_resolution_stft(
        generated.astype(np.float32), true.astype(np.float32), [(64, 16, 64), (128, 32, 128), (256, 64, 256)]
    ).total


def _rendered(name: str, label: str) -> Footage:
    scene = synthfoley.make_scene(SEED, 0, SECONDS, label=label)
    frames = _picture(scene)
    events = [event.onset_s for event in scene.events] if label not in synthfoley.CONTINUOUS else []
    return Footage(name, frames, _stereo(synthfoley.render_sound(scene), len(frames)), events)


def _picture(scene: synthfoley.Scene) -> np.ndarray:
    times = corpus.picked_times(scene, FPS)
    return corpus.halve(synthfoley.render_frames(scene, times, 2 * SIZE, 2 * SIZE))


def _stereo(mono: np.ndarray, n_frames: int) -> np.ndarray:
    """The published loss compares channels, so a rendered sound is put a little to the left: the right channel is
    3 dB softer and a millisecond later."""
    low = resample_poly(mono, RATE, synthfoley.SAMPLE_RATE)
    right = 0.7 * np.concatenate([np.zeros(RATE // 1000), low[: -RATE // 1000]])
    return _normalised(np.stack([low, right]), n_frames)


def _normalised(sound: np.ndarray, n_frames: int) -> np.ndarray:
    """int16 of so many frames, its peak at PEAK: 256 levels, and a squared error, see little of a soft sound."""
    n = n_frames * RATE // FPS
    sound = np.pad(sound, ((0, 0), (0, max(0, n - sound.shape[1]))))[:, :n]
    sound = sound * (PEAK / max(1e-6, float(np.abs(sound).max())))
    return np.rint(sound * 32767).astype(np.int16)


def _recorded(name: str, path: Path) -> Footage:
    """A trusted clip of one's own, read in this process."""
    import av  # rendered footage needs no decoder

    with av.open(str(path)) as file:
        timed_frames = [
            (
                float(frame.pts * Fraction(frame.time_base or 1)),
                frame.reformat(SIZE, SIZE, "rgb24").to_ndarray(),
            )
            for frame in file.decode(video=0)
            if frame.pts is not None
        ]
    with av.open(str(path)) as file:
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=RATE)
        blocks = [part.to_ndarray() for frame in file.decode(audio=0) for part in resampler.resample(frame)]
        blocks += [part.to_ndarray() for part in resampler.resample(None)]
    times = np.array([time_s for time_s, _ in timed_frames])
    n = int((times[-1] - times[0]) * FPS)
    picks = np.searchsorted(times, times[0] + np.arange(n) / FPS + 1e-6) - 1
    frames = np.stack([timed_frames[max(0, k)][1] for k in picks])
    return Footage(name, frames, _normalised(np.concatenate(blocks, 1), n), [])
