"""Checkpoints: one folder = config.json + model.safetensors (+ card.md). Loading never unpickles anything."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from v2a_models.checkpoint_files import (
    BUNDLED,
    CheckpointError,
    bundled_names,
    checked_sha256,
    find_checkpoint,
    read_config,
    sha256,
)
from v2a_models.encoders.audio import EventClassifier
from v2a_models.generator import Generator, best_precision
from v2a_models.recipe import Recipe
from v2a_models.scav import SCAV, SCAVConfig
from v2a_models.systems import SYSTEMS

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
    """Writes the folder; weights in half precision, each file beside and then renamed.

    `extra` modules (such as the event classifier) go into files of their own, NAME.safetensors, and so does the
    generator's SCAV if it has one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, module in {"model": generator, **(extra or {})}.items():
        _save(module, folder / f"{name}.safetensors")
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
        paints=generator.paints,
        classes=list(classes),
        model=generator.config(),
    )
    _write_config(folder, config)
    scav = getattr(generator, "scav", None)
    if scav is not None:
        save_scav(scav, folder)


def load_generator(
    name_or_path: str, device: torch.device | str = "cpu", precision: str = "float32"
) -> Generator:
    """The generator of a checkpoint, in evaluation mode, with float32 weights.

    precision: arithmetic of its transformers, "float32", "bfloat16", or "auto" (`best_precision`).

    Raises CheckpointError: unknown name, unknown system, damaged or foreign weights.
    """
    if precision not in PRECISIONS:
        raise CheckpointError(f"unknown precision {precision!r}: choose one of {list(PRECISIONS)}")
    folder = find_checkpoint(name_or_path)
    config = read_config(folder)
    if config.get("system") not in SYSTEMS:
        raise CheckpointError(f"{folder}: unknown system {config.get('system')!r}; known: {sorted(SYSTEMS)}")
    try:
        generator = SYSTEMS[config["system"]].from_config(Recipe.from_dict(config["recipe"]), config["model"])
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}/config.json does not describe a {config['system']}: {error}"
        ) from error
    generator.name = str(config.get("name", folder.name))
    generator.sha256 = checked_sha256(folder, config)
    _fill(generator, folder / "model.safetensors")
    if hasattr(generator, "scav"):
        generator.scav = load_scav(str(folder))
    generator.precision = best_precision(device) if precision == "auto" else precision
    return generator.to(device).eval()


def load_classifier(name_or_path: str) -> tuple[EventClassifier, list[str]]:
    """The event classifier kept beside a checkpoint, and its class names."""
    folder = find_checkpoint(name_or_path)
    classes = read_config(folder)["classes"]
    classifier = EventClassifier(len(classes))
    _fill(classifier, folder / "classifier.safetensors")
    return classifier.eval(), classes


def save_scav(scav: SCAV, folder: Path) -> None:
    """Keeps a SCAV beside the model of a checkpoint: FOLDER/scav.safetensors, and its sizes in config.json.

    Raises CheckpointError if the folder holds no checkpoint.
    """
    config = read_config(folder)
    _save(scav, folder / "scav.safetensors")
    config["scav"] = dataclasses.asdict(scav.config)
    config["scav_sha256"] = sha256(folder / "scav.safetensors")
    _write_config(folder, config)


def load_scav(name_or_path: str, device: torch.device | str = "cpu") -> SCAV | None:
    """The SCAV kept beside a checkpoint, in evaluation mode; None if it has none.

    Raises CheckpointError: unknown name, damaged or foreign weights.
    """
    folder = find_checkpoint(name_or_path)
    config = read_config(folder)
    if config.get("scav") is None:
        return None
    try:
        scav = SCAV(SCAVConfig(**config["scav"]))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}/config.json does not describe a SCAV: {error}") from error
    file = folder / "scav.safetensors"
    if sha256(file) != config.get("scav_sha256"):
        raise CheckpointError(f"{file} is truncated or belongs to another model; copy it again")
    _fill(scav, file)
    return scav.to(device).eval()


def _save(module: nn.Module, file: Path) -> None:
    """Half precision, written beside and then renamed. Without a generator's SCAV, which has its own file."""
    beside = file.with_name(f".{file.stem}.tmp")
    stored = getattr(module, "stored", lambda name: True)
    state = {k: _halved(v) for k, v in module.state_dict().items() if not k.startswith("scav.") and stored(k)}
    save_file(state, beside)
    os.replace(beside, file)


def _write_config(folder: Path, config: dict[str, Any]) -> None:
    beside = folder / ".config.tmp"
    beside.write_text(json.dumps(config, indent=2) + "\n")
    os.replace(beside, folder / "config.json")


def _fill(module: nn.Module, file: Path) -> None:
    try:
        state = load_file(file)
        state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
        if stored := getattr(module, "stored", None):
            there = module.state_dict()
            state |= {k: v for k, v in there.items() if not stored(k) and k not in state}
        module.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{file} cannot be loaded: {error}") from error


def _halved(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() else tensor
