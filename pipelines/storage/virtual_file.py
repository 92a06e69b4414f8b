"""Files that exist only while they are read: several as one, sequences of pictures, what another process reads."""

from __future__ import annotations

import io


class VirtualFile(io.RawIOBase):
    """A seekable file for reading, without its bytes: a subclass gives them, from the position `_at` on.

    size: bytes of the file.
    """

    def __init__(self, size: int) -> None:
        self._size, self._at = size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position, which may lie behind the end. Raises ValueError for one before the start."""
        at = offset + (0, self._at, self._size)[whence]
        if at < 0:
            raise ValueError("before the start of the file")
        self._at = at
        return at
