"""Folder of a training's checkpoints, and which of them to go on from.

The only module that reads Ray Train's private list of checkpoints; its layout is that of the pinned Ray version.
"""

from __future__ import annotations

import json
from typing import Any

from pipelines import storage

SNAPSHOT = "checkpoint_manager_snapshot.json"
"""File in which Ray Train lists the checkpoints of a run."""


def state_uri(out: str, *parts: str) -> str:
    """Address below the state folder of OUT."""
    return storage.join(out, storage.PRIVATE_FOLDER, *parts)


def checkpoints_place(out: str) -> tuple[Any, str]:
    """A pyarrow file system and the folder in it for the checkpoints of OUT."""
    import pyarrow.fs

    place = state_uri(out, "train")
    if not storage.is_remote(place):
        return pyarrow.fs.LocalFileSystem(), storage.local_path(place)
    # The same client, with the same credentials and endpoint, as everywhere in the project.
    handler = pyarrow.fs.FSSpecHandler(storage.s3_filesystem())
    return pyarrow.fs.PyFileSystem(handler), place.split("://", 1)[1]


def checkpoint_at(path: str) -> Any:
    """Checkpoint of Ray Train at an address."""
    from ray.train import Checkpoint

    if not storage.is_remote(path):
        return Checkpoint(storage.local_path(path))
    filesystem, _ = checkpoints_place(path)
    return Checkpoint(path.split("://", 1)[1], filesystem=filesystem)


def run_to_continue(out: str) -> tuple[str, str]:
    """Name of the run to go on with, and the address of a checkpoint to begin it with (empty for none).

    Ray Train writes its list of checkpoints in place: a kill can leave a torn one, and a list still names a damaged
    checkpoint that the user deleted. A new run then starts from the newest checkpoint that is left.
    """
    import pyarrow.fs

    filesystem, place = checkpoints_place(out)
    listed = filesystem.get_file_info(pyarrow.fs.FileSelector(place, allow_not_found=True))
    runs = sorted(
        int(info.base_name.removeprefix("run"))
        for info in listed
        if info.base_name.removeprefix("run").isdigit()
    )
    if not runs:
        return "run0", ""
    for number in reversed(runs):
        folder = f"{place}/run{number}"
        inside = filesystem.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True))
        names = {info.base_name for info in inside}
        listed_names = _listed(filesystem, f"{folder}/{SNAPSHOT}") if SNAPSHOT in names else []
        if (
            listed_names is not None
            and set(listed_names) <= names
            and (listed_names or number == runs[-1] == 0)
        ):
            if number == runs[-1]:
                _sweep(filesystem, folder, names, set(listed_names))
                return f"run{number}", ""
            return f"run{runs[-1] + 1}", _address(out, f"run{number}", listed_names[-1])
        left = [name for name in names if name.startswith("checkpoint_") and name != SNAPSHOT]
        if left:
            return f"run{runs[-1] + 1}", _address(out, f"run{number}", max(left))
    return f"run{runs[-1] + 1}", ""


def _address(out: str, run: str, name: str) -> str:
    return storage.join(state_uri(out, "train"), run, name)


def _listed(filesystem: Any, path: str) -> list[str] | None:
    """Names of the checkpoints in Ray Train's list, oldest first; None for a torn list."""
    try:
        with filesystem.open_input_file(path) as file:
            snapshot = json.loads(file.read())
        if isinstance(snapshot, str):
            snapshot = json.loads(snapshot)
        return [result["checkpoint_dir_name"] for result in snapshot["checkpoint_results"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sweep(filesystem: Any, folder: str, names: set[str], listed_names: set[str]) -> None:
    """Remove checkpoints that a killed run had not finished writing."""
    for name in names - listed_names:
        if name.startswith("checkpoint_") and name != SNAPSHOT:
            filesystem.delete_dir(f"{folder}/{name}")
