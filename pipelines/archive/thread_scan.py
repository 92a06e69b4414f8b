"""Scan of a few files from this process, in threads: the work is done by decoding children."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pipelines.archive import scan
from pipelines.sandbox.decoder import Sandbox

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.archive.listing import Examine
    from pipelines.storage import FileInfo


def scan_in_threads(
    infos: Sequence[FileInfo], num_workers: int | None = None, examine: Examine | None = None
) -> Iterator[pa.Table]:
    """Tables of one row in the order of `infos`, with `num_workers` files at a time (default: one per core)."""
    n = max(1, min(num_workers or os.cpu_count() or 1, len(infos)))
    sandboxes = [Sandbox(threads=1) for _ in range(n)]
    free: queue.SimpleQueue[Sandbox] = queue.SimpleQueue()
    for sandbox in sandboxes:
        free.put(sandbox)

    def one(info: FileInfo) -> dict[str, Any]:
        sandbox = free.get()
        try:
            return (examine or scan.scan_file)(info, sandbox)
        finally:
            free.put(sandbox)

    pool = ThreadPoolExecutor(n, thread_name_prefix="scan")
    try:
        for row in pool.map(one, infos):
            yield scan.to_table([row])
    finally:
        # After Ctrl-C the threads wait for their children: end those first.
        pool.shutdown(wait=False, cancel_futures=True)
        for sandbox in sandboxes:
            sandbox.close()
