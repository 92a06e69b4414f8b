"""sha256 of files that are read anyway, without reading them twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

CHUNK = 1 << 20


class Running:
    """sha256 of a file while somebody reads it here and there.

    What is read goes into the hash as far as it continues what was hashed before. Demuxers jump to an index and
    back, and read the rest in order: at the end only what they left out is still to be read.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.done = 0
        """Bytes from the start of the file that are hashed."""

    def saw(self, offset: int, data: bytes) -> None:
        """`data` was read at `offset`."""
        if offset <= self.done < offset + len(data):
            self._hash.update(memoryview(data)[self.done - offset :])
            self.done = offset + len(data)

    def finish(self, file: Any, tick: Callable[[], None] = lambda: None) -> str:
        """Read what is left of the file (its `seek` and `read`); the sha256 of all of it, in hex digits."""
        file.seek(self.done)
        while data := file.read(CHUNK):
            self._hash.update(data)
            self.done += len(data)
            tick()
        return self._hash.hexdigest()


def sha256(file: Any, tick: Callable[[], None] = lambda: None) -> str:
    """sha256 of an open file, read as a stream, in hex digits."""
    return Running().finish(file, tick)
