"""Encoders and codec of the bundled `mini`, read straight from its weights file: no generator is built for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from v2a_models.checkpoint_files import checked_sha256, find_checkpoint, read_config
from v2a_models.checkpoint_modules import fill_module
from v2a_models.codec.dac import Codec
from v2a_models.encoders.published import checked_files
from v2a_models.encoders.untrained import untrained_encoder
from v2a_models.recipe import Recipe

BUNDLED = "mini"


def load_bundled(roles: Iterable[str]) -> dict[str, nn.Module]:
    """Modules of `mini` by role (`semantic`, `sync` or `codec`): float32, in evaluation mode.

    Raises CheckpointError if the weights file is missing or damaged, WeightsError if the published ones are missing.
    """
    folder = find_checkpoint(BUNDLED)
    config = read_config(folder)
    checked_sha256(folder, config)
    recipe = Recipe.from_dict(config["recipe"])
    modules: dict[str, nn.Module] = {}
    for role in roles:
        codec = role == "codec"
        modules[role] = Codec(config["model"]["codec"]) if codec else untrained_encoder(recipe, role)
        stored: Any = getattr(modules[role], "stored", lambda name: True)
        fill_module(modules[role], folder / "model.safetensors", stored, prefix=f"{role}.")
        modules[role].eval()
    return modules


def bundled_or_untrained(
    recipe: Recipe, codec: Mapping[str, Any] | None
) -> tuple[Any, nn.Module, nn.Module | None]:
    """Codec, semantic encoder and sync encoder of a recipe: bundled ones with weights, others without.

    codec: config of a codec that is not bundled; None for no codec. Raises CheckpointError if the bundled weights
    belong to another release than the recipe names.
    """
    if recipe.bundled:
        checked_files(recipe, {})
        mini = load_bundled(("codec", "semantic", "sync"))
        return mini["codec"], mini["semantic"], mini["sync"]
    sync = untrained_encoder(recipe, "sync") if recipe.sync is not None else None
    return codec and Codec(dict(codec)), untrained_encoder(recipe, "semantic"), sync
