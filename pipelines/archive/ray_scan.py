"""Scan of an archive in threads, or as Ray tasks with a bounded window."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.sandbox.decoder import Sandbox
    from pipelines.storage import FileInfo

FEW_FILES = 256
"""Up to so many files are read from this process; starting Ray would take longer."""

FILES_PER_TASK = 16

TASKS_PER_CORE = 4
"""Given to Ray at a time, so that no core waits for the driver."""

TASKS_HELD = 4096
"""Rows come back in the order of the listing: so many tasks at most are done, or wait, behind one that takes long."""

TASK_TRIES = 10
"""For a worker that is lost. What a file does to its decoder is a row, and no try."""

Examine = Callable[["FileInfo", "Sandbox"], dict[str, Any]]
"""Makes the row of a file: `archive.scan_file`, unless something stands in for it."""


class Listing:
    """The names of an archive as they come, counted. Where it breaks off it ends, and `error` says why."""

    def __init__(self, root: str) -> None:
        self.root, self.n, self.over, self.error = root, 0, False, ""

    def __iter__(self) -> Iterator[FileInfo]:
        from pipelines import storage

        try:
            for info in storage.list_tree(self.root):
                self.n += 1
                yield info
        except storage.StorageError as error:
            if not self.n:
                raise
            self.error = f"the listing of {self.root} broke off after {self.n} files: {error}"
        self.over = True


def scan_rows(
    archive_root: str, cpus: int, on_row: Callable[[dict[str, Any]], None] | None = None
) -> list[dict[str, Any]]:
    """Rows of all files, by path, read in parallel tasks of the Ray that is running, while they are listed.

    `on_row` is called for each row as it arrives. Raises StorageError if the archive cannot be listed to its end.
    """
    from pipelines import storage

    listing = Listing(archive_root)
    rows = scan_infos(listing, cpus, on_row)
    if listing.error:
        raise storage.StorageError(listing.error)
    return rows


def scan_infos(
    infos: Iterable[FileInfo], cpus: int, on_row: Callable[[dict[str, Any]], None] | None
) -> list[dict[str, Any]]:
    """Rows of these files, by path, read in parallel tasks of the Ray that is running."""
    rows: list[dict[str, Any]] = []
    for table in _on_ray(infos, cpus, None):
        for row in table.to_pylist():
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return sorted(rows, key=lambda row: str(row["path"]))


def _on_ray(infos: Iterable[FileInfo], cpus: int, examine: Examine | None) -> Iterator[pa.Table]:
    """Tables of rows in the order of `infos`, read in parallel tasks of the Ray that is running.

    Begins with the first names, and asks for more only as tasks end. Ray Data would hold something for every block
    from beginning to end, and give rows in no order.
    """
    import ray

    options: dict[str, Any] = dict(scheduling_strategy="SPREAD", max_retries=TASK_TRIES)
    task: Any = ray.remote(**options)(_scan_files)
    shared = None if examine is None else ray.put(examine)
    ordered: collections.deque[Any] = collections.deque()
    running: set[Any] = set()
    for files in _shares(infos, TASKS_PER_CORE * cpus):
        ordered.append(task.remote(files, shared))
        running.add(ordered[-1])
        while len(running) >= TASKS_PER_CORE * cpus or len(ordered) >= TASKS_HELD:
            ray.wait(list(running) if len(ordered) < TASKS_HELD else [ordered[0]], fetch_local=False)
            running -= set(ray.wait(list(running), num_returns=len(running), timeout=0, fetch_local=False)[0])
            while ordered and ordered[0] not in running:
                yield ray.get(ordered.popleft())
    while ordered:
        yield ray.get(ordered.popleft())


def _shares(infos: Iterable[FileInfo], n: int) -> Iterator[list[FileInfo]]:
    """Names in small tasks: one each at first, so that all cores begin at once, and then more and more."""
    names, given = iter(infos), 0
    while files := list(itertools.islice(names, min(FILES_PER_TASK, 1 + given // n))):
        given += len(files)
        yield files


def _scan_files(files: list[FileInfo], examine: Examine | None) -> pa.Table:
    """Rows about some files, in their order: a Ray task."""
    import pyarrow as pa

    from pipelines.archive import scan
    from pipelines.sandbox.decoder import shared_sandbox

    sandbox = shared_sandbox(threads=1)
    rows = [(examine or scan.scan_file)(info, sandbox) for info in files]
    return pa.Table.from_pylist(rows, schema=scan.SCAN_SCHEMA)
