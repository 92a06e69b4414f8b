"""Clips of a SynthFoley corpus, rendered by Ray's workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines import storage
from pipelines.synthfoley import make_scene, mp4
from pipelines.synthfoley.pipeline import render_clip, render_clips

SETTINGS: dict[str, Any] = {"seed": 3, "seconds": 1.0, "strip_sound": False}


def test_each_clip_once_whoever_renders_it(ray_session: Any, tmp_path: Path) -> None:
    paths = list(render_clips(5, ray_session.cpus, out=str(tmp_path / "ray"), **SETTINGS))
    assert sorted(paths) == sorted(mp4.clip_path(make_scene(3, k, 1.0)) for k in range(5))
    alone = render_clip({"id": 4}, out=str(tmp_path / "here"), **SETTINGS)["path"]
    assert (tmp_path / "here" / alone).read_bytes() == (tmp_path / "ray" / alone).read_bytes()


def test_a_place_that_cannot_be_written_ends_it_with_the_clip(ray_session: Any, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file, where a folder should be")
    assert render_clip({"id": 0}, out=str(tmp_path / "out"), **SETTINGS)["error"]
    with pytest.raises(storage.StorageError, match="cannot be written"):
        list(render_clips(1, 1, out=str(tmp_path / "out"), **SETTINGS))
