"""Tensors for training and validating from the rows of a feature store."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from pipelines.store.shards import Feed
from pipelines.store.training_feed import read_rows

VALIDATED_ROWS = 256
"""Most windows to validate with."""
VALIDATED_BYTES = 512 << 20
"""Most memory for the windows to validate with."""


def to_tensors(rows: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], list[str]]:
    """Columns as a model takes them (numbers as float32, tokens as int64, texts as lists), and the clip of each row."""
    import torch

    tensors: dict[str, Any] = {}
    for name, array in rows.items():
        if name == "clip_id":
            continue
        if array.dtype == object:
            tensors[name] = [str(text or "") for text in array]
        else:
            wide = np.float32 if array.dtype == np.float16 else np.int64 if array.dtype == np.uint16 else None
            tensors[name] = torch.from_numpy(np.array(array, dtype=wide, order="C"))
    return tensors, [str(clip) for clip in rows["clip_id"]]


def validation_picks(feed: Feed) -> np.ndarray:
    """Numbers of the rows to validate with, spread evenly over the split."""
    return feed.spread(min(VALIDATED_ROWS, max(1, VALIDATED_BYTES // max(1, feed.row_bytes))))


def validation_rows(feed: Feed, rank: int, world: int, size: int) -> list[tuple[dict[str, Any], float]]:
    """Validation batches of worker `rank` of `world`: up to `size` windows each, with the number that counts.

    Every worker gets the same number of batches, or a sharded model would wait for ever; a worker without rows for one
    gets a row that counts 0.
    """
    picks = validation_picks(feed)
    parts = np.array_split(picks, world)
    n = -(-max(len(part) for part in parts) // size)
    chunks = [parts[rank][at * size : (at + 1) * size] for at in range(n)]
    return [
        (to_tensors(read_rows(feed, chunk if len(chunk) else picks[:1]))[0], float(len(chunk)))
        for chunk in chunks
    ]


def prefetch(rows: Iterator[Any], convert: Callable[[Any], Any], depth: int = 2) -> Iterator[Any]:
    """Converted items, read and converted by a thread that keeps up to `depth` of them ready."""
    ready: queue.Queue[Any] = queue.Queue(depth)
    ended = threading.Event()

    def put(item: Any) -> bool:
        while not ended.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.5)
                return True
        return False

    def work() -> None:
        try:
            for item in rows:
                if not put((convert(item), None)):
                    return
            put((None, StopIteration()))
        except BaseException as error:  # raised in the thread that uses the rows
            put((None, error))

    threading.Thread(target=work, name="feed", daemon=True).start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        ended.set()


def in_groups(items: Iterator[tuple[Any, Any]], n: int) -> Iterator[tuple[list[Any], list[Any]]]:
    """n pairs at a time, as a list of their first and a list of their second parts."""
    gathered: list[tuple[Any, Any]] = []
    for item in items:
        gathered.append(item)
        if len(gathered) == n:
            yield [a for a, _ in gathered], [b for _, b in gathered]
            gathered = []
