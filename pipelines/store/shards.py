"""Order of training: which worker gets which rows of a store, in which order, from which point on.

The order is a pure function of (seed, epoch, number of workers). No sampler has a state, and a run goes on at "so many
rows consumed" without reading the rows before.

- Files are cut into spans of rows, enough for every worker even where files are few.
- Each epoch deals the shuffled spans anew: shards are about equal, and every row goes to one worker.
- A worker takes its spans in groups of up to `MIX_BYTES` and shuffles the rows within a group.
- A worker whose shard ends goes straight on with its shard of the next epoch: uneven shards keep nobody waiting.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

MIX_BYTES = 256 << 20
"""Bytes of rows that are shuffled among each other, and held by one reading task."""
PARTS = 4
"""Minimum of spans per worker, where there are rows enough: with more, shards come out more alike."""


@dataclass(frozen=True, eq=False)
class Feed:
    """Rows of one store: which files, and which rows of each. Small and picklable."""

    root: str
    columns: tuple[str, ...]
    paths: tuple[str, ...]
    rows: tuple[np.ndarray, ...]
    """Numbers of the rows that belong to this feed, one array per file."""
    row_bytes: int
    seed: int = 0

    def __len__(self) -> int:
        return sum(map(len, self.rows))

    def shard(self, rank: int, world: int) -> Shard:
        """Rows for one of `world` workers. Raises ValueError for more workers than rows."""
        if len(self) < world:
            raise ValueError(f"{len(self)} rows for {world} workers")
        return Shard(self, rank, world)

    def spread(self, n: int) -> np.ndarray:
        """int64 (n', 2): file and row of at most `n` rows, evenly over the feed, always the same."""
        picks = _pairs(self, [(f, 0, len(r)) for f, r in enumerate(self.rows)])
        return picks[np.unique(np.linspace(0, len(picks) - 1, min(n, len(picks))).round().astype(int))]


@dataclass(frozen=True, eq=False)
class Shard:
    """The rows of one worker, an endless sequence over the epochs."""

    feed: Feed
    rank: int
    world: int

    def groups(self, epoch: int) -> list[np.ndarray]:
        """Each int64 (n, 2), file and row: what is read together, in the order in which it is trained on."""
        spans = _deal(self.feed, self.world, epoch)[self.rank]
        most = max(1, MIX_BYTES // max(1, self.feed.row_bytes))
        groups: list[list[tuple[int, int, int]]] = []
        gathered: list[tuple[int, int, int]] = []
        n = 0
        for span in spans:
            if gathered and n + span[2] - span[1] > most:
                groups.append(gathered)
                gathered, n = [], 0
            gathered.append(span)
            n += span[2] - span[1]
        groups.append(gathered)
        rng = np.random.default_rng([self.feed.seed, epoch, self.rank, 1])
        return [rng.permutation(_pairs(self.feed, group)) for group in groups]

    def size(self, epoch: int) -> int:
        """Rows of this worker in an epoch."""
        return sum(stop - start for _, start, stop in _deal(self.feed, self.world, epoch)[self.rank])

    def locate(self, position: int) -> tuple[int, int]:
        """Epoch, and rows consumed in it, after `position` rows in all."""
        epoch = 0
        while position >= (size := self.size(epoch)):
            position, epoch = position - size, epoch + 1
        return epoch, position


def _cut(feed: Feed, world: int) -> list[tuple[int, int, int]]:
    """(file, start, stop) into the file's rows: at least PARTS * world spans where there are rows enough."""
    total, n_spans = len(feed), PARTS * world
    spans = []
    for file, rows in enumerate(feed.rows):
        pieces = min(len(rows), max(1, -(-n_spans * len(rows) // total)))
        # A whole group of rows must not come from one file.
        largest = max(1, MIX_BYTES // 4 // max(1, feed.row_bytes))
        pieces = max(pieces, -(-len(rows) // largest))
        bounds = np.linspace(0, len(rows), pieces + 1).round().astype(int).tolist()
        spans += [(file, a, b) for a, b in pairwise(bounds) if b > a]
    return spans


@lru_cache(maxsize=4)
def _deal(feed: Feed, world: int, epoch: int) -> list[list[tuple[int, int, int]]]:
    """The spans of each worker, in order: shuffled, and each given to who has least so far."""
    spans = _cut(feed, world)
    order = np.random.default_rng([feed.seed, epoch]).permutation(len(spans))
    hands: list[list[tuple[int, int, int]]] = [[] for _ in range(world)]
    loads = [(0, rank) for rank in range(world)]
    for at in order.tolist():
        span = spans[at]
        load, rank = loads[0]
        hands[rank].append(span)
        heapq.heapreplace(loads, (load + span[2] - span[1], rank))
    return hands


def _pairs(feed: Feed, spans: Sequence[tuple[int, int, int]]) -> np.ndarray:
    parts = []
    for file, start, stop in spans:
        rows = feed.rows[file][start:stop].astype(np.int64)
        parts.append(np.stack([np.full_like(rows, file), rows], 1))
    return np.concatenate(parts) if parts else np.zeros((0, 2), np.int64)
