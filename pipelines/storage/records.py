"""v2a's own records in an output: what cannot be read is set aside, and can be made again.

What is set aside keeps its content under another name beside the old one. Notices about it are kept for the process
until somebody takes them: workers send theirs to the driver, which prints them.
"""

from __future__ import annotations

import errno
import json
import os
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from pipelines.storage.files import copy, delete, exists, reading, sync_folder, write_atomic
from pipelines.storage.uri import (
    StorageDenied,
    StorageError,
    StorageNotFound,
    StorageRefused,
    is_remote,
    join,
    local_path,
    translated,
)

T = TypeVar("T")

BROKEN = ".broken"
"""Suffix of what was set aside; further ones at the same place are `.broken.2`, `.broken.3`, ..."""

NOTICES_KEPT = 1000

LARGEST_JSON = 64 << 20
"""Bytes of a JSON record that are read; the row of a film with the captions of ten hours has a tenth of it."""

_notices: deque[str] = deque(maxlen=NOTICES_KEPT)


def set_aside(uri: str, reason: object, rename: bool = True, to: str = "") -> str:
    """Rename the file at `uri`, or a local folder, to a name with `BROKEN` that is free, and keep a notice with the
    reason. Its new address; empty if nothing is there any more.

    rename: False only to keep the notice, for commands that write nothing. to: another place for it than beside.
    Raises StorageError.
    """
    if not rename:
        notice(f"{uri} cannot be read ({reason}): it will be set aside and made again")
        return uri
    number = 1
    while True:
        place = (to or uri) + BROKEN + (f".{number}" if number > 1 else "")
        try:
            moved = _move_copy(uri, place) if is_remote(uri) else _move_local(local_path(uri), place)
        except StorageNotFound:
            return ""  # another process was quicker
        if moved:
            name = place if to else place.rpartition("/")[2]
            notice(f"{uri} cannot be read ({reason}): set aside as {name}, and made again")
            return place
        number += 1


def notice(text: str) -> None:
    """Keep a notice for whoever takes them next in this process."""
    _notices.append(text)


def take_notices() -> list[str]:
    """Notices of this process since the last call."""
    taken = list(_notices)
    _notices.clear()
    return taken


def clear_way(root: str, uri: str) -> bool:
    """Set aside what lies where a file `uri` below the local folder `root` must be written: a folder of its name, or a
    file where one of its parent folders belongs. True if there was something."""
    if is_remote(uri):
        return False
    top, path = local_path(root), local_path(uri)
    if os.path.isdir(path) and not os.path.islink(path):
        return bool(set_aside(path, "a folder has the name of a file"))
    folder, found = os.path.dirname(path), False
    while folder.startswith(top) and folder != os.path.dirname(top):
        if os.path.lexists(folder) and not os.path.isdir(folder):
            found |= bool(set_aside(folder, "a file has the name of a folder"))
        folder = os.path.dirname(folder)
    return found


def set_aside_strangers(
    root: str, folders: tuple[str, ...], files: tuple[str, ...], nested: tuple[str, ...] = ()
) -> None:
    """Set aside what has the wrong kind in a local folder of records: a file with one of the names of its `folders` or
    `nested` folders, a folder with one of the names of its `files`, a folder inside one of its `folders`, or a file
    inside a `nested` one, which holds nothing but folders."""
    if is_remote(root) or not os.path.isdir(local_path(root)):
        return
    for name in files:
        clear_way(root, join(root, name))
    for name in (*folders, *nested):
        folder = local_path(join(root, name))
        if not os.path.isdir(folder):
            clear_way(root, join(root, name, "any"))
            continue
        with translated(folder), os.scandir(folder) as entries:
            strangers = [
                entry.path
                for entry in entries
                if entry.is_dir(follow_symlinks=False) != (name in nested) and BROKEN not in entry.name
            ]
        for place in strangers:
            set_aside(place, f"a {'file' if name in nested else 'folder'} has its name")


def _move_local(path: str, place: str) -> bool:
    """Rename without replacing anything; False if the name is taken."""
    place = local_path(place)
    with translated(path):
        if os.path.lexists(place):
            return False
        os.makedirs(os.path.dirname(place), exist_ok=True)
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                os.rename(path, place)  # replaces an empty folder at most
            else:
                os.link(path, place, follow_symlinks=False)  # never replaces, unlike a rename
                os.unlink(path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise
            os.rename(path, place)  # a file system without links
        sync_folder(os.path.dirname(place))
    return True


def _move_copy(uri: str, place: str) -> bool:
    if exists(place):
        return False
    copy(uri, place)
    delete(uri)
    return True


def read_object(uri: str) -> dict[str, Any]:
    """The JSON object in a file of at most `LARGEST_JSON` bytes. Raises ValueError for any other content,
    StorageError."""
    with reading(uri) as file:
        data = file.read(LARGEST_JSON + 1)
    if len(data) > LARGEST_JSON:
        raise ValueError(f"larger than {LARGEST_JSON} bytes")
    try:
        values = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return values


class Records:
    """Records in one folder. Small and picklable: it holds only the address.

    mends: False to leave what cannot be read where it is, for commands that write nothing.
    """

    def __init__(self, root: str, mends: bool = True) -> None:
        self.root, self.mends = root, mends

    def uri(self, *parts: str) -> str:
        """Address of something in the folder."""
        return join(self.root, *parts)

    def read(self, uri: str, read: Callable[[], T], missing_ok: bool = True, to: str = "") -> T | None:
        """The result of `read` for the file at `uri`; None if that is impossible, and the file is set aside.

        None as well if there is no file and `missing_ok`; otherwise StorageNotFound. to: as for `set_aside`.
        Raises StorageError for storage that does not answer.
        """
        try:
            return read()
        except StorageNotFound:
            if missing_ok:
                return None
            raise
        except (StorageRefused, StorageDenied) as error:
            # On S3, a refusal concerns the credentials and not the content.
            if is_remote(uri):
                raise
            reason: Exception = error
        except (StorageError, MemoryError):
            raise
        except Exception as error:
            reason = error
        words = (str(reason).strip().splitlines() or [type(reason).__name__])[0]
        set_aside(uri, words[:200], rename=self.mends, to=to)
        return None

    def read_json(self, uri: str, parse: Callable[[dict[str, Any]], T], missing_ok: bool = True) -> T | None:
        """`read` of a JSON object of at most `LARGEST_JSON` bytes. `parse` raises ValueError for another kind."""

        return self.read(uri, lambda: parse(read_object(uri)), missing_ok)

    def write(self, uri: str, data: bytes) -> None:
        """Write a file atomically, whatever lies in its way."""
        try:
            write_atomic(uri, data)
        except StorageRefused:
            if not clear_way(self.root, uri):
                raise
            write_atomic(uri, data)
