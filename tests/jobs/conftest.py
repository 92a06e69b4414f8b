"""Footage and a finished store that the tests of `v2a extract` share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from extraction import RECIPE, footage, run


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(RECIPE)
    return str(path)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve films of 12 s: 288 windows of half a second."""
    return footage(tmp_path_factory.mktemp("archive"), range(12), 12.0)


@pytest.fixture(scope="session")
def undisturbed(
    archive: Path, recipe: str, ray_session: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    assert run(archive, store, recipe, rows_per_file=20) == 0
    return store
