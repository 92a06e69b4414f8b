"""The files of a checkpoint: where they are and what they say. Loads no torch, so that a command starts at once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

BUNDLED = Path(__file__).parent / "weights"
"""Folders here can be named without a path: `mini`."""


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


def read_config(folder: Path) -> dict[str, Any]:
    """What config.json says. Raises CheckpointError."""
    try:
        return json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}/config.json cannot be read: {error}") from error


def paints(config: dict[str, Any]) -> bool:
    """Whether a checkpoint's model makes codec tokens that can be painted between others (`Generator.paints`)."""
    # Checkpoints that were written before there was such a thing do not say.
    return bool(config.get("paints", str(config.get("system", "")).startswith(("maskvat", "vatt"))))


def checked_sha256(folder: Path, config: dict[str, Any]) -> str:
    """sha256 of model.safetensors. Raises CheckpointError if it is not the one that config.json names."""
    digest = sha256(folder / "model.safetensors")
    if digest != config.get("sha256"):
        raise CheckpointError(
            f"{folder}/model.safetensors has sha256 {digest[:16]}…, config.json says "
            f"{str(config.get('sha256'))[:16]}…: the file is truncated or belongs to another model; copy it again"
        )
    return digest


def sha256(file: Path) -> str:
    """Hex digest of a file. Raises CheckpointError if it is missing."""
    if not file.is_file():
        raise CheckpointError(f"{file} is missing")
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
