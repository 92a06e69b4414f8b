"""The encoders of a recipe behind one call."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.extract import recipes
from tests.support.train_store import frames
from v2a_models.encoders.encoders import Encoders, load_encoders


@pytest.fixture(scope="module")
def mini() -> Encoders:
    recipe, files = recipes.resolve(recipes.find("mini"), {}, None)
    return load_encoders(recipe, files)


def window(encoders: Encoders, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    noise = torch.randn(1, 1, encoders.recipe.window, generator=torch.Generator().manual_seed(seed)) * 3000
    return frames(encoders.recipe.window_s, seed), noise.clamp(-32768, 32767).to(torch.int16)


def test_columns_have_the_shapes_that_are_known_beforehand(mini: Encoders) -> None:
    columns = mini(*window(mini, 0))
    assert {name: column.shape[1:] for name, column in columns.items()} == mini.shapes
    assert {name: column.dtype for name, column in columns.items()} == {
        "semantic": np.float16,
        "sync": np.float16,
        "codes": np.uint16,
    }
    assert np.isfinite(columns["sync"]).all()
    assert columns["codes"].max() < 512


def test_the_columns_are_what_the_generator_sees_and_says(mini: Encoders) -> None:
    """A store made with `mini` trains what `v2a dub --model mini` runs: the same features, the same tokens."""
    from v2a_models.checkpoint import load_generator

    generator = load_generator("mini")
    seen, sound = window(mini, 1)
    columns = mini(seen, sound)
    batch = generator.features(seen)
    assert batch.semantic is not None and batch.sync is not None
    assert np.allclose(columns["semantic"], batch.semantic.numpy(), atol=2e-3)
    assert np.allclose(columns["sync"], batch.sync.numpy(), atol=2e-2)
    codes = generator.codec.encode(sound.float() / 32768)  # type: ignore[operator, union-attr]
    assert np.array_equal(columns["codes"], codes.numpy())


def test_a_row_does_not_depend_on_what_else_is_in_its_batch(mini: Encoders) -> None:
    def encode(*seeds: int) -> dict[str, np.ndarray]:
        rows = [window(mini, seed) for seed in seeds]
        seen = {name: torch.cat([f[name] for f, _ in rows]) for name in ("semantic", "sync")}
        return mini(seen, torch.cat([sound for _, sound in rows]))

    one, other = encode(1, 2), encode(1, 3)
    for name in one:
        assert np.array_equal(one[name][0], other[name][0]), name


def test_another_shape_than_the_recipe_says_is_an_error(mini: Encoders) -> None:
    seen, sound = window(mini, 0)
    seen["sync"] = seen["sync"][:, :50]
    with pytest.raises(ValueError, match="sync has shape"):
        mini(seen, sound)
