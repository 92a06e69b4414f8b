"""Checkpoints: one folder = config.json + model.safetensors (+ card.md). Loading never unpickles anything."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from v2a_models.audio import EventClassifier
from v2a_models.generator import Generator, best_precision
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.recipe import Recipe

SYSTEMS: dict[str, type[MaskVATGenerator]] = {"maskvat-adaln": MaskVATGenerator}
"""Every system by the name its config.json carries."""

BUNDLED = Path(__file__).parent / "weights"
"""Folders here can be named without a path: `mini`."""


PRECISIONS = ("auto", "float32", "bfloat16")


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or of another kind; the message says what to do."""


def bundled_names() -> list[str]:
    """Names of the checkpoints that came with the package."""
    return sorted(p.parent.name for p in BUNDLED.glob("*/config.json"))


def find_checkpoint(name_or_path: str) -> Path:
    """Folder of a checkpoint given by bundled name or by path.

    Raises CheckpointError listing the valid choices.
    """
    for folder in (BUNDLED / name_or_path, Path(name_or_path)):
        if (folder / "config.json").is_file():
            return folder
    raise CheckpointError(
        f"no model {name_or_path!r}: choose one of {bundled_names()} or give a folder that holds "
        "config.json and model.safetensors"
    )


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
    generator.sha256 = _sha256(folder / "model.safetensors")
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
    config = _config(folder)
    if config.get("system") not in SYSTEMS:
        raise CheckpointError(f"{folder}: unknown system {config.get('system')!r}; known: {sorted(SYSTEMS)}")
    try:
        generator = SYSTEMS[config["system"]].from_config(Recipe.from_dict(config["recipe"]), config["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}/config.json does not describe a {config['system']}: {error}"
        ) from error
    generator.name, generator.sha256 = (
        str(config.get("name", folder.name)),
        _sha256(folder / "model.safetensors"),
    )
    if generator.sha256 != config.get("sha256"):
        raise CheckpointError(
            f"{folder}/model.safetensors has sha256 {generator.sha256[:16]}…, config.json says "
            f"{str(config.get('sha256'))[:16]}…: the file is truncated or belongs to another model; copy it again"
        )
    _fill(generator, folder / "model.safetensors")
    generator.precision = best_precision(device) if precision == "auto" else precision
    return generator.to(device).eval()


def load_classifier(name_or_path: str) -> tuple[EventClassifier, list[str]]:
    """The event classifier kept beside a checkpoint, and its class names."""
    folder = find_checkpoint(name_or_path)
    classes = _config(folder)["classes"]
    classifier = EventClassifier(len(classes))
    _fill(classifier, folder / "classifier.safetensors")
    return classifier.eval(), classes


def _config(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}/config.json cannot be read: {error}") from error


def _fill(module: nn.Module, file: Path) -> None:
    try:
        state = load_file(file)
        module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{file} cannot be loaded: {error}") from error


def _halved(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() else tensor


def _sha256(file: Path) -> str:
    if not file.is_file():
        raise CheckpointError(f"{file} is missing")
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
