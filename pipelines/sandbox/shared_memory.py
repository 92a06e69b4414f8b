"""Memory that the decoding child fills with pictures and its parent reads: an anonymous file that both map."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import tempfile

import numpy as np

KEPT = 64 << 20
"""Bytes of shared memory that are kept from request to request."""


class SharedMemory:
    """The parent's end of the memory."""

    def __init__(self) -> None:
        self.fd = _anonymous_file()
        self.size = self.used = 0
        self._map: mmap.mmap | None = None

    def prepare(self, size: int) -> np.ndarray:
        """The first `size` bytes, a multiple of the page size, as uint8 [size].

        Arrays from earlier calls stay readable, but their content changes. Raises OSError if there is too little
        memory.
        """
        if size > self.size:
            os.ftruncate(self.fd, size)
            self._map, self.size = mmap.mmap(self.fd, size), size
        elif self.used > size:
            self.trim()
        self.used = size
        return np.frombuffer(self._map or b"", np.uint8, size)

    def trim(self) -> None:
        """Return memory beyond KEPT to the system; arrays there become zero."""
        if self.used > KEPT and self._map is not None and hasattr(mmap, "MADV_REMOVE"):
            with contextlib.suppress(OSError):
                self._map.madvise(mmap.MADV_REMOVE, KEPT, self.used - KEPT)
            self.used = KEPT

    def close(self) -> None:
        # The mapping ends with the last array that refers to it.
        self._map = None
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def halves(size: int) -> tuple[int, int]:
    """(bytes of each half, total bytes) of shared memory for stretches of up to `size` bytes."""
    half = max(1, -(-size // mmap.PAGESIZE)) * mmap.PAGESIZE
    return half, 2 * half


def _anonymous_file() -> int:
    try:
        fd = os.memfd_create("v2a-pictures", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):  # macOS has none
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    # The child may not make files longer. It must not make this one shorter either: a parent that reads beyond the end
    # of the file would be killed by SIGBUS.
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return fd
