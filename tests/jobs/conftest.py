"""Fixtures of several verbs: footage and a store extracted of it, a store to train on, a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.extraction import RECIPE, footage, run
from tests.support.language_model import SMALL, TEXTS
from tests.support.train_store import make_store, train_config
from tests.support.train_store import recipe as bundled_recipe


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(RECIPE)
    return str(path)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six films of 8 s: 96 windows of half a second."""
    return footage(tmp_path_factory.mktemp("archive"), range(6), 8.0)


@pytest.fixture(scope="session")
def undisturbed(
    archive: Path, recipe: str, ray_session: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    assert run(archive, store, recipe, rows_per_file=8) == 0
    return store


@pytest.fixture(scope="session")
def train_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three files of unequal length: shards of two workers cannot be equal."""
    return make_store(tmp_path_factory.mktemp("train") / "store", {"train": [12, 12, 9], "val": [6]}).root


@pytest.fixture(scope="session")
def trained(train_store: str, ray_session: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that two workers trained, with its MLflow records."""
    from jobs import train

    out = tmp_path_factory.mktemp("trained") / "a model"
    assert train.run(train_config(train_store, out, tracking_uri=None)) == 0
    return out


@pytest.fixture(scope="session")
def vatt(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny untrained VATT: follows text in its own way, which is enough to see that it is given it."""
    import torch

    from v2a_models.build import new_generator
    from v2a_models.checkpoint import save_generator
    from v2a_models.vatt.language import train_tokenizer

    root = tmp_path_factory.mktemp("models")
    sizes = {name: value for name, value in SMALL.items() if name != "num_key_value_heads"}
    torch.manual_seed(0)
    converter = new_generator(
        "vatt-converter", bundled_recipe(), tokenizer=train_tokenizer(TEXTS, 200), **sizes
    )
    save_generator(converter, root / "converter")
    tiny: dict[str, Any] = dict(
        dim=32, separate=1, shared=1, heads=2, steps=2, top_k=0, choice_temperature=1.0
    )
    made = new_generator("vatt", bundled_recipe(), converter=str(root / "converter"), **tiny)
    save_generator(made, root / "vatt")
    return str(root / "vatt")
