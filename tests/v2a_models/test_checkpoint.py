"""Checkpoints: round trip, and every way a folder can be wrong."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from v2a_models.checkpoint import CheckpointError, load_classifier, load_generator, save_generator
from v2a_models.codec.dac import MINI, Codec
from v2a_models.encoders.audio import EventClassifier
from v2a_models.encoders.clip_s3d import SemanticEncoder, SyncEncoder
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.maskvat.model import MaskVAT, MaskVATConfig
from v2a_models.recipe import Recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    parts = (
        Codec(MINI),
        SemanticEncoder.mini(),
        SyncEncoder.mini(),
        MaskVAT(MaskVATConfig(n_codebooks=6, depth=1)),
    )
    save_generator(
        MaskVATGenerator(Recipe(name="toy"), *parts), tmp_path / "toy", classes=("a", "b"),
        extra=dict(classifier=EventClassifier(2)),
    )  # fmt: skip
    return tmp_path / "toy"


def test_round_trip(folder: Path) -> None:
    a, b = load_generator(str(folder)), load_generator(str(folder))
    assert a.name == "toy" and len(a.sha256) == 64 and a.recipe == Recipe(name="toy")
    assert not a.training
    for (key, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), key
    classifier, classes = load_classifier(str(folder))
    assert classes == ["a", "b"] and classifier(torch.zeros(1, 44_100)).shape == (1, 2)


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(CheckpointError, match=r"no model 'nope': choose one of \["):
        load_generator("nope")


def test_truncated_weights_are_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        load_generator(str(folder))


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="missing"):
        load_generator(str(folder))


def test_foreign_config_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"system": "vast"}))
    with pytest.raises(CheckpointError, match="unknown system 'vast'"):
        load_generator(str(folder))
    config["model"]["maskvat"]["depth"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_generator(str(folder))


def test_a_pickle_is_never_opened(folder: Path) -> None:
    class Bomb:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (Path.touch, (folder / "exploded",))

    (folder / "classifier.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_classifier(str(folder))
    assert not (folder / "exploded").exists()


def test_unknown_recipe_field_is_named() -> None:
    with pytest.raises(ValueError, match="windows_s"):
        Recipe.from_dict({"name": "x", "windows_s": 4})
