"""Training data of `vatt-mini`: the scenes in the work folder of `make mini`, with sounds of other classes as well.

Pictures are not rendered again: features, and the tokens of a scene's own sound, are those of the stages `features` and
`tokens`. Only the other sounds are made here, and encoded by mini's codec.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jobs.mini.config import MiniConfig
from jobs.mini.parts import RECIPE, Log, load_part, windows_of
from pipelines import synthfoley
from pipelines.captions import instructions
from pipelines.foley import corpus as foley
from pipelines.foley.captions import caption
from pipelines.foley.corpus import FoleyConfig
from pipelines.foley.mix import render_sound
from pipelines.foley.recordings import Library
from pipelines.foley.scene import FoleyScene
from pipelines.foley.steering import of_drawing, others_of, sounding_like
from pipelines.synthfoley.corpus import CorpusConfig, render_shards
from v2a_models import grid
from v2a_models.codec.dac import Codec


@dataclass(frozen=True)
class SteeringConfig:
    """Other sounds of the scenes."""

    scenes: int = 1600
    """Maximum number of training scenes that get other sounds; all have their own."""
    others: int = 2
    """Number of sounds of other classes per scene."""


def mini_of(work: Path) -> MiniConfig:
    """Settings of the scenes in a work folder of `make mini`. Raises FileNotFoundError for a folder without scenes."""
    facts = json.loads((work / "foley" / "sounds" / "config.json").read_text())
    facts.pop("recordings")
    drawn = json.loads((work / "corpus" / "sounds" / "config.json").read_text())
    return MiniConfig(work=work, foley=FoleyConfig(**facts), corpus=CorpusConfig(**drawn))


def scenes_of(mini: MiniConfig, split: str) -> list[FoleyScene]:
    """Scenes of a split in the order of mini's features: Foley's before SynthFoley's."""
    config = mini.corpus
    drawn = (synthfoley.make_scene(config.seed, k, config.seconds) for k in range(config.scenes))
    ours = foley.scenes_of(mini.work / "foley", mini.foley, split)
    return ours + [of_drawing(scene) for scene in drawn if scene.split == split]


def rows_of(n_scenes: int, config: SteeringConfig) -> np.ndarray:
    """Rows of the scenes that get other sounds, in order: a random selection of every kind of scene."""
    return np.sort(np.random.default_rng(0).permutation(n_scenes)[: config.scenes])


def render_others(folder: Path, mini: MiniConfig, config: SteeringConfig, workers: int, log: Log) -> None:
    """Write the tokens of the other sounds below `folder`, by a pool of processes; what is there stays.

    Raises ValueError for a folder made from other scenes, sounds or weights.
    """
    facts = asdict(config) | {
        name: _digest(mini.work / file)
        for name, file in (("recordings", "foley/recordings.json"), ("codec", "codec.pt"))
    }
    for split in ("train", "val"):
        n = len(rows_of(len(_scenes(mini, split)), config))
        render_shards(folder / split, facts, n, partial(_codes_of_others, mini, config, split), workers, log)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


@cache
def _scenes(mini: MiniConfig, split: str) -> list[FoleyScene]:
    return scenes_of(mini, split)


@cache
def _library(mini: MiniConfig) -> Library:
    return Library.load(mini.work / "foley")


@cache
def _codec(mini: MiniConfig) -> Codec:
    torch.set_num_threads(1)
    codec = load_part(mini, "codec", "cpu")
    assert isinstance(codec, Codec)
    return codec


def sounds_of(mini: MiniConfig, config: SteeringConfig, scene: FoleyScene) -> list[FoleyScene]:
    """Scene with each of its other sounds."""
    library = _library(mini)
    return [sounding_like(library, scene, label) for label in others_of(library, scene, config.others)]


def _codes_of_others(mini: MiniConfig, config: SteeringConfig, split: str, index: int) -> np.ndarray:
    """Tokens int16 (others, K, L) of the other sounds of one scene."""
    scenes, codec = _scenes(mini, split), _codec(mini)
    scene = scenes[int(rows_of(len(scenes), config)[index])]
    codes = []
    for other in sounds_of(mini, config, scene):
        wave = torch.from_numpy(render_sound(_library(mini), other))[None, None]
        codes.append(codec.encode(wave)[0].to(torch.int16).numpy())
    return np.stack(codes)


@dataclass(frozen=True)
class Crop:
    """Stretch of a scene with one of its sounds."""

    scene: FoleyScene
    own: bool
    """True if the sound is that of the picture."""
    start_s: float
    length_s: float

    def caption(self, rng: np.random.Generator) -> str:
        """Caption of the sound, in the words of the table or reworded."""
        text = caption(self.scene, rng, self.start_s, self.length_s)
        return instructions.reworded(self.scene.label, text, rng)


@dataclass
class SteeringCorpus:
    """Pictures and sounds on a device, so that a batch takes only a few lookups. N pictures, S sounds."""

    semantic: Tensor
    """float16 (N, V, T1, D): V answers of the image classifier, of which a crop takes one."""
    sync: Tensor
    """float16 (N, T2, D)."""
    codes: Tensor
    """int16 (S, K, L): the pictures' own sounds first, then the others."""
    scenes: list[FoleyScene]
    """Scene of each sound."""
    pictures: np.ndarray
    """int64 [S]: the picture of each sound."""

    @classmethod
    def load(
        cls,
        folder: Path,
        mini: MiniConfig,
        config: SteeringConfig,
        split: str,
        device: torch.device | str = "cpu",
    ) -> SteeringCorpus:
        """Sounds of a split that `render_others` wrote, with the features and tokens of `make mini`.

        Raises ValueError where one of them is about other scenes.
        """
        data, scenes = windows_of(mini, split), scenes_of(mini, split)
        if len(scenes) != len(data.codes):
            raise ValueError(f"{mini.work} has tokens of {len(data.codes)} scenes, not of {len(scenes)}")
        rows = rows_of(len(scenes), config)
        others = [np.load(file) for file in sorted((folder / split).glob("[0-9]*.npy"))]
        if sum(map(len, others)) != len(rows) or any(shard.shape[1] != config.others for shard in others):
            raise ValueError(
                f"{folder / split} does not hold {config.others} other sounds of {len(rows)} scenes"
            )
        codes = torch.cat([data.codes, *(torch.from_numpy(shard).flatten(0, 1) for shard in others)])
        heard = scenes + [other for row in rows for other in sounds_of(mini, config, scenes[row])]
        pictures = np.concatenate([np.arange(len(scenes)), np.repeat(rows, config.others)])
        return cls(data.semantic.to(device), data.sync.to(device), codes.to(device), heard, pictures)

    def crops(
        self, rng: np.random.Generator, rows: int, length: int, own: float
    ) -> tuple[dict[str, Tensor], list[Crop]]:
        """Random crops of `length` codec frames, a fraction `own` of them with the scene's own sound. The crop with the
        most events out of three is used.

        Returns semantic float32 (B, T1, D), sync float32 (B, T2, D) and codes int64 (B, K, length), and the crops.
        """
        length_s, n = grid.seconds(length * grid.HOP), len(self.sync)
        n_fast = grid.frame_count(length_s, RECIPE.view("sync").fps)
        picks, crops = [], []
        for _ in range(rows):
            sound = int(rng.integers(n)) if rng.random() < own else int(rng.integers(n, len(self.scenes)))
            onsets = np.array([event.onset_s for event in self.scenes[sound].events])
            starts = rng.integers(self.sync.shape[1] - n_fast + 1, size=3)
            starts_s = starts / RECIPE.view("sync").fps
            inside = [((at <= onsets) & (onsets < at + length_s)).sum() for at in starts_s]
            best = int(np.argmax(inside))
            picks.append((sound, int(rng.integers(self.semantic.shape[1])), int(starts[best])))
            crops.append(Crop(self.scenes[sound], sound < n, float(starts_s[best]), length_s))
        return self._columns(picks, length), crops

    def windows(self, sounds: Sequence[int], starts: Sequence[int], length: int) -> dict[str, Tensor]:
        """Columns as of `crops`, of given sounds from given sync frames on, with the first semantic answer."""
        return self._columns([(sound, 0, start) for sound, start in zip(sounds, starts, strict=True)], length)

    def _columns(self, picks: Sequence[tuple[int, int, int]], length: int) -> dict[str, Tensor]:
        """picks: sound, semantic answer, first sync frame of each row."""
        columns = dict[str, list[Tensor]](semantic=[], sync=[], codes=[])
        fast, slow = RECIPE.view("sync").fps, RECIPE.view("semantic").fps
        length_s = grid.seconds(length * grid.HOP)
        n_fast, n_slow = grid.frame_count(length_s, fast), grid.frame_count(length_s, slow)
        for sound, answer, start in picks:
            picture, start_s = int(self.pictures[sound]), start / fast
            late = min(grid.frame_index(start_s, slow), self.semantic.shape[2] - n_slow)
            first = min(round(grid.samples(start_s) / grid.HOP), self.codes.shape[-1] - length)
            columns["semantic"].append(self.semantic[picture, answer, late : late + n_slow].float())
            columns["sync"].append(self.sync[picture, start : start + n_fast].float())
            columns["codes"].append(self.codes[sound, :, first : first + length].long())
        return {name: torch.stack(parts) for name, parts in columns.items()}
