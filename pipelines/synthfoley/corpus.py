"""SynthFoley as arrays on disk, the training data of the `mini` models. Needs neither Ray nor PyAV.

A pool of processes renders scenes at the models' input size to `.npy` files, which training maps into memory. Files are
written under a temporary name and then renamed, so an existing file is complete and rendering can resume.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import synthfoley
from v2a_models import grid, pcm
from v2a_models.recipe import View

SHARD = 50
"""Scenes per file."""


@dataclass(frozen=True)
class CorpusConfig:
    """Selection and rendering of the scenes."""

    scenes: int = 1200
    seed: int = 1
    seconds: float = 8.0
    fps: float = 25.0
    size: int = 64


@dataclass
class Corpus:
    """Memory-mapped arrays of one split. N scenes, T frames, S samples."""

    sounds: list[np.ndarray]
    """Each int16 [S]."""
    frames: list[np.ndarray]
    """Each uint8 [T, size, size, 3]; empty if only sounds were loaded."""
    labels: np.ndarray
    """int64 [N], index into synthfoley.CLASSES."""
    captions: list[str]
    events: list[list[float]]
    """Onset times in seconds of each scene."""

    def __len__(self) -> int:
        return len(self.sounds)


def render(
    root: Path, config: CorpusConfig, kind: str, workers: int, log: Callable[[str], None] = print
) -> None:
    """Render the shards of `kind` ("sounds" or "frames") that are missing below `root`."""
    render_shards(
        root / kind, asdict(config), config.scenes, partial(_render_scene, config, kind), workers, log
    )


def render_shards(
    folder: Path,
    facts: Mapping[str, Any],
    scenes: int,
    render_scene: Callable[[int], np.ndarray],
    workers: int,
    log: Callable[[str], None],
) -> None:
    """Write the shards that are missing in a folder, by a pool of processes.

    facts: what the arrays follow from, kept beside them. Raises ValueError for a folder made from other facts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "config.json"
    expected = json.dumps(facts, sort_keys=True)
    if stamp.exists() and stamp.read_text() != expected:
        raise ValueError(
            f"{folder} holds another corpus: {stamp.read_text()}, not {expected}; remove it first"
        )
    stamp.write_text(expected)
    missing = [s for s in range(-(-scenes // SHARD)) if not (folder / f"{s:04d}.npy").exists()]
    if not missing:
        return
    log(f"corpus: rendering {len(missing)} shards of {folder.name} with {workers} processes")
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers) as pool:
        shard = partial(_render_shard, folder, scenes, render_scene)
        for done, _ in enumerate(pool.imap_unordered(shard, missing), 1):
            log(f"corpus: {folder.name} {done}/{len(missing)}")


def load(root: Path, config: CorpusConfig, split: str, *, with_frames: bool = True) -> Corpus:
    """Load the scenes of one split ("train", "val" or "test")."""
    corpus = Corpus([], [], np.zeros(0, np.int64), [], [])
    labels = []
    for shard in range(-(-config.scenes // SHARD)):
        sounds = np.load(root / "sounds" / f"{shard:04d}.npy", mmap_mode="r")
        frames = np.load(root / "frames" / f"{shard:04d}.npy", mmap_mode="r") if with_frames else None
        for row in range(len(sounds)):
            scene = synthfoley.make_scene(config.seed, shard * SHARD + row, config.seconds)
            if scene.split != split:
                continue
            corpus.sounds.append(sounds[row])
            if frames is not None:
                corpus.frames.append(frames[row])
            labels.append(synthfoley.CLASSES.index(scene.label))
            corpus.captions.append(scene.caption)
            corpus.events.append([event.onset_s for event in scene.events])
    corpus.labels = np.array(labels, np.int64)
    return corpus


def picked_times(scene: synthfoley.Scene, fps: float) -> np.ndarray:
    """Native frame times picked by sampling at `fps`: for each target time the latest frame at or before it.

    Models are thus trained on the same stale frames that they get from a 24 or 29.97 fps file.
    """
    targets = grid.frame_times(0.0, scene.duration_s, fps)
    return np.array([grid.frame_index(t, scene.fps) for t in targets]) / scene.fps


def _render_shard(folder: Path, scenes: int, render_scene: Callable[[int], np.ndarray], shard: int) -> None:
    rows = [render_scene(index) for index in range(shard * SHARD, min((shard + 1) * SHARD, scenes))]
    beside = folder / f"{shard:04d}.tmp.npy"
    np.save(beside, np.stack(rows))
    os.replace(beside, folder / f"{shard:04d}.npy")


def _render_scene(config: CorpusConfig, kind: str, index: int) -> np.ndarray:
    scene = synthfoley.make_scene(config.seed, index, config.seconds)
    if kind == "sounds":
        return pcm.quantise(synthfoley.render_sound(scene))
    return view_frames(scene, View(config.fps, config.size, config.size))


def view_frames(scene: synthfoley.Scene, view: View) -> np.ndarray:
    """Frames of a scene in a view, uint8 [T, H, W, 3], as a file of it would be decoded.

    Rendered at twice the size and averaged, which is closer to downscaling a decoded file.
    """
    width, height = view.width, view.height
    if view.fit == "crop":
        scale = max(view.width / scene.width, view.height / scene.height)
        width, height = round(scene.width * scale), round(scene.height * scale)
    frames = halve(synthfoley.render_frames(scene, picked_times(scene, view.fps), 2 * width, 2 * height))
    left, top = (width - view.width) // 2, (height - view.height) // 2
    return frames[:, top : top + view.height, left : left + view.width]


def halve(frames: np.ndarray) -> np.ndarray:
    """Mean of 2 x 2 pixels: uint8 [T, 2h, 2w, 3] -> uint8 [T, h, w, 3]."""
    t, h, w, c = frames.shape
    return frames.reshape(t, h // 2, 2, w // 2, 2, c).mean((2, 4)).round().astype(np.uint8)
