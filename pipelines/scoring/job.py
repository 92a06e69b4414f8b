"""Clips to score, settings of the workers, and scored sounds.

Nothing here imports torch, since the process that only collects scores does not need it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from v2a_models.metrics.networks.sources import NETWORKS


@dataclass(frozen=True)
class ClipJob:
    """Settings of the workers, in plain values."""

    store: str
    place: str
    """Address of the folder that has a folder per system."""
    window: int
    """Samples of a clip at 44.1 kHz."""
    seed: int
    archive: str = ""
    stored_rate: int = 0
    """Samples per second of the true sounds in the store; 0 if it has none."""
    precision: str = "float32"
    device: str = "cpu"
    batch_size: int = 1
    """Exact size of every batch: the last one is padded with repeats."""


REFERENCE = "reference"
BASELINES = {
    REFERENCE: "the true sound",
    "codec": "the true sound through the codec (DAC-GT)",
    "shuffled": "the true sound of another clip",
    "noise": "noise with the spectrum of the true sound",
    "silence": "nothing",
}
"""Baselines in the order in which a fit metric ranks them, best first."""


@dataclass(frozen=True)
class Clip:
    """One clip to score, with its reference, sounds and annotations."""

    name: str
    reference: str
    """Address of the true sound."""
    systems: dict[str, str]
    """Addresses of the sounds of each system."""
    other: str = ""
    """Reference of another clip, for the shuffled baseline."""
    label: str = ""
    text: str = ""
    events: tuple[float, ...] | None = None
    """Onsets in seconds; None if unknown."""
    strengths: tuple[float, ...] = ()
    fps: float = 0.0
    """Pictures per second; 0 if unknown."""
    film: str = ""
    """Address of the pictures; empty if there are none."""
    start_s: float = 0.0
    """Start of the clip in its film, in seconds."""


@dataclass(frozen=True)
class ScoringJob:
    """Settings of the workers, in plain values."""

    codec: str = "mini"
    """Checkpoint whose codec is the DAC-GT row, and gives the latents of FDD; empty for neither."""
    networks: tuple[str, ...] = ("foley",)
    files: dict[str, str] = field(default_factory=dict)
    """Weights files of the networks."""
    baselines: bool = True
    keep: str = ""
    """Folder for the sounds of the baselines, to listen to; empty keeps none."""
    download: bool = False
    """True to fetch weights that are missing on a machine."""


@dataclass
class Scored:
    """One sound, scored."""

    system: str
    clip: str
    problem: str = ""
    """Reason why the sound could not be scored; empty if it was."""
    aligned: str = ""
    """Changes that brought the sound to the reference's form."""
    metrics: dict[str, float] = field(default_factory=dict)
    onsets: dict[str, Any] = field(default_factory=dict)
    """Counts by tolerance, and errors in seconds (`synchrony.ClipOnsets`)."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """Features for the figures that need many clips."""


def kinds(job: ScoringJob) -> dict[str, Any]:
    """Arrays of a scored sound: frames of MFCC and of codec latents, and per network an embedding and
    probabilities."""
    dtypes: dict[str, Any] = {"fdm": np.float32, "fdd": np.float32}
    for name in audio_networks(job):
        dtypes |= {f"{name}.embedding": np.float32, f"{name}.probabilities": np.float32}
    return dtypes


def audio_networks(job: ScoringJob) -> list[str]:
    """Networks of a job that take sounds."""
    return [name for name in job.networks if NETWORKS[name].takes_audio]


def clip_text(clip: Clip) -> str:
    """JSON of a clip, for a worker."""
    return json.dumps(asdict(clip))


def clip_from(text: str) -> Clip:
    """Inverse of `clip_text`."""
    values = json.loads(text)
    events = values.pop("events")
    return Clip(
        **{**values, "strengths": tuple(values["strengths"])},
        events=None if events is None else tuple(events),
    )
