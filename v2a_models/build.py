"""Build untrained generators for a feature store, by system, size and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from v2a_models.checkpoint import load_generator
from v2a_models.checkpoint_files import find_checkpoint, read_config
from v2a_models.encoders.published import checked_files
from v2a_models.generator import Generator
from v2a_models.maskvat import build as maskvat
from v2a_models.mmaudio import generator as mmaudio
from v2a_models.raw import generator as raw
from v2a_models.recipe import Recipe
from v2a_models.systems import check_system, recipe_difference
from v2a_models.vatt import build as vatt

DUBBING_OVERLAP_S = 0.4
"""Overlap of neighbouring windows in a dubbed film, in seconds: ten frames of the synchrony encoder."""


def new_generator(
    system: str,
    recipe: Recipe,
    size: str = "mini",
    *,
    files: Mapping[str, str] | None = None,
    start: str = "",
    **options: Any,
) -> Generator:
    """Build an untrained model for a feature store of `recipe`.

    Encoders and codec are loaded with the weights that the recipe names: bundled, or published ones from `files`
    (role -> path; searched by name if missing there). start: checkpoint of the same system to continue from; it fixes
    the sizes. options: fields of the model's config, such as depth=4, or semantic_dim=0 to use S3D features only.

    Raises ValueError for an unknown system, size or option, with the choices; CheckpointError or WeightsError for
    unusable weights.
    """
    check_system(system)
    if system in mmaudio.GENERATORS:
        raise ValueError(mmaudio.NOT_TRAINED)
    if start:
        return _started(system, recipe, start, options)
    if system in raw.GENERATORS:
        kind = raw.GENERATORS[system]
        return kind.sized(recipe if kind.streams else for_dubbing(recipe), size, **options)
    new = vatt.new_vatt if system in vatt.GENERATORS else maskvat.new_maskvat
    return new(system, for_dubbing(recipe), size, checked_files(recipe, files or {}), options)


def for_dubbing(recipe: Recipe) -> Recipe:
    """Recipe of a model trained on a store of `recipe`: with the overlap that dubbing needs.

    Windows of a store may overlap or not; windows of a dubbed film must, or their joins are audible.
    """
    overlap_s = DUBBING_OVERLAP_S if recipe.window_s > 2 * DUBBING_OVERLAP_S else 0.0
    return replace(recipe, overlap_s=overlap_s)


def option_names(system: str) -> list[str]:
    """Option names that `new_generator` accepts for a system."""
    check_system(system)
    if system in raw.GENERATORS:
        return raw.option_names(raw.GENERATORS[system])
    if system in mmaudio.GENERATORS:
        return list(mmaudio.CHANGEABLE)
    if system in vatt.GENERATORS:
        return vatt.option_names(system)
    return maskvat.option_names()


def _started(system: str, recipe: Recipe, start: str, options: Mapping[str, Any]) -> Generator:
    known = read_config(find_checkpoint(start)).get("system")
    if known != system:
        raise ValueError(f"{start} is a {known}, not a {system}")
    generator = load_generator(start)
    if differs := recipe_difference(generator.recipe, recipe):
        raise ValueError(f"{start} was trained on another recipe than this store: {differs}")
    own = generator.recipe
    generator.recipe = replace(recipe, overlap_s=own.overlap_s, channels=own.channels)
    if not options:
        return generator
    try:
        return generator.with_options(**options)
    except ValueError as error:
        raise ValueError(f"the model's sizes are those of {start}: {error}") from error
