"""Checkpoints: one folder = config.json + model.safetensors (+ card.md). Loading never unpickles anything."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from v2a_models.audio import EventClassifier
from v2a_models.checkpoint_files import (
    BUNDLED,
    CheckpointError,
    bundled_names,
    checked_sha256,
    find_checkpoint,
    read_config,
    sha256,
)
from v2a_models.generator import Generator, best_precision
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.recipe import Recipe

__all__ = [
    "BUNDLED",
    "CheckpointError",
    "bundled_names",
    "find_checkpoint",
    "load_classifier",
    "load_generator",
]

SYSTEMS: dict[str, type[MaskVATGenerator]] = {"maskvat-adaln": MaskVATGenerator}
"""Every system by the name its config.json carries."""

PRECISIONS = ("auto", "float32", "bfloat16")


def save_generator(
    generator: Generator, folder: Path, *, system: str = "maskvat-adaln", classes: Sequence[str] = (),
    extra: dict[str, nn.Module] | None = None,
) -> None:  # fmt: skip
    """Writes the folder; weights in half precision, each file beside and then renamed.

    `extra` modules (such as the event classifier) go into files of their own, NAME.safetensors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, module in {"model": generator, **(extra or {})}.items():
        state = {k: _halved(v) for k, v in module.state_dict().items()}
        beside = folder / f".{name}.tmp"
        save_file(state, beside)
        os.replace(beside, folder / f"{name}.safetensors")
    generator.sha256 = sha256(folder / "model.safetensors")
    config = dict(
        system=system,
        name=folder.name,
        sha256=generator.sha256,
        recipe=generator.recipe.to_dict(),
        classes=list(classes),
        model=generator.config(),
    )
    beside = folder / ".config.tmp"
    beside.write_text(json.dumps(config, indent=2) + "\n")
    os.replace(beside, folder / "config.json")


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
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}/config.json does not describe a {config['system']}: {error}"
        ) from error
    generator.name = str(config.get("name", folder.name))
    generator.sha256 = checked_sha256(folder, config)
    _fill(generator, folder / "model.safetensors")
    generator.precision = best_precision(device) if precision == "auto" else precision
    return generator.to(device).eval()


def load_classifier(name_or_path: str) -> tuple[EventClassifier, list[str]]:
    """The event classifier kept beside a checkpoint, and its class names."""
    folder = find_checkpoint(name_or_path)
    classes = read_config(folder)["classes"]
    classifier = EventClassifier(len(classes))
    _fill(classifier, folder / "classifier.safetensors")
    return classifier.eval(), classes


def _fill(module: nn.Module, file: Path) -> None:
    try:
        state = load_file(file)
        module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{file} cannot be loaded: {error}") from error


def _halved(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() else tensor
