"""The registry: every system that can be trained and dubbed with, by name, and how an untrained one is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from v2a_models.checkpoint_files import CheckpointError, checked_sha256, find_checkpoint, read_config
from v2a_models.encoders.encoders import load_encoders
from v2a_models.generator import Generator
from v2a_models.maskvat import model as maskvat
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.maskvat.model import VARIANTS, MaskVAT, sized
from v2a_models.raw import generator as raw
from v2a_models.recipe import Recipe
from v2a_models.vatt import build as vatt

SYSTEMS: dict[str, Any] = (
    {f"maskvat-{variant}": MaskVATGenerator for variant in VARIANTS} | raw.GENERATORS | vatt.GENERATORS
)
"""Every system by the name that commands and config.json give it."""

DUBBING_OVERLAP_S = 0.4
"""Seconds that neighbouring windows of a dubbed film share: ten pictures of the synchrony encoder."""

SIZES = tuple(maskvat.SIZES)
"""Sizes that every system comes in."""


def new_generator(
    system: str,
    recipe: Recipe,
    size: str = "mini",
    *,
    files: Mapping[str, str] | None = None,
    start: str = "",
    **options: Any,
) -> Generator:
    """An untrained model of a system and size for a feature store of `recipe`.

    Encoders and codec come with the weights that the recipe names: the bundled ones, or published ones from `files`
    (role -> path; found by name where not given). start: a checkpoint of the same system to go on from, whose sizes
    then count. options: fields of the model's own config, such as depth=4, or semantic_dim=0 for a model that looks
    at S3D features only.

    Raises ValueError for an unknown system, size or option, with the choices; CheckpointError or WeightsError for
    weights that cannot be used.
    """
    check_system(system)
    if start:
        return _started(system, recipe, start, options)
    if system in raw.GENERATORS:
        kind = raw.GENERATORS[system]
        return kind.sized(recipe if kind.streams else for_dubbing(recipe), size, **options)
    if system in vatt.GENERATORS:
        return vatt.new_vatt(system, for_dubbing(recipe), size, checked_files(recipe, files or {}), options)
    return _maskvat(system, for_dubbing(recipe), size, files, options)


def for_dubbing(recipe: Recipe) -> Recipe:
    """The recipe of a model that is trained on a store of `recipe`.

    A store's windows overlap as its maker liked, by default not at all; those of a film that is dubbed must, or their
    joins are heard.
    """
    overlap_s = DUBBING_OVERLAP_S if recipe.window_s > 2 * DUBBING_OVERLAP_S else 0.0
    return replace(recipe, overlap_s=overlap_s)


def check_system(system: str) -> None:
    """Raises ValueError, listing the choices, for a name that is no system's."""
    if system not in SYSTEMS:
        raise ValueError(f"unknown system {system!r}: choose one of {sorted(SYSTEMS)}")


def option_names(system: str) -> list[str]:
    """Names that `new_generator` takes as options for a system."""
    check_system(system)
    if system in raw.GENERATORS:
        return raw.option_names(raw.GENERATORS[system])
    if system in vatt.GENERATORS:
        return vatt.option_names(system)
    return sorted(maskvat.MaskVATConfig.__dataclass_fields__)


def _started(system: str, recipe: Recipe, start: str, options: Mapping[str, Any]) -> Generator:
    from v2a_models.checkpoint import load_generator

    known = read_config(find_checkpoint(start)).get("system")
    if known != system:
        raise ValueError(f"{start} is a {known}, not a {system}")
    generator = load_generator(start)
    if differs := recipe_difference(generator.recipe, recipe):
        raise ValueError(f"{start} was trained on another recipe than this store: {differs}")
    generator.recipe = replace(recipe, overlap_s=generator.recipe.overlap_s)
    if not options:
        return generator
    try:
        return generator.with_options(**options)
    except ValueError as error:
        raise ValueError(f"{start} decides the model's sizes: {error}") from error


def recipe_difference(one: Recipe, other: Recipe) -> str:
    """What two recipes disagree on that a model could notice in one window; empty if nothing."""
    ignored = ("name", "encoders", "overlap_s")
    a, b = one.to_dict(), other.to_dict()
    found = [f"{key} {a[key]} / {b[key]}" for key in a if key not in ignored and a[key] != b[key]]
    for role in ("semantic", "sync", "codec", "audio"):
        ours, theirs = one.encoder(role), other.encoder(role)
        if ours and theirs and ours.sha256 != theirs.sha256:
            found.append(
                f"{role} encoder {ours.name} {ours.sha256[:12]} / {theirs.name} {theirs.sha256[:12]}"
            )
    return "; ".join(found)


def _maskvat(
    system: str, recipe: Recipe, size: str, files: Mapping[str, str] | None, options: Mapping[str, Any]
) -> Generator:
    encoders = load_encoders(recipe, checked_files(recipe, files or {})).by_role
    missing = sorted({"semantic", "sync", "codec"} - set(encoders))
    if missing:
        raise ValueError(
            f"{system} needs a store with semantic and sync features and codes; the recipe {recipe.name!r} "
            f"lacks {missing}"
        )
    codec: Any = encoders["codec"]
    widths = dict(
        n_codebooks=codec.n_codebooks,
        codebook_size=codec.codebook_size,
        semantic_dim=encoders["semantic"].dim,
        sync_dim=encoders["sync"].dim,
        audio_dim=0,
    )
    variant = system.removeprefix("maskvat-")
    scav = None
    if "audio" in encoders:
        widths["audio_dim"] = int(encoders["audio"].dim)  # type: ignore[arg-type]
    elif recipe.bundled:
        from v2a_models.checkpoint import load_generator

        scav = getattr(load_generator("mini"), "scav", None)
        widths["audio_dim"] = scav.config.dim if scav is not None else 0
    config = sized(variant, size, **{**widths, **options})
    generator = MaskVATGenerator(recipe, codec, encoders["semantic"], encoders["sync"], MaskVAT(config))
    generator.scav = scav
    generator.maskvat.recompute = size == "large"
    return generator


def checked_files(recipe: Recipe, given: Mapping[str, str]) -> dict[str, str]:
    """Where the weights of a recipe's encoders lie: role -> path, or `mini`; `given` ones need not be looked for.

    Raises WeightsError or CheckpointError for weights that are missing or not those that made the store.
    """
    from v2a_models.encoders import published

    files = {}
    for encoder in recipe.encoders:
        if encoder.name == "mini":
            bundled = find_checkpoint("mini")
            if checked_sha256(bundled, read_config(bundled)) != encoder.sha256:
                raise CheckpointError(
                    f"the store's {encoder.role} column was made by another release of `mini` "
                    f"({encoder.sha256[:12]}…): extract it again with this release"
                )
            files[encoder.role] = "mini"
        else:
            path = published.find_weights(encoder.name, encoder.role, given.get(encoder.role))
            published.check(path, encoder.sha256)
            files[encoder.role] = str(path)
    return files
