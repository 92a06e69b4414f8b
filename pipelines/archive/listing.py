"""The listing of an archive, counted as it is read, and the type of functions that examine a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.archive.selection import Selection
    from pipelines.sandbox.decoder import Sandbox
    from pipelines.storage import FileInfo

    Examine = Callable[[FileInfo, Sandbox], dict[str, Any]]
    """Makes the row of a file, as `scan.scan_file` does."""


class Listing:
    """Names of a selection as they arrive, counted. If storage breaks the listing off, it ends and `error` has the
    reason; only an archive that cannot be listed at all raises StorageError."""

    def __init__(self, selection: Selection) -> None:
        self.selection, self.n, self.over, self.error = selection, 0, False, ""

    def __iter__(self) -> Iterator[FileInfo]:
        from pipelines import storage

        try:
            for info in self.selection:
                self.n += 1
                yield info
        except storage.StorageError as error:
            if not self.n:
                raise
            self.error = f"the listing of {self.selection.root} failed after {self.n} files: {error}"
        self.over = True
