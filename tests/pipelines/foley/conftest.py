"""A small library of sounds for Foley scenes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from pipelines.foley.recordings import Library, gather

RATE = 44_100


def blow(pitch: float, length_s: float = 0.3, rate: int = RATE) -> np.ndarray:
    """A decaying tone, float32 in [-1, 1]."""
    t = np.arange(round(length_s * rate)) / rate
    return (0.8 * np.exp(-t / 0.05) * np.sin(2 * np.pi * pitch * t)).astype(np.float32)


def write_folder(folder: Path) -> Path:
    """Folder of recordings: four dogs of three sessions, steps, a continuous stream, and what cannot be used."""
    rng = np.random.default_rng(0)
    silence = np.zeros(RATE // 10, np.float32)
    noise = (0.2 * rng.standard_normal(5 * RATE)).astype(np.float32)
    sounds = {
        "dog/near_01.wav": (blow(400), RATE),
        "dog/near_02.wav": (np.concatenate([blow(420), silence, blow(410)]), RATE),
        "dog/far_01.wav": (blow(300), RATE),
        "dog/yard_01.wav": (blow(350), RATE),
        "footsteps_hard/step_1.wav": (blow(90), 22_050),
        "footsteps_soft/step_2.wav": (blow(80), RATE),
        "stream_river/brook.wav": (noise, RATE),
        "ambience_room/room.wav": (0.02 * noise, RATE),
        "dog/silent.wav": (silence, RATE),
        "dog/weak_9.wav": (blow(500), RATE),
        "unicorn/neigh.wav": (blow(700), RATE),
    }
    for name, (wave, rate) in sounds.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(folder / name, rate, wave)
    (folder / "dog/broken.wav").write_bytes(b"RIFF and no more")
    with (folder / "manifest.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, ["file", "class", "licence", "credit", "source"])
        table.writeheader()
        for name in [*sounds, "dog/broken.wav", "dog/missing.wav"]:
            table.writerow(dict(file=name, **{"class": name.split("/")[0]}, licence="CC0-1.0", credit="A. Nyone",
                                source="field: " + name))  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def recordings_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="session")
def library(recordings_folder: Path) -> Library:
    """Library of that folder, and one or two synthesised takes of each other class that has any."""
    return gather(str(recordings_folder), exclude=["weak_*"], fewest=1, log=lambda text: None)
