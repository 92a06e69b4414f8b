"""Find and read the files of a checkpoint. Loads no torch, so commands start at once."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from v2a_models.codec.level import OutputLevel
    from v2a_models.recipe import Recipe

BUNDLED = Path(__file__).parent / "weights"
"""Folder of the bundled checkpoints, which are named without a path, such as `mini`."""

BUNDLED_SHA256 = {
    "mini/config.json": "c4e54fad8713f37edd8e048af95578a95db7609c0fc91fbec127ea1de0768225",
    "vatt-mini/config.json": "af9b63f120752aaed65b5cb79214ea05df09c0ee36ea1152f0780bb14aed5851",
    "mini/classifier.safetensors": "a956ef32645d4ec9552db498ffff05ec2a34fb8a878a303c82fb481f8da47145",
    "mini/model.safetensors": "ba878ed2583f82ba6f4d07fe860a429934d59108d3cd79a81ec33d96ca7f1d15",
    "mini/scav.safetensors": "7d0c17a1be4d25e41c365e412634d7e9786d63133972cda5871e1716c9ff51f3",
    "vatt-mini/classifier.safetensors": "a956ef32645d4ec9552db498ffff05ec2a34fb8a878a303c82fb481f8da47145",
    "vatt-mini/model.safetensors": "f887d57f670b5da4bb8230ac69609d6c52cc88e5687b31e67e465d2ff7e5a06e",
    "vatt-mini/scav.safetensors": "7d0c17a1be4d25e41c365e412634d7e9786d63133972cda5871e1716c9ff51f3",
}
"""SHA-256 of the bundled files, checked before one of them is parsed. `make mini` and `make vatt-mini` make new ones:
put their hashes here."""

CONFIG_BYTES = 4 << 20
"""Largest config.json that is read."""


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
    """Content of config.json. Raises CheckpointError, with the fix, if it is none."""
    file = folder / "config.json"
    check_bundled(file)
    try:
        if file.stat().st_size > CONFIG_BYTES:
            raise ValueError(f"it has more than {CONFIG_BYTES >> 20} MB")
        config = json.loads(file.read_bytes(), parse_constant=_no_number)
        if not isinstance(config, dict):
            raise ValueError("it holds no object")
        for key, kind in dict(
            system=str, name=str, sha256=str, recipe=dict, model=dict, classes=list
        ).items():
            if key in config and not isinstance(config[key], kind):
                raise ValueError(f"{key!r} is no {kind.__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file} cannot be read: {error}; copy the folder of the model again"
        ) from error
    return config


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def read_recipe(folder: Path, config: dict[str, Any]) -> Recipe:
    """Recipe in a config. Raises CheckpointError for values that no model has."""
    from v2a_models.recipe import Recipe

    try:
        return Recipe.from_dict(config["recipe"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{folder}/config.json has no usable recipe: {error!r}; copy the folder of the model again"
        ) from error


def read_level(folder: Path, config: dict[str, Any]) -> OutputLevel:
    """Level of the sound in a config; the default if it names none. Raises CheckpointError for a bad one."""
    from v2a_models.codec.level import OutputLevel

    try:
        return OutputLevel.from_dict(dict(config.get("level", {})))
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}/config.json has no usable level: {error}; copy the folder of the model again"
        ) from error


def check_bundled(file: Path) -> None:
    """Compare a bundled file with its SHA-256 in BUNDLED_SHA256; other files pass. Raises CheckpointError."""
    if file.parent.parent != BUNDLED:
        return
    name = f"{file.parent.name}/{file.name}"
    if not file.is_file():
        raise CheckpointError(f"{file} is missing: install v2a again")
    facts = file.stat()
    if _digest(file, facts.st_size, facts.st_mtime_ns) != BUNDLED_SHA256.get(name):
        raise CheckpointError(
            f"{file} is not the file that v2a was released with: install v2a again. If you trained it yourself, keep "
            f"it in a folder of your own, or put its sha256 into BUNDLED_SHA256 of {Path(__file__).name}"
        )


@functools.lru_cache(maxsize=32)
def _digest(file: Path, size: int, changed_ns: int) -> str:
    return sha256(file)


def inpaints(config: dict[str, Any]) -> bool:
    """`Generator.inpaints` of a checkpoint, read from its config."""
    # Older checkpoints lack the key.
    return bool(config.get("paints", str(config.get("system", "")).startswith(("maskvat", "vatt"))))


def writes_captions(config: dict[str, Any]) -> bool:
    """`Generator.writes_captions` of a checkpoint, read from its config."""
    # Older checkpoints lack the key; all that followed text wrote captions.
    usual = config.get("follows_text", False) or config.get("system") == "vatt-converter"
    return bool(config.get("writes_captions", usual))


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
