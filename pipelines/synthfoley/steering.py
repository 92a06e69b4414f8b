"""SynthFoley for models that follow text: each picture with several sounds, and captions that name the sound.

If the caption always named the visible class, a model could ignore it. Here the same motion also gets the sound of
other classes, with the same times and strengths, so timing can only be learned from the picture and material only from
the text.

    scene = make_scene(seed, index)
    other = resounded(scene, "anvil")        # a drum that sounds like an anvil

Features and tokens of the bundled `mini` encoders are stored as one .npz per block of scenes. Needs neither Ray nor
PyAV.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines import synthfoley
from pipelines.synthfoley import corpus
from pipelines.synthfoley.captions import caption
from pipelines.synthfoley.physics import Event, Scene, generator, moving
from v2a_models import grid
from v2a_models.checkpoint import load_generator

BLOCK = len(synthfoley.CLASSES)
"""Scenes per file: one of each class."""


@dataclass(frozen=True)
class SteerConfig:
    """Selection of the scenes, and number of sounds per scene."""

    blocks: int = 24
    """Number of files, each with one scene per class."""
    seed: int = 5
    """Seed of the scenes; differs from those of `mini` (1) and of the held-out scenes (2026)."""
    seconds: float = 8.0
    others: int = 4
    """Number of sounds of other classes, besides its own."""
    size: int = 64


def resounded(scene: Scene, label: str) -> Scene:
    """Scene with the sound and caption of another class and the same events. Render its picture from `scene`: that of
    the result would not match.

    Raises ValueError for an unknown class, or one of the other kind: impacts have instantaneous events, continuous
    sounds changes of level.
    """
    if label not in synthfoley.CLASSES:
        raise ValueError(f"unknown class {label!r}; choose one of {', '.join(synthfoley.CLASSES)}")
    if (label in synthfoley.IMPACTS) != (scene.label in synthfoley.IMPACTS):
        raise ValueError(f"{scene.label} cannot sound like {label}: one is an impact, the other continuous")
    params = dict(scene.params)
    if label in synthfoley.CONTINUOUS:
        speed, phase = moving(label, np.asarray(params["level"], np.float64), params)
        params |= {"speed": speed, "phase": phase}
    events = tuple(Event(e.onset_s, e.strength, label) for e in scene.events)
    rng = generator(scene.seed, scene.index, 3, synthfoley.CLASSES.index(label))
    text = caption(label, events, params, rng, scene.duration_s)
    return dataclasses.replace(scene, label=label, events=events, params=params, caption=text)


def others_of(scene: Scene, n: int) -> list[str]:
    """Random selection of `n` other classes of the same kind, seeded by the scene; all of them if there are fewer."""
    kind = synthfoley.IMPACTS if scene.label in synthfoley.IMPACTS else synthfoley.CONTINUOUS
    choices = [label for label in kind if label != scene.label]
    return [str(label) for label in generator(scene.seed, scene.index, 4).permutation(choices)[:n]]


def caption_of(scene: Scene, rng: np.random.Generator, start_s: float = 0.0, length_s: float = 0.0) -> str:
    """Caption with random wording for `length_s` seconds of a scene from `start_s` on; a length of 0 for all of it."""
    if not length_s:
        return caption(scene.label, scene.events, scene.params, rng, scene.duration_s)
    inside = [e for e in scene.events if start_s <= e.onset_s < start_s + length_s]
    # A continuous sound without a change in the stretch keeps its last level.
    before = [e for e in scene.events if e.onset_s < start_s]
    if scene.label in synthfoley.CONTINUOUS and before:
        inside = [before[-1], *inside]
    return caption(scene.label, inside or scene.events, scene.params, rng, length_s)


@dataclass
class Block:
    """Features and tokens of some scenes. N scenes, S sounds each (the first its own)."""

    semantic: np.ndarray
    """float16 (N, T1, D)."""
    sync: np.ndarray
    """float16 (N, T2, D)."""
    codes: np.ndarray
    """int16 (N, S, K, L)."""
    scenes: list[list[Scene]]
    """Scenes of the sounds, by visible scene and by sound."""


def render_steering(
    root: Path, config: SteerConfig, encoders: str, log: Callable[[str], None] = print, processes: int = 0
) -> None:
    """Render the blocks that are missing below `root`, in `processes` single-threaded processes (0: one per core).

    encoders: name of a generator with `semantic`, `sync` and `codec`.
    """
    root.mkdir(parents=True, exist_ok=True)
    stamp, wanted = root / "config.json", repr(dataclasses.replace(config, blocks=0))
    if stamp.exists() and stamp.read_text() != wanted:
        raise ValueError(f"{root} holds another corpus: {stamp.read_text()}, not {wanted}; remove it first")
    stamp.write_text(wanted)
    missing = [number for number in range(config.blocks) if not (root / f"{number:04d}.npz").exists()]
    if not missing:
        return
    # Fresh processes: a forked copy of a process whose torch has started threads may hang.
    workers = min(processes or len(os.sched_getaffinity(0)), len(missing))
    with ProcessPoolExecutor(workers, get_context("spawn"), _open_encoders, (encoders,)) as pool:
        for done in as_completed([pool.submit(_render_block, root, number, config) for number in missing]):
            done.result()
            log(f"corpus: {len(list(root.glob('[0-9]*.npz')))}/{config.blocks} blocks")


def load_steering(root: Path, config: SteerConfig) -> list[Block]:
    """Load the existing blocks, in order."""
    blocks = []
    for file in sorted(root.glob("[0-9]*.npz"))[: config.blocks]:
        with np.load(file, allow_pickle=False) as arrays:
            first = int(file.stem) * BLOCK
            sounds = [_sounds(_scene(config, first + k), config) for k in range(BLOCK)]
            blocks.append(Block(arrays["semantic"], arrays["sync"], arrays["codes"], sounds))
    return blocks


@dataclass(frozen=True)
class Crop:
    """Stretch of a scene with the sound chosen for it."""

    scene: Scene
    own: bool
    """True if the sound is that of the picture."""
    start_s: float
    length_s: float


class SteeringCorpus:
    """Blocks concatenated on a device, so that a large batch takes only a few lookups."""

    def __init__(self, blocks: Sequence[Block], device: torch.device | str = "cpu") -> None:
        self.scenes = [sounds for block in blocks for sounds in block.scenes]
        self.semantic, self.sync, self.codes = (
            torch.from_numpy(np.concatenate([getattr(block, name) for block in blocks])).to(device)
            for name in ("semantic", "sync", "codes")
        )

    def crops(
        self, rng: np.random.Generator, rows: int, length: int, own: float
    ) -> tuple[dict[str, torch.Tensor], list[Crop]]:
        """Random crops of `length` codec frames, a fraction `own` of them with the scene's own sound. The crop with the
        most events out of three is used.

        Returns semantic float32 (B, T1, D), sync float32 (B, T2, D) and codes int64 (B, K, length), and the crops.
        """
        length_s = grid.seconds(length * grid.HOP)
        fast, slow = (grid.frame_count(length_s, fps) for fps in (25, 8))
        crops, picks = [], []
        for row in rng.integers(len(self.scenes), size=rows):
            heard = 0 if rng.random() < own else int(rng.integers(1, self.codes.shape[1]))
            scene = self.scenes[row][heard]
            onsets = np.array([event.onset_s for event in scene.events])
            starts = rng.integers(self.sync.shape[1] - fast + 1, size=3)
            inside = [((at / 25 <= onsets) & (onsets < at / 25 + length_s)).sum() for at in starts]
            best = int(starts[int(np.argmax(inside))])
            start_s = best / 25
            code = min(round(grid.samples(start_s) / grid.HOP), self.codes.shape[-1] - length)
            picks.append((int(row), heard, best, grid.frame_index(start_s, 8), code))
            crops.append(Crop(scene, heard == 0, start_s, length_s))
        device = self.codes.device
        of, sound, at, seen, first = (
            torch.tensor(column, device=device)[:, None] for column in zip(*picks, strict=True)
        )
        late = (seen + torch.arange(slow, device=device)).clamp_max(self.semantic.shape[1] - 1)
        batch = dict(
            semantic=self.semantic[of, late].float(),
            sync=self.sync[of, at + torch.arange(fast, device=device)].float(),
            codes=self.codes[of[:, 0], sound[:, 0]]
            .gather(
                2, (first + torch.arange(length, device=device))[:, None].expand(-1, self.codes.shape[2], -1)
            )
            .long(),
        )
        return batch, crops


_encoders: Any = None
"""Encoders of a rendering process, loaded once."""


def _open_encoders(name: str) -> None:
    global _encoders
    torch.set_num_threads(1)
    _encoders = load_generator(name)


def _render_block(root: Path, number: int, config: SteerConfig) -> None:
    rendered = _rendered([_scene(config, number * BLOCK + k) for k in range(BLOCK)], config, _encoders)
    beside = root / f".{number:04d}.tmp.npz"
    np.savez(beside, semantic=rendered.semantic, sync=rendered.sync, codes=rendered.codes)
    os.replace(beside, root / f"{number:04d}.npz")


def _scene(config: SteerConfig, index: int) -> Scene:
    return synthfoley.make_scene(config.seed, index, config.seconds)


def _sounds(scene: Scene, config: SteerConfig) -> list[Scene]:
    return [scene, *(resounded(scene, label) for label in others_of(scene, config.others))]


@torch.inference_mode()
def _rendered(scenes: Sequence[Scene], config: SteerConfig, encoders: Any) -> Block:
    semantic, sync, codes = [], [], []
    picks = [grid.frame_index(t, 25) for t in grid.frame_times(0, config.seconds, 8)]
    heard = [_sounds(scene, config) for scene in scenes]
    for scene, sounds in zip(scenes, heard, strict=True):
        times = corpus.picked_times(scene, 25)
        large = synthfoley.render_frames(scene, times, 2 * config.size, 2 * config.size)
        frames = torch.from_numpy(corpus.halve(large))[None]
        semantic.append(encoders.semantic(frames[:, picks])[0].numpy().astype(np.float16))
        sync.append(encoders.sync(frames)[0].numpy().astype(np.float16))
        waves = torch.from_numpy(np.stack([synthfoley.render_sound(sound) for sound in sounds]))[:, None]
        codes.append(torch.cat([encoders.codec.encode(wave) for wave in waves.split(1)]).numpy())
    return Block(np.stack(semantic), np.stack(sync), np.stack(codes).astype(np.int16), heard)
