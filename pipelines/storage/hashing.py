"""SHA-256 of files that are read anyway, without reading them twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

CHUNK = 1 << 20


class Running:
    """SHA-256 of a file that is being read in any order.

    Data goes into the hash if it continues the part that was hashed before. Demuxers jump to an index and back, and
    read the rest in order, so that at the end only the skipped parts remain to be read.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.done = 0
        """Number of bytes, from the start of the file, that were hashed."""

    def update(self, offset: int, data: bytes) -> None:
        """Take `data`, which was read at `offset`."""
        if offset <= self.done < offset + len(data):
            self._hash.update(memoryview(data)[self.done - offset :])
            self.done = offset + len(data)

    def finish(self, file: Any, tick: Callable[[], None] = lambda: None) -> str:
        """Read the rest of the file, an object with `seek` and `read`. Returns the SHA-256 in hex digits."""
        file.seek(self.done)
        while data := file.read(CHUNK):
            self._hash.update(data)
            self.done += len(data)
            tick()
        return self._hash.hexdigest()


def sha256(file: Any, tick: Callable[[], None] = lambda: None) -> str:
    """SHA-256 of an open file in hex digits."""
    return Running().finish(file, tick)
