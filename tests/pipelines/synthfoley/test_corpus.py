"""The training corpus on disk."""

from pathlib import Path

import numpy as np
import pytest

from pipelines import synthfoley
from pipelines.synthfoley import corpus
from pipelines.synthfoley.corpus import CorpusConfig
from v2a_models.recipe import View

SMALL = CorpusConfig(scenes=4, seconds=1.0, size=16)


def rendered(root: Path, workers: int) -> Path:
    for kind in ("sounds", "frames"):
        corpus.render(root, SMALL, kind, workers, log=lambda text: None)
    return root


def test_rendering_fills_the_splits_and_resumes(tmp_path: Path) -> None:
    root = rendered(tmp_path, 1)
    parts = [corpus.load(root, SMALL, split) for split in ("train", "val", "test")]
    assert sum(len(part) for part in parts) == 4
    for part in parts:
        for sound, frames, label, events in zip(
            part.sounds, part.frames, part.labels, part.events, strict=True
        ):
            assert sound.shape == (44_100,) and sound.dtype == np.int16
            assert frames.shape == (25, 16, 16, 3) and frames.dtype == np.uint8
            assert 0 <= label < len(synthfoley.CLASSES)
            assert all(0 <= t < 1 for t in events)
    file = root / "sounds" / "0000.npy"
    before = file.stat().st_mtime_ns
    rendered(root, 1)
    assert file.stat().st_mtime_ns == before


def test_another_corpus_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    root = rendered(tmp_path, 1)
    with pytest.raises(ValueError, match="holds another corpus"):
        corpus.render(root, CorpusConfig(scenes=5), "sounds", 1)


def test_frames_of_a_view_are_squeezed_or_cut_out_of_the_middle() -> None:
    scene = next(s for s in (synthfoley.make_scene(1, k, 1.0) for k in range(99)) if s.width > s.height)
    squeezed = corpus.view_frames(scene, View(5, 24, 24)).astype(float)
    cropped = corpus.view_frames(scene, View(5, 24, 24, "crop")).astype(float)
    wide = round(scene.width * 24 / scene.height)
    whole = corpus.view_frames(scene, View(5, wide, 24)).astype(float)
    left = (wide - 24) // 2
    assert squeezed.shape == cropped.shape == (5, 24, 24, 3)
    assert np.array_equal(cropped, whole[:, :, left : left + 24]) and not np.array_equal(cropped, squeezed)


def test_picked_frames_are_the_newest_at_or_before_each_target() -> None:
    scene = synthfoley.make_scene(0, 0, 2.0, fps=24.0)
    native = np.arange(48) / 24
    for target, picked in zip(np.arange(50) / 25, corpus.picked_times(scene, 25.0), strict=True):
        assert picked == pytest.approx(max(t for t in native if t <= target + 1e-9))
