"""Other sounds of the scenes in the work folder of `make mini`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.mini import steering_corpus
from jobs.mini.config import MiniConfig
from jobs.mini.parts import corpus_of, windows_of
from jobs.mini.steering_corpus import SteeringConfig, SteeringCorpus
from pipelines.foley.captions import label_in
from pipelines.foley.corpus import LABELS

CONFIG = SteeringConfig(scenes=6, others=2)


@pytest.fixture(scope="module")
def scenes(trained: Path) -> MiniConfig:
    return steering_corpus.mini_of(trained / "work")


@pytest.fixture(scope="module")
def folder(scenes: MiniConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("others")
    steering_corpus.render_others(folder, scenes, CONFIG, 1, lambda text: None)
    return folder


@pytest.fixture(scope="module")
def held(folder: Path, scenes: MiniConfig) -> SteeringCorpus:
    return SteeringCorpus.load(folder, scenes, CONFIG, "train")


def test_scenes_are_those_of_minis_features(scenes: MiniConfig) -> None:
    for split in ("train", "val"):
        data = corpus_of(scenes, split, with_frames=False)
        known = steering_corpus.scenes_of(scenes, split)
        assert [LABELS.index(scene.label) for scene in known] == data.labels.tolist()
        assert {scene.split for scene in known} == {split}


def test_own_sounds_are_minis_tokens_and_others_are_others(held: SteeringCorpus, scenes: MiniConfig) -> None:
    data, n = windows_of(scenes, "train"), len(held.sync)
    assert torch.equal(held.codes[:n], data.codes) and torch.equal(held.semantic, data.semantic)
    assert len(held.codes) == len(held.scenes) == len(held.pictures) == n + 6 * 2
    for sound in range(n, len(held.codes)):
        own, other = held.scenes[held.pictures[sound]], held.scenes[sound]
        assert other.label != own.label and (other.seed, other.index) == (own.seed, own.index)
        assert not torch.equal(held.codes[sound], held.codes[held.pictures[sound]])
        assert {e.onset_s for e in other.events} <= {e.onset_s for e in own.events}


def test_crops_are_of_the_picture_and_the_sound_at_the_same_time(held: SteeringCorpus) -> None:
    n = len(held.sync)
    held.sync = torch.arange(held.sync.shape[1]).expand(n, -1)[..., None].half()
    held.codes = torch.arange(held.codes.shape[-1]).expand(*held.codes.shape[:2], -1).to(torch.int16)
    batch, crops = held.crops(np.random.default_rng(0), 40, 172, own=0.5)
    assert batch["semantic"].shape == (40, 5, len(LABELS)) and batch["sync"].shape[1] == 50
    assert batch["codes"].shape == (40, 6, 172) and batch["codes"].dtype == torch.int64
    for sync, codes, crop in zip(batch["sync"], batch["codes"], crops, strict=True):
        assert float(sync[0]) / 25 == pytest.approx(crop.start_s)
        assert int(codes[0, 0]) * 512 / 44_100 == pytest.approx(crop.start_s, abs=0.02)
    assert 8 < sum(crop.own for crop in crops) < 32


def test_captions_of_crops_name_their_sound(held: SteeringCorpus) -> None:
    rng = np.random.default_rng(0)
    _, crops = held.crops(rng, 40, 172, own=0.5)
    assert [label_in(crop.caption(rng)) for crop in crops] == [crop.scene.label for crop in crops]


def test_what_is_there_is_not_made_again(folder: Path, scenes: MiniConfig) -> None:
    files = sorted(folder.rglob("*.npy"))
    before = [file.stat().st_mtime_ns for file in files]
    steering_corpus.render_others(folder, scenes, CONFIG, 1, lambda text: None)
    assert files and [file.stat().st_mtime_ns for file in files] == before
    with pytest.raises(ValueError, match="another corpus"):
        steering_corpus.render_others(folder, scenes, SteeringConfig(5, 2), 1, print)
    with pytest.raises(ValueError, match="does not hold 2 other sounds of 5 scenes"):
        SteeringCorpus.load(folder, scenes, SteeringConfig(5, 2), "train")
