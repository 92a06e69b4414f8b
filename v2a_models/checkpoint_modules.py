"""Single modules of a checkpoint: SCAV, event classifier, encoders and codec, loaded without the generator."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from v2a_models.checkpoint_files import CheckpointError, find_checkpoint, put_in_place, read_config, sha256
from v2a_models.encoders.audio import EventClassifier
from v2a_models.scav import SCAV, SCAVConfig


def load_classifier(name_or_path: str) -> tuple[EventClassifier, list[str]]:
    """The event classifier stored beside a checkpoint, in evaluation mode, and its class names."""
    folder = find_checkpoint(name_or_path)
    classes = read_config(folder)["classes"]
    classifier = EventClassifier(len(classes))
    fill_module(classifier, folder / "classifier.safetensors")
    return classifier.eval(), classes


def save_scav(scav: SCAV, folder: Path) -> None:
    """Store a SCAV in a checkpoint folder: scav.safetensors, and its sizes in config.json.

    Raises CheckpointError if the folder holds no checkpoint.
    """
    config = read_config(folder)
    save_module(scav, folder / "scav.safetensors")
    config["scav"] = dataclasses.asdict(scav.config)
    config["scav_sha256"] = sha256(folder / "scav.safetensors")
    write_config(folder, config)


def load_scav(name_or_path: str, device: torch.device | str = "cpu") -> SCAV | None:
    """The SCAV stored in a checkpoint folder, in evaluation mode; None if there is none.

    Raises CheckpointError for an unknown name, and for damaged or foreign weights.
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
    fill_module(scav, file)
    return scav.to(device).eval()


def save_module(module: nn.Module, file: Path, stored: Callable[[str], bool] = lambda name: True) -> None:
    """Write the tensors of a module in half precision; the file appears only when it is complete.

    stored: whether to write the tensor of that name.
    """
    beside = file.with_name(f".{file.stem}.tmp")
    save_file({k: _halved(v) for k, v in module.state_dict().items() if stored(k)}, beside)
    put_in_place(beside, file)


def fill_module(
    module: nn.Module, file: Path, stored: Callable[[str], bool] = lambda name: True, *, prefix: str = ""
) -> None:
    """Load a module's tensors, as float32, from a safetensors file.

    stored: whether the file must hold the tensor of that name; others keep their values. prefix: of the module's
    keys in the file, all other keys are skipped. Raises CheckpointError for a damaged file or one of another module.
    """
    try:
        with safe_open(file, "pt") as tensors:
            state = {
                key.removeprefix(prefix): tensors.get_tensor(key)
                for key in tensors.keys()  # noqa: SIM118
                if key.startswith(prefix)
            }
        state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
        own = module.state_dict()
        module.load_state_dict({k: v for k, v in own.items() if not stored(k)} | state)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{file} cannot be loaded: {error}") from error


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Replace config.json of a checkpoint in one step."""
    beside = folder / ".config.tmp"
    beside.write_text(json.dumps(config, indent=2) + "\n")
    put_in_place(beside, folder / "config.json")


def _halved(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() else tensor
