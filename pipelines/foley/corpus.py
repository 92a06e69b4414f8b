"""Foley scenes as arrays on disk, the training data of the bundled models for real footage. Needs neither Ray nor PyAV.

The library of recordings (`gather`) lies beside them, since every scene follows from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from pipelines.foley.film import render_frames
from pipelines.foley.mix import render_sound
from pipelines.foley.recordings import Library, gather
from pipelines.foley.scene import QUIET, FoleyScene, make_scene
from pipelines.synthfoley import DRAWN as DRAWN
from pipelines.synthfoley.corpus import SHARD, Corpus, render_shards
from v2a_models import grid, pcm
from v2a_models.encoders.sound_classes import SOUND_CLASSES

LABELS: tuple[str, ...] = (QUIET, *SOUND_CLASSES)
"""Labels by index; 0 is a scene in which nothing sounds, as in `imagenet_sounds`."""


@dataclass(frozen=True)
class FoleyConfig:
    """Selection and rendering of the scenes."""

    scenes: int = 2400
    seed: int = 1
    seconds: float = 8.0
    fps: float = 25.0
    size: int = 64


def write_library(
    root: Path, sounds: str, exclude: Sequence[str], log: Callable[[str], None] = print
) -> Library:
    """Library of a folder of recordings below `root`; made once. Raises what `gather` raises."""
    if not (root / "recordings.json").exists():
        gather(sounds, exclude=exclude, log=log).save(root)
    return Library.load(root)


def render(
    root: Path, config: FoleyConfig, kind: str, workers: int, log: Callable[[str], None] = print
) -> None:
    """Render the shards of `kind` ("sounds" or "frames") that are missing below `root`, which holds the library."""
    table = hashlib.sha256((root / "recordings.json").read_bytes()).hexdigest()[:16]
    facts = asdict(config) | dict(recordings=table)
    render_shards(root / kind, facts, config.scenes, partial(_render_scene, root, config, kind), workers, log)


def scenes_of(root: Path, config: FoleyConfig, split: str) -> list[FoleyScene]:
    """Scenes of one split, in the order of `load`."""
    library = library_of(root)
    every = (make_scene(library, config.seed, k, config.seconds) for k in range(config.scenes))
    return [scene for scene in every if scene.split == split]


def load(root: Path, config: FoleyConfig, split: str, *, with_frames: bool = True) -> Corpus:
    """Load the scenes of one split ("train", "val" or "test"); labels are indices into `LABELS`."""
    scenes = scenes_of(root, config, split)
    sounds, frames = _rows(root / "sounds", scenes), _rows(root / "frames", scenes) if with_frames else []
    labels = np.array([LABELS.index(scene.label) for scene in scenes], np.int64)
    events = [[event.onset_s for event in scene.events] for scene in scenes]
    return Corpus(sounds, frames, labels, [scene.label for scene in scenes], events)


def _rows(folder: Path, scenes: Sequence[FoleyScene]) -> list[np.ndarray]:
    shards: dict[int, np.ndarray] = {}
    rows = []
    for scene in scenes:
        shard, place = divmod(scene.index, SHARD)
        if shard not in shards:
            shards[shard] = np.load(folder / f"{shard:04d}.npy", mmap_mode="r")
        rows.append(shards[shard][place])
    return rows


@cache
def library_of(root: Path) -> Library:
    """Recordings that the scenes below a folder take their sounds from."""
    return Library.load(root)


def _render_scene(root: Path, config: FoleyConfig, kind: str, index: int) -> np.ndarray:
    scene = make_scene(library_of(root), config.seed, index, config.seconds)
    if kind == "sounds":
        return pcm.quantise(render_sound(library_of(root), scene))
    return render_frames(scene, grid.frame_times(0.0, config.seconds, config.fps), config.size)
