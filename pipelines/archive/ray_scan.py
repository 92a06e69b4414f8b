"""Scan of an archive as Ray tasks, with a bounded number of them waiting."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pipelines.archive.listing import Listing
from pipelines.archive.selection import Selection

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.archive.listing import Examine
    from pipelines.storage import FileInfo

FILES_PER_TASK = 16

TASKS_PER_CORE = 4
"""Tasks that Ray holds per core, so that no core waits for the driver."""

TASKS_HELD = 4096
"""Tasks, done or waiting, that may stand behind a slow one: rows come back in the order of the listing."""

TASK_TRIES = 10
"""Tries of a task whose worker is lost. A crash of the decoder is a row, not a lost worker."""


def scan_rows(
    archive: str | Selection, cpus: int, on_row: Callable[[dict[str, Any]], None] | None = None
) -> list[dict[str, Any]]:
    """Rows of the files of an archive, or of a selection of them, by path, read by the running Ray while they are
    listed.

    `on_row` is called for each row as it arrives. Raises StorageError if the archive cannot be listed to its end.
    """
    from pipelines import storage

    selection = Selection(archive) if isinstance(archive, str) else archive
    listing, rows = Listing(selection), list[dict[str, Any]]()
    for table in selection.films(listing, lambda infos: scan_on_ray(infos, cpus)):
        _collect(table, rows, on_row)
    rows.sort(key=lambda row: str(row["path"]))
    if listing.error:
        raise storage.StorageError(listing.error)
    return rows


def scan_infos(
    infos: Iterable[FileInfo], cpus: int, on_row: Callable[[dict[str, Any]], None] | None
) -> list[dict[str, Any]]:
    """Rows of these files by path, read by the running Ray."""
    rows: list[dict[str, Any]] = []
    for table in scan_on_ray(infos, cpus):
        _collect(table, rows, on_row)
    return sorted(rows, key=lambda row: str(row["path"]))


def _collect(
    table: pa.Table, rows: list[dict[str, Any]], on_row: Callable[[dict[str, Any]], None] | None
) -> None:
    for row in table.to_pylist():
        rows.append(row)
        if on_row is not None:
            on_row(row)


def scan_on_ray(infos: Iterable[FileInfo], cpus: int, examine: Examine | None = None) -> Iterator[pa.Table]:
    """Tables of rows in the order of `infos`, read by the running Ray.

    Begins with the first names, and asks for more only as tasks end. Ray Data would hold something for every block
    from beginning to end, and give rows in no order.
    """
    import ray

    options: dict[str, Any] = dict(scheduling_strategy="SPREAD", max_retries=TASK_TRIES)
    task: Any = ray.remote(**options)(_scan_files)
    shared = None if examine is None else ray.put(examine)
    ordered: collections.deque[Any] = collections.deque()
    running: set[Any] = set()
    for files in _batches(infos, TASKS_PER_CORE * cpus):
        ordered.append(task.remote(files, shared))
        running.add(ordered[-1])
        while len(running) >= TASKS_PER_CORE * cpus or len(ordered) >= TASKS_HELD:
            ray.wait(list(running) if len(ordered) < TASKS_HELD else [ordered[0]], fetch_local=False)
            running -= set(ray.wait(list(running), num_returns=len(running), timeout=0, fetch_local=False)[0])
            while ordered and ordered[0] not in running:
                yield ray.get(ordered.popleft())
    while ordered:
        yield ray.get(ordered.popleft())


def _batches(infos: Iterable[FileInfo], n: int) -> Iterator[list[FileInfo]]:
    """Names in batches for tasks: of one file at first, so that all cores begin at once, and then of more and more."""
    names, submitted = iter(infos), 0
    while files := list(itertools.islice(names, min(FILES_PER_TASK, 1 + submitted // n))):
        submitted += len(files)
        yield files


def _scan_files(files: list[FileInfo], examine: Examine | None) -> pa.Table:
    """Rows of some files, in their order: the Ray task."""
    import pyarrow as pa

    from pipelines.archive import scan
    from pipelines.sandbox.decoder import shared_sandbox

    sandbox = shared_sandbox(threads=1)
    rows = [(examine or scan.scan_file)(info, sandbox) for info in files]
    return pa.Table.from_pylist(rows, schema=scan.SCAN_SCHEMA)
