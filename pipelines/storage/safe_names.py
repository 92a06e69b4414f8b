"""Names that the file system of a folder takes: others are made legal.

exFAT, SMB and other file systems refuse characters, endings or whole names that this one allows, or quietly change
them. A name that could be such is tried in an empty folder, once; usual names cost nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import unicodedata

from pipelines.storage.name_checks import NAME_BYTES
from pipelines.storage.uri import TEMPORARY_PREFIX, is_remote, local_path

_REFUSED = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')
"""Characters that some file system refuses."""

_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])[ ]*(\..*)?", re.IGNORECASE | re.DOTALL
)
"""Names of devices, with any suffix."""

LONGEST_SUFFIX = 16
"""Bytes of the longest suffix that stays when a name is cut."""


class SafeNames:
    """Names for the files below a folder. tries: False to take all names as they are, without writing anything."""

    def __init__(self, root: str, tries: bool = True) -> None:
        self._root = "" if is_remote(root) or not tries else local_path(root)
        self._good: set[str] = set()
        """Characters that the file system takes."""
        self._safe: dict[str, str] = {}
        """Names that were tried, and the safe ones in their place."""

    def path(self, path: str) -> str:
        """The relative path with every name that is refused made legal; no longer than before, but for a character in
        front of a device's name."""
        return "/".join(map(self._name, path.split("/"))) if self._root else path

    def _name(self, name: str) -> str:
        unknown = {c for c in name if not (c.isascii() and not _REFUSED.match(c))} - self._good
        ends = name != name.rstrip(" .") or _RESERVED.fullmatch(name)
        if not (unknown or ends):
            return name
        if name not in self._safe:
            if self._takes(name):
                self._good |= unknown
                self._safe[name] = name
            else:
                choices = (legal(name), legal(name, ascii_only=True))
                self._safe[name] = next(filter(self._takes, choices), name)
        return self._safe[name]

    def _takes(self, name: str) -> bool:
        """True if a file can have that name, and has it afterwards; also where nothing can be tried."""
        try:
            folder = tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{os.getpid()}-", dir=self._root)
        except OSError:
            return True  # whoever writes there will find out
        try:
            with contextlib.suppress(OSError, ValueError):
                create(os.path.join(folder, name))
                return [_composed(each) for each in os.listdir(folder)] == [_composed(name)]
            return False
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def create(path: str) -> None:
    """Create an empty file. Raises OSError."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))


def legal(name: str, *, ascii_only: bool = False) -> str:
    """The name without what some file system refuses; with `ascii_only`, without other letters, and cut to a length
    that all of them take."""
    name = _REFUSED.sub("_", name)
    if ascii_only:
        stem, suffix = os.path.splitext(re.sub(r"[^\x20-\x7e]", "_", name))
        if len(suffix) > LONGEST_SUFFIX:
            stem, suffix = stem + suffix, ""
        name = stem[: NAME_BYTES - LONGEST_SUFFIX] + suffix
    kept = name.rstrip(" .")
    name = kept + "_" * (len(name) - len(kept))
    return f"_{name}" if _RESERVED.fullmatch(name) else name


def _composed(name: str) -> str:
    # Some file systems store characters decomposed, and find them in either form.
    return unicodedata.normalize("NFC", name)
