"""Find and read the files of a checkpoint. Loads no torch, so commands start at once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

BUNDLED = Path(__file__).parent / "weights"
"""Folder of the bundled checkpoints, which are named without a path, such as `mini`."""


class CheckpointError(ValueError):
    """Missing, damaged or unsuitable checkpoint; the message says what to do."""


class WeightsError(ValueError):
    """Unknown, missing, damaged or unsuitable published weights; the message says what to do."""


def bundled_names() -> list[str]:
    """Names of the bundled checkpoints, sorted."""
    return sorted(p.parent.name for p in BUNDLED.glob("*/config.json"))


def find_checkpoint(name_or_path: str) -> Path:
    """Folder of a checkpoint, given its bundled name or its path.

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
    """Content of config.json. Raises CheckpointError if it cannot be read."""
    try:
        return json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}/config.json cannot be read: {error}") from error


def inpaints(config: dict[str, Any]) -> bool:
    """`Generator.inpaints` of a checkpoint, read from its config."""
    # Older checkpoints lack the key.
    return bool(config.get("paints", str(config.get("system", "")).startswith(("maskvat", "vatt"))))


def checked_sha256(folder: Path, config: dict[str, Any]) -> str:
    """SHA-256 of model.safetensors. Raises CheckpointError if it differs from the one in config.json."""
    digest = sha256(folder / "model.safetensors")
    if digest != config.get("sha256"):
        raise CheckpointError(
            f"{folder}/model.safetensors has sha256 {digest[:16]}…, config.json says "
            f"{str(config.get('sha256'))[:16]}…: the file is truncated or belongs to another model; copy it again"
        )
    return digest


def put_in_place(beside: Path, file: Path) -> None:
    """Give a finished file its name, and bring both to disk: a power cut leaves the old file or the new one."""
    with beside.open("rb") as finished:
        os.fsync(finished.fileno())
    os.replace(beside, file)
    with contextlib.suppress(OSError):  # some network file systems refuse folders
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def sha256(file: Path) -> str:
    """SHA-256 of a file in hex. Raises CheckpointError if the file is missing."""
    if not file.is_file():
        raise CheckpointError(f"{file} is missing")
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
