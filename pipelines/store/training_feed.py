"""Training batches from a feature store: the rows to train on and to validate with, read ahead by Ray Data.

`open_feeds` chooses the rows, `pipelines.store.shards` puts them in order, `batches` reads them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.media.errors import first_line
from pipelines.store.shards import Feed, Shard
from pipelines.store.small_columns import small_columns
from pipelines.store.store import Store, StoreError
from v2a_models.recipe import Recipe

TASK_BYTES = 16 << 20
"""Small groups are read together, so that a tiny store does not mean a task for every batch."""
BLOCK_BYTES = 8 << 20
LEG = 256
"""Reading tasks planned at a time."""
READ_CPUS = 0.1
"""CPUs that a reading task books: training has booked nearly all, and more would wait for ever."""
HELD_OUT = 20
"""One video in this many is kept from training, in a store without the split `val`."""

Rows = dict[str, np.ndarray]


PER_VIDEO_FRACTION = 0.8
"""Fraction of each video to train on under the per-video protocol (arXiv 2308.12408, section IV)."""


def open_feeds(
    store: Store, columns: Sequence[str], seed: int, protocol: str = "splits"
) -> tuple[Feed, Feed]:
    """Feeds to train on and to validate with. `splits`: the splits `train` and `val`; without a `val`, a twentieth
    of the videos of `train`, chosen by hash. `per-video`: of every video in these splits the windows that end within
    its first four fifths, and those that begin after them.

    Raises StoreError: no store, another recipe among its files, a missing column, an empty split.
    """
    recipe = store.recipe()
    files = store.files()
    with ThreadPoolExecutor(16) as pool:
        facts = list(pool.map(partial(_row_facts, recipe=recipe, columns=tuple(columns)), files))
    by_split: dict[str, list[int]] = {}
    for at, info in enumerate(files):
        if facts[at][0]:
            by_split.setdefault(info.path.split("/", 1)[0].removeprefix("split="), []).append(at)
    if "train" not in by_split:
        splits = ", ".join(by_split) or "no rows at all"
        raise StoreError(
            f"{store.root} has no rows to train on: its split `train` is empty (there: {splits}); "
            "run v2a extract, if needed with other --splits"
        )
    row_bytes = max(bytes_ for _, bytes_ in facts)

    def feed(ats: Sequence[int], rows: Sequence[np.ndarray]) -> Feed:
        nonempty = [(files[at].path, r) for at, r in zip(ats, rows, strict=True) if len(r)]
        paths, numbers = (tuple(part) for part in zip(*nonempty, strict=True)) if nonempty else ((), ())
        return Feed(store.root, tuple(columns), paths, numbers, row_bytes, seed)

    train = by_split["train"]
    if protocol == "per-video":
        both = train + by_split.get("val", [])
        early, late = _first_and_last(store, [files[at] for at in both])
        return feed(both, early), feed(both, late)
    if "val" in by_split:
        all_rows = [[np.arange(facts[at][0]) for at in ats] for ats in (train, by_split["val"])]
        return feed(train, all_rows[0]), feed(by_split["val"], all_rows[1])
    held = _held_out(store, [files[at] for at in train])
    return (
        feed(train, [np.flatnonzero(~chosen) for chosen in held]),
        feed(train, [np.flatnonzero(chosen) for chosen in held]),
    )


def _row_facts(info: storage.FileInfo, recipe: Recipe, columns: tuple[str, ...]) -> tuple[int, int]:
    """Rows of a file, and bytes of one."""
    try:
        with storage.reading(info.uri) as opened, pq.ParquetFile(opened) as file:
            kind, n = file.schema_arrow, file.metadata.num_rows
    except pa.ArrowException as error:
        raise StoreError(f"{info.uri} is damaged ({first_line(error)}); v2a extract recreates it") from error
    missing = [name for name in columns if name not in kind.names]
    if missing:
        raise StoreError(f"{info.uri} has no {', '.join(missing)}, which this model trains on")
    text = (kind.metadata or {}).get(b"v2a_recipe")
    try:
        embedded = None if text is None else Recipe.from_dict(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise StoreError(
            f"{info.uri}: the recipe in its metadata is damaged ({first_line(error)})"
        ) from error
    if embedded != recipe:
        other = "no recipe" if embedded is None else f"the recipe {embedded.name} ({embedded.digest})"
        raise StoreError(f"{info.uri} has {other}, its store {recipe.name} ({recipe.digest})")
    return n, sum(_bytes(kind.field(name).type) for name in columns)


TEXT_BYTES = 128
"""Estimate for a text, which is small beside any array."""


def _bytes(kind: Any) -> int:
    """Bytes of one value of a column."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return int(np.prod(kind.shape)) * kind.value_type.bit_width // 8
    return TEXT_BYTES


def _held_out(store: Store, files: Sequence[storage.FileInfo]) -> list[np.ndarray]:
    """bool per row of each file: kept from training. By video, so that no footage is on both sides."""
    named = [small_columns(info, ["video_id", "clip_id"]) for info in files]
    by = "video_id" if len({v for table in named for v in table["video_id"].to_pylist()}) > 1 else "clip_id"
    names = [table[by].to_pylist() for table in named]
    digests = {name: hashlib.sha256(name.encode()).digest() for table in names for name in table}
    if len(digests) < 2:
        raise StoreError(f"{store.root} has only one window, which leaves none for validation")
    chosen = {name for name, digest in digests.items() if int.from_bytes(digest[:8], "big") % HELD_OUT == 0}
    if not chosen or len(chosen) == len(digests):
        chosen = {min(digests, key=digests.__getitem__)}
    return [np.array([name in chosen for name in table]) for table in names]


def _first_and_last(
    store: Store, files: Sequence[storage.FileInfo]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rows of each file within the first `PER_VIDEO_FRACTION` of their video, and rows after it.

    Windows across the border belong to neither.
    """
    names = ["video_id", "start_s", "duration_s"]
    tables = [small_columns(info, names).to_pylist() for info in files]
    ends: dict[str, float] = {}
    for row in (row for table in tables for row in table):
        end_s = row["start_s"] + row["duration_s"]
        ends[row["video_id"]] = max(ends.get(row["video_id"], 0.0), end_s)
    early, late = [], []
    for table in tables:
        borders = np.array([PER_VIDEO_FRACTION * ends[row["video_id"]] for row in table])
        starts = np.array([row["start_s"] for row in table])
        lengths = np.array([row["duration_s"] for row in table])
        early.append(np.flatnonzero(starts + lengths <= borders + 1e-6))
        late.append(np.flatnonzero(starts >= borders - 1e-6))
    for rows, part in ((early, "within the first four fifths"), (late, "within the last fifth")):
        if not sum(map(len, rows)):
            raise StoreError(
                f"no window of {store.root} lies {part} of its video: extract shorter windows or longer videos for "
                "--protocol per-video"
            )
    return early, late


# reading


def read_rows(feed: Feed, picks: np.ndarray) -> Rows:
    """The columns and `clip_id` of the rows `picks` (n, 2), in that order.

    Raises StoreError, naming the file, if one cannot be read.
    """
    names = [*feed.columns, "clip_id"]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    places = []
    for file in np.unique(picks[:, 0]).tolist():
        at = np.flatnonzero(picks[:, 0] == file)
        columns = _read_rows(storage.join(feed.root, *feed.paths[file].split("/")), names, picks[at, 1])
        places.append(at)
        for name in names:
            parts[name].append(columns[name])
    back = np.argsort(np.concatenate(places))
    return {name: np.concatenate(arrays)[back] for name, arrays in parts.items()}


def _read_rows(uri: str, names: Sequence[str], rows: np.ndarray) -> Rows:
    try:
        with storage.reading(uri) as opened, pq.ParquetFile(opened) as file:
            counts = [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)]
            ends = np.cumsum(counts)
            groups = np.unique(np.searchsorted(ends, rows, side="right")).tolist()
            table = file.read_row_groups(groups, columns=list(names), use_threads=False)
        starts = np.concatenate([np.arange(ends[g] - counts[g], ends[g]) for g in groups])
        table = table.take(pa.array(np.searchsorted(starts, rows)))
    except (pa.ArrowException, storage.StorageNotFound, IndexError) as error:
        raise StoreError(f"{uri} cannot be read ({first_line(error)})") from error
    return {name: _array(table[name].combine_chunks()) for name in names}


def _array(column: Any) -> np.ndarray:
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    if isinstance(column, pa.FixedShapeTensorArray):
        return column.to_numpy_ndarray()
    return np.array(column.to_pylist(), dtype=object)


def batches(shard: Shard, size: int, position: int, n_batches: int) -> Iterator[Rows]:
    """`n_batches` times `size` rows of a shard from `position` on, read ahead by Ray Data; batches run on over the
    ends of epochs. Must run in a Ray worker or driver."""
    waiting: list[Rows] = []
    held = 0
    left = n_batches
    for block in _blocks(shard, position, n_batches * size):
        waiting.append(block)
        held += len(block["clip_id"])
        while held >= size and left:
            joined = waiting[0] if len(waiting) == 1 else _join(waiting)
            yield {name: array[:size] for name, array in joined.items()}
            waiting, held, left = [{n: a[size:] for n, a in joined.items()}], held - size, left - 1


def _join(blocks: Sequence[Rows]) -> Rows:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _blocks(shard: Shard, position: int, n_rows: int) -> Iterator[Rows]:
    """At least `n_rows` rows in order."""
    items = _items(shard, position, n_rows)
    while leg := [item for _, item in zip(range(LEG), items, strict=False)]:
        yield from _run([json.dumps(item) for item in leg], partial(_read_item, shard))


def _items(shard: Shard, position: int, n_rows: int) -> Iterator[list[tuple[int, int, int]]]:
    """Reading tasks: lists of (epoch, group, rows of it to skip)."""
    epoch, skip = shard.locate(position)
    least = max(1, TASK_BYTES // max(1, shard.feed.row_bytes))
    item: list[tuple[int, int, int]] = []
    gathered = 0
    while n_rows > 0:
        for at, group in enumerate(shard.groups(epoch)):
            n = len(group) - skip
            if n <= 0:
                skip -= len(group)
                continue
            item.append((epoch, at, skip))
            skip, gathered, n_rows = 0, gathered + n, n_rows - n
            if gathered >= least or n_rows <= 0:
                yield item
                item, gathered = [], 0
            if n_rows <= 0:
                return
        epoch += 1


def _read_item(shard: Shard, batch: dict[str, np.ndarray]) -> Iterator[Rows]:
    for epoch, at, skip in json.loads(str(batch["item"][0])):
        yield from _in_blocks(shard.feed, shard.groups(epoch)[at][skip:])


def _in_blocks(feed: Feed, picks: np.ndarray) -> Iterator[Rows]:
    rows = read_rows(feed, picks)
    step = max(1, BLOCK_BYTES // max(1, feed.row_bytes))
    for start in range(0, len(picks), step):
        yield {name: array[start : start + step] for name, array in rows.items()}


def _run(items: Sequence[str], read: Any) -> Iterator[Rows]:
    import ray.data

    planned = ray.data.from_items([{"item": item} for item in items], override_num_blocks=len(items))
    planned.context.execution_options.preserve_order = True
    planned.context.enable_progress_bars = False
    planned.context.print_on_execution_start = False
    reading = planned.map_batches(read, batch_size=1, num_cpus=READ_CPUS, concurrency=min(2, len(items)))
    yield from reading.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=2)


def data_config() -> Any:
    """The `ray.train.DataConfig` that gives every worker its `Shard` of each `Feed`, whatever their number."""
    from ray.train import DataConfig

    class Sharding(DataConfig):
        def configure(self, datasets: Any, world_size: int, *args: Any, **more: Any) -> list[dict[str, Any]]:
            return [
                {name: feed.shard(rank, world_size) for name, feed in datasets.items()}
                for rank in range(world_size)
            ]

    return Sharding()
