"""Facts about models that are read without their weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.common import models
from v2a_models.checkpoint import BUNDLED, load_generator
from v2a_models.checkpoint_files import CheckpointError


def checkpoint(folder: Path, **changed: object) -> str:
    """Copy of the bundled checkpoint with other values in its config.json."""
    folder.mkdir()
    for file in (BUNDLED / "mini").iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((BUNDLED / "mini" / "config.json").read_text()) | changed
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_facts_are_those_of_the_loaded_model() -> None:
    info, loaded = models.model_info("mini"), load_generator("mini")
    assert (info.recipe, info.name, info.sha256) == (loaded.recipe, "mini", loaded.sha256)
    assert (info.streams, info.inpaints, info.follows_text) == (False, True, False)
    assert models.model_info("vatt-mini").follows_text


def test_sounds_that_a_model_knows_are_named(tmp_path: Path) -> None:
    assert "bell" in models.known_sounds("mini").split(", ")
    hostile = checkpoint(tmp_path / "model", classes=["nothing", "hand_drum", 7, *["x"] * 10_000])
    names = models.known_sounds(hostile).split(", ")
    assert names[0] == "hand drum" and len(names) < 200
    assert models.known_sounds(checkpoint(tmp_path / "other", classes=[])) == ""


@pytest.mark.parametrize("context", [-1, True, "3", 1 << 20])
def test_a_context_that_is_none_is_refused(context: object, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="context_frames is"):
        models.model_info(checkpoint(tmp_path / "model", context_frames=context))


def test_only_captioners_caption() -> None:
    models.check_captioner("vatt-mini")
    with pytest.raises(ValueError, match="writes no captions"):
        models.check_captioner("mini")
