"""Checks before anything is written: is the folder writable, and can a file have this name there?"""

from __future__ import annotations

import os
import secrets

from pipelines.storage.files import delete, makedirs, write_atomic
from pipelines.storage.listing import is_dir
from pipelines.storage.uri import (
    TEMPORARY_PREFIX,
    StorageDenied,
    StorageError,
    StorageRefused,
    is_remote,
    join,
    key,
    local_path,
)

KEY_BYTES = 1024
"""Longest key of an S3 object, in bytes."""

NAME_BYTES = 255
"""Longest name of a file, in bytes, if the file system does not report it."""


def check_writable(root: str) -> None:
    """Check that files can be written below `root`, which is created if missing. Raises StorageError with the fix."""
    # The same key on S3 every time, so that the next run removes the probe of a killed one.
    unique = "probe" if is_remote(root) else f"{os.getpid()}-{secrets.token_hex(4)}"
    probe = join(root, f"{TEMPORARY_PREFIX}{unique}")
    try:
        if not is_remote(root) and os.path.exists(local_path(root)) and not is_dir(root):
            raise StorageError(f"{local_path(root)} is a file")
        makedirs(root)
        write_atomic(probe, b"v2a")
        delete(probe, missing_ok=True)
    except StorageError as error:
        raise StorageError(
            f"cannot write to {root}: {error} (make it writable or choose another output folder)"
        ) from error


def name_limit(folder: str) -> int:
    """Longest name of a file in a folder, in bytes; on S3, the rest of the key."""
    if is_remote(folder):
        return KEY_BYTES - len(f"{_key_in_bucket(folder).rstrip('/')}/".lstrip("/").encode())
    here = _existing(local_path(folder))
    try:
        return os.pathconf(here, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return NAME_BYTES


def check_name(uri: str) -> None:
    """Check, without writing, that a file can have the name `uri`.

    Raises StorageRefused or StorageDenied, with the fix.
    """
    if is_remote(uri):
        if (n := len(_key_in_bucket(uri).encode())) > KEY_BYTES:
            raise StorageRefused(
                f"cannot write {uri}: its key has {n} bytes, and S3 allows {KEY_BYTES}; rename the film, or choose an "
                "OUT with a shorter prefix"
            )
        return
    path = local_path(uri)
    if os.path.isdir(path) and not os.path.islink(path):
        raise StorageRefused(f"cannot write {path}: a folder has that name; move it away, or rename the film")
    here = _existing(os.path.dirname(path))
    if not os.path.isdir(here):
        raise StorageRefused(
            f"cannot write {path}: {here} is a file, and a folder is needed there; move it away, or rename the film's "
            "folder"
        )
    limit = name_limit(here)
    for name in os.path.relpath(path, here).split(os.sep):
        if (n := len(os.fsencode(name))) > limit:
            raise StorageRefused(
                f"cannot write {path}: the name {name} has {n} bytes, and the limit there is {limit}; rename it"
            )
    if not os.access(here, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise StorageDenied(f"cannot write {path}: no permission in {here}; make that folder writable")


def _key_in_bucket(uri: str) -> str:
    return key(uri).partition("/")[2]


def _existing(path: str) -> str:
    """The path, or its nearest parent that exists."""
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path
