"""Checkpoints: folders with config.json, model.safetensors and card.md. Loading never unpickles anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from v2a_models.checkpoint_files import (
    BUNDLED,
    CheckpointError,
    WeightsError,
    bundled_names,
    check_bundled,
    checked_sha256,
    find_checkpoint,
    read_config,
    read_level,
    read_recipe,
    sha256,
)
from v2a_models.checkpoint_modules import (
    Bounded,
    fill_module,
    load_classifier,
    load_scav,
    save_module,
    save_scav,
    write_config,
)
from v2a_models.codec.level import OutputLevel
from v2a_models.generator import Generator, best_precision
from v2a_models.systems import SYSTEMS
from v2a_models.vatt.language import base_files

__all__ = [
    "BUNDLED",
    "CheckpointError",
    "bundled_names",
    "find_checkpoint",
    "load_classifier",
    "load_generator",
    "load_scav",
    "save_scav",
]

PRECISIONS = ("auto", "float32", "bfloat16")


def save_generator(
    generator: Generator, folder: Path, *, classes: Sequence[str] = (),
    extra: dict[str, nn.Module] | None = None,
) -> None:  # fmt: skip
    """Write a checkpoint folder, weights in half precision. A file appears only when it is complete.

    `extra` modules, such as the event classifier, get files of their own, NAME.safetensors; so does the SCAV, if there
    is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_module(
        generator,
        folder / "model.safetensors",
        lambda name: not name.startswith("scav.") and generator.stored(name),
    )
    for name, module in (extra or {}).items():
        save_module(module, folder / f"{name}.safetensors")
    generator.sha256 = sha256(folder / "model.safetensors")
    config = dict(
        system=generator.system,
        name=folder.name,
        sha256=generator.sha256,
        recipe=generator.recipe.to_dict(),
        streams=generator.streams,
        context_frames=generator.context_frames,
        makes_sound=generator.makes_sound,
        follows_text=generator.follows_text,
        writes_captions=generator.writes_captions,
        paints=generator.inpaints,
        classes=list(classes),
        model=generator.config(),
    )
    if generator.level != OutputLevel():
        config["level"] = asdict(generator.level)
    write_config(folder, config)
    if generator.scav is not None:
        save_scav(generator.scav, folder)


def load_generator(
    name_or_path: str, device: torch.device | str = "cpu", precision: str = "float32"
) -> Generator:
    """The generator of a checkpoint, in evaluation mode, with float32 weights.

    precision: arithmetic of its transformers, "float32", "bfloat16", or "auto" (`best_precision`).

    Raises CheckpointError for an unknown name or system, and for damaged or foreign weights.
    """
    if precision not in PRECISIONS:
        raise CheckpointError(f"unknown precision {precision!r}: choose one of {list(PRECISIONS)}")
    folder = find_checkpoint(name_or_path)
    config = read_config(folder)
    if config.get("system", "") not in SYSTEMS:
        raise CheckpointError(f"{folder}: unknown system {config.get('system')!r}; known: {sorted(SYSTEMS)}")
    recipe = read_recipe(folder, config)
    digest = checked_sha256(folder, config)
    check_bundled(folder / "model.safetensors")
    try:
        with Bounded(folder, folder / "model.safetensors", *base_files(config)):
            generator = SYSTEMS[config["system"]].from_config(recipe, config["model"])
    except CheckpointError:
        raise
    except WeightsError as error:  # of a package that is not installed
        raise CheckpointError(f"{folder} needs published weights: {error}") from error
    except Exception as error:  # whatever the values of a damaged or hostile config bring about
        raise CheckpointError(
            f"{folder}/config.json does not describe a {config['system']}: {type(error).__name__}: {error}"
        ) from error
    generator.name = str(config.get("name", folder.name))
    generator.sha256, generator.level = digest, read_level(folder, config)
    fill_module(generator, folder / "model.safetensors", generator.stored)
    generator.scav = load_scav(str(folder))
    generator.precision = best_precision(device) if precision == "auto" else precision
    return generator.to(device).eval()
