"""Checkpoints that Ray Train keeps of a training, and where."""

from __future__ import annotations

import json
from typing import Any

from pipelines import storage

SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Where Ray Train keeps which checkpoints there are."""


def _private(out: str, *parts: str) -> str:
    return storage.join(out, storage.PRIVATE_FOLDER, *parts)


def checkpoints_place(out: str) -> tuple[Any, str]:
    """A pyarrow file system, and the folder in it for the checkpoints of OUT."""
    import pyarrow.fs

    place = _private(out, "train")
    if not storage.is_remote(place):
        return pyarrow.fs.LocalFileSystem(), storage.local_path(place)
    # The same client, with the same credentials and endpoint, as everywhere in the project.
    handler = pyarrow.fs.FSSpecHandler(storage.s3_filesystem())
    return pyarrow.fs.PyFileSystem(handler), place.split("://", 1)[1]


def checkpoint_at(path: str) -> Any:
    """A checkpoint by its address."""
    from ray.train import Checkpoint

    if not storage.is_remote(path):
        return Checkpoint(storage.local_path(path))
    filesystem, _ = checkpoints_place(path)
    return Checkpoint(path.split("://", 1)[1], filesystem=filesystem)


def _run_name(out: str) -> tuple[str, str]:
    """Name of the run to go on with, and a checkpoint to begin it with.

    Ray Train writes its list of checkpoints in place: killed while it does, it leaves a torn one. And who deletes
    a damaged checkpoint leaves a list that names it. A new run then starts from the newest checkpoint there is.
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
    found: list[str] = []
    for number in reversed(runs):
        folder = f"{place}/run{number}"
        inside = filesystem.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True))
        names = {info.base_name for info in inside}
        kept = _listed(filesystem, f"{folder}/{SNAPSHOT}") if SNAPSHOT in names else []
        if kept is not None and set(kept) <= names and (kept or number == runs[-1] == 0):
            if number == runs[-1]:
                _sweep(filesystem, folder, names, set(kept))
                return f"run{number}", ""
            return f"run{runs[-1] + 1}", _address(out, f"run{number}", kept[-1])
        found += [
            _address(out, f"run{number}", name)
            for name in sorted(names, reverse=True)
            if name.startswith("checkpoint_") and name != SNAPSHOT
        ]
        if found:
            return f"run{runs[-1] + 1}", found[0]
    return f"run{runs[-1] + 1}", ""


def _address(out: str, run: str, name: str) -> str:
    return storage.join(_private(out, "train"), run, name)


def _listed(filesystem: Any, path: str) -> list[str] | None:
    """Names of the checkpoints in Ray Train's list, oldest first; None if it is torn."""
    try:
        with filesystem.open_input_file(path) as file:
            found = json.loads(file.read())
        if isinstance(found, str):
            found = json.loads(found)
        return [result["checkpoint_dir_name"] for result in found["checkpoint_results"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sweep(filesystem: Any, folder: str, names: set[str], kept: set[str]) -> None:
    """Removes checkpoints that a killed run had not finished writing."""
    for name in names - kept:
        if name.startswith("checkpoint_") and name != SNAPSHOT:
            filesystem.delete_dir(f"{folder}/{name}")
