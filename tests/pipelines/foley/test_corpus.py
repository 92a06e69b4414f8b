"""Foley scenes as arrays on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.foley import corpus
from pipelines.foley.corpus import DRAWN, LABELS, FoleyConfig
from pipelines.foley.film import render_frames
from pipelines.foley.mix import render_sound
from pipelines.foley.recordings import Library
from pipelines.synthfoley import CLASSES
from v2a_models import pcm

CONFIG = FoleyConfig(scenes=14, seconds=2.0, size=32)


@pytest.fixture(scope="module")
def root(library: Library, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("foley")
    library.save(root)
    for kind in ("sounds", "frames"):
        corpus.render(root, CONFIG, kind, 1, log=lambda text: None)
    return root


def test_arrays_hold_what_the_scenes_say(root: Path, library: Library) -> None:
    scenes, data = corpus.scenes_of(root, CONFIG, "train"), corpus.load(root, CONFIG, "train")
    assert len(data) == len(data.frames) == len(scenes) > 5
    for k in (0, len(scenes) - 1):
        assert np.array_equal(data.sounds[k], pcm.quantise(render_sound(library, scenes[k])))
        assert np.array_equal(data.frames[k], render_frames(scenes[k], np.arange(50) / 25, 32))
        assert LABELS[data.labels[k]] == scenes[k].label
        assert data.events[k] == [event.onset_s for event in scenes[k].events]


def test_splits_are_disjoint_and_complete(root: Path) -> None:
    indices = [
        scene.index for split in ("train", "val", "test") for scene in corpus.scenes_of(root, CONFIG, split)
    ]
    assert sorted(indices) == list(range(14))


def test_rendering_again_does_nothing_and_another_library_is_refused(root: Path, library: Library) -> None:
    file = root / "sounds" / "0000.npy"
    before = file.stat().st_mtime_ns
    corpus.render(root, CONFIG, "sounds", 1, log=lambda text: None)
    assert file.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="another corpus"):
        corpus.render(root, FoleyConfig(scenes=15, seconds=2.0, size=32), "sounds", 1, log=lambda text: None)


def test_a_library_is_gathered_once(root: Path) -> None:
    assert corpus.write_library(root, "/no/such/folder", ()).recordings == Library.load(root).recordings


def test_every_drawing_has_a_class_of_sound() -> None:
    assert set(DRAWN) == set(CLASSES) and set(DRAWN.values()) <= set(LABELS)
