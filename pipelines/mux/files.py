"""The two files of a mux: the untrusted source that FFmpeg reads and the copy that it writes.

FFmpeg gets both as Python file objects, never a name. When one of them fails, FFmpeg loses the reason or carries on;
these classes keep it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from av.container import InputContainer

from pipelines import storage
from pipelines.media import container
from pipelines.storage import hashing


class Source:
    """A file to read from; without a name, so that only the content decides the format."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.rate = file, getattr(file, "rate", "")
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        self.error: storage.StorageError | None = None
        self.parts = getattr(file, "parts", ())
        """Bytes of each of the files that it is made of (`media.joined`)."""
        self._hash = hashing.Running()

    def read(self, n: int = -1) -> bytes:
        """Bytes for FFmpeg, added to the hash. An error is kept in `error` and raised again."""
        try:
            offset = self._file.tell()
            data = self._file.read(n)
        except Exception as error:
            self.error = storage.SourceLost(str(error))
            raise
        self._hash.update(offset, data)
        return data

    def sha256(self, tick: Callable[[], None]) -> str:
        """SHA-256 of the whole file in hex digits; reads the parts that were not read before. Raises SourceLost."""
        try:
            return self._hash.finish(self._file, tick)
        except Exception as error:
            raise storage.SourceLost(str(error)) from error

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def open(self, *, edit_lists: bool = True) -> InputContainer:
        """The container, opened anew. Bytes of its tags that are not text survive the round trip.

        edit_lists: follow the edit lists of mp4.
        """
        self._file.seek(0)
        return container.open_whitelisted(self, metadata_errors="surrogateescape", edit_lists=edit_lists)


class TooLarge(Exception):
    """The output is larger than a copy of its source can be."""


class Sink:
    """An open local file, unbuffered, to write at most `limit` bytes to."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self._limit = file, limit
        self.error: OSError | TooLarge | None = None

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: bytes) -> int:
        """Write all of `data`. An error, or TooLarge beyond the limit, is kept in `error` and raised again."""
        try:
            if self._file.tell() + len(data) > self._limit:
                raise TooLarge(f"the copy would be larger than {self._limit} bytes")
            write_all(self._file, data)
        except (OSError, TooLarge) as error:
            self.error = self.error or error
            raise
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def restart(self) -> None:
        """Discard what was written."""
        self._file.seek(0)
        self._file.truncate()

    def finish(self) -> int:
        """Flush the file to disk; its size in bytes. Raises OSError or TooLarge if any write failed."""
        if self.error is not None:
            raise self.error
        os.fsync(self._file.fileno())
        return self._file.seek(0, os.SEEK_END)


def write_all(file: BinaryIO, data: bytes | bytearray) -> int:
    """Write all of `data` to an unbuffered file; its length. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    return len(data)


def check_disk(output: int) -> None:
    """Raise OSError if a little more cannot be written to the file, whose content is lost anyway."""
    os.lseek(output, 0, os.SEEK_END)
    left = bytes(1 << 20)
    while left:
        left = left[os.write(output, left) :]
    os.fsync(output)


def disk_error(target: Path, error: OSError) -> storage.StorageError:
    """The storage error for an OSError while writing `target`."""
    kind = storage.kind_of(error)
    place = target if kind is storage.StorageRefused else f"in {target.parent}"
    return kind(f"cannot write {place}: {error.strerror or error}")
