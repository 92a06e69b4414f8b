"""Rows of each worker, their order, and the position to resume from."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.store import shards, tables, training_feed
from pipelines.store.shards import Feed
from pipelines.store.store import Store, StoreError
from pipelines.store.training_feed import open_feeds
from tests.support.train_store import SHAPES, make_store, recipe, row

COLUMNS = ("semantic", "sync", "codes")


def a_feed(counts: list[int], seed: int = 0, row_bytes: int = 100) -> Feed:
    """Files of so many rows; only every second row of them belongs to the feed."""
    rows = tuple(np.arange(0, 2 * n, 2) for n in counts)
    return Feed("store", (), tuple(f"part-{k}" for k in range(len(counts))), rows, row_bytes, seed)


def in_order(feed: Feed, rank: int, world: int, epoch: int) -> list[tuple[int, int]]:
    return [tuple(pick) for group in feed.shard(rank, world).groups(epoch) for pick in group.tolist()]


feeds = st.builds(
    a_feed,
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.integers(0, 3),
    st.sampled_from([100, 8 << 20, 100 << 20]),
)


@given(feeds, st.integers(1, 7), st.integers(0, 5))
def test_every_row_goes_to_one_worker_once_an_epoch(feed: Feed, world: int, epoch: int) -> None:
    world = min(world, len(feed))
    shards = [in_order(feed, rank, world, epoch) for rank in range(world)]
    everything = [(file, int(r)) for file, rows in enumerate(feed.rows) for r in rows]
    assert sorted(pick for shard in shards for pick in shard) == everything
    assert all(shards)
    assert [feed.shard(rank, world).size(epoch) for rank in range(world)] == [len(s) for s in shards]


@given(feeds, st.integers(1, 4), st.integers(0, 3))
def test_the_order_depends_on_seed_and_epoch_only(feed: Feed, world: int, epoch: int) -> None:
    world = min(world, len(feed))
    twin = Feed(feed.root, feed.columns, feed.paths, feed.rows, feed.row_bytes, feed.seed)
    for rank in range(world):
        assert in_order(feed, rank, world, epoch) == in_order(twin, rank, world, epoch)


def test_another_epoch_and_another_seed_have_another_order() -> None:
    feed, other = a_feed([40, 40, 40], seed=0), a_feed([40, 40, 40], seed=1)
    orders = [in_order(feed, 0, 1, 0), in_order(feed, 0, 1, 1), in_order(other, 0, 1, 0)]
    assert len({tuple(order) for order in orders}) == 3
    files = [file for file, _ in orders[0]]
    assert len(set(files[:12])) > 1, "rows of several files are mixed"


@given(feeds, st.integers(1, 4), st.integers(0, 300), st.integers(1, 60))
@settings(max_examples=40)
def test_from_any_position_the_rest_is_the_same(feed: Feed, world: int, position: int, n: int) -> None:
    """The plan from `position` on is the endless sequence without its first `position` rows."""
    shard = feed.shard(0, min(world, len(feed)))

    def planned(start: int, rows: int) -> list[tuple[int, int]]:
        picks: list[tuple[int, int]] = []
        for item in training_feed._items(shard, start, rows):
            for epoch, group, skip in item:
                picks += [tuple(p) for p in shard.groups(epoch)[group][skip:].tolist()]
        return picks

    whole, rest = planned(0, position + n), planned(position, n)
    assert len(rest) >= n
    assert rest[:n] == whole[position : position + n]


def test_big_groups_are_cut_by_memory() -> None:
    feed = a_feed([40] * 6, row_bytes=shards.MIX_BYTES // 30)
    groups = feed.shard(0, 1).groups(0)
    assert max(map(len, groups)) <= 30
    assert all(len({file for file, _ in group.tolist()}) > 1 for group in groups[:-1])


def test_more_workers_than_rows() -> None:
    with pytest.raises(ValueError, match="3 rows for 4 workers"):
        a_feed([3]).shard(0, 4)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("feed") / "store", {"train": [7, 12], "val": [4]})


def check_rows(rows: dict[str, Any]) -> list[str]:
    for at, clip in enumerate(rows["clip_id"]):
        expected = row(int(clip[-4:]))
        for name in COLUMNS:
            assert np.array_equal(rows[name][at], expected[name])
    return [str(clip) for clip in rows["clip_id"]]


def test_rows_are_read_in_the_order_asked_for(store: Store) -> None:
    train, val = open_feeds(store, COLUMNS, 0)
    assert (len(train), len(val)) == (19, 4)
    picks = np.concatenate(train.shard(0, 1).groups(0))
    clips = check_rows(training_feed.read_rows(train, picks))
    assert sorted(clips) == [f"clip-{k:04d}" for k in range(19)]
    backwards = check_rows(training_feed.read_rows(train, picks[::-1]))
    assert backwards == clips[::-1]
    assert check_rows(training_feed.read_rows(val, val.spread(2))) == ["clip-0019", "clip-0022"]


def test_batches_run_over_the_ends_of_epochs(store: Store, ray_session: Any) -> None:
    train, _ = open_feeds(store, COLUMNS, 3)
    shard = train.shard(1, 2)
    read = list(training_feed.batches(shard, 4, 0, 6))
    assert [len(batch["clip_id"]) for batch in read] == [4] * 6
    clips = [clip for batch in read for clip in check_rows(batch)]
    first = shard.size(0)
    assert len(set(clips[:first])) == first
    later = [clip for batch in training_feed.batches(shard, 4, 8, 4) for clip in batch["clip_id"]]
    assert later == clips[8:]


def test_without_val_some_videos_are_held_out(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", {"train": [40, 44]})
    train, val = open_feeds(store, COLUMNS, 0)
    sides = []
    for feed in (train, val):
        read = training_feed.read_rows(feed, feed.spread(1000))
        sides.append({row(int(clip[-4:]))["video_id"] for clip in read["clip_id"]})
    assert len(train) + len(val) == 84 and 0 < len(val) < 20
    assert not sides[0] & sides[1]


def video_store(folder: Path, windows: dict[str, int], length_s: float = 4.0) -> Store:
    """A store of videos of so many windows of `length_s`, over both splits."""
    store = make_store(folder, {})
    kind = tables.schema(recipe(), SHAPES)
    for number, (video, n) in enumerate(windows.items()):
        rows = [
            row(k) | dict(clip_id=f"{video}-{k}", video_id=video, start_s=length_s * k, duration_s=length_s)
            for k in range(n)
        ]
        store.write_rows(tables.table(rows, kind), "val" if number % 2 else "train")
    return store


def clips_of(feed: Feed) -> list[str]:
    return sorted(training_feed.read_rows(feed, feed.spread(1000))["clip_id"].tolist())


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 14), min_size=1, max_size=4).filter(lambda windows: max(windows) >= 5))
def test_per_video_trains_on_the_first_four_fifths_and_never_across_the_border(windows: list[int]) -> None:
    named = {f"video{at}": n for at, n in enumerate(windows)}
    with TemporaryDirectory() as folder:
        train, val = open_feeds(video_store(Path(folder) / "store", named), COLUMNS, 0, "per-video")
        early, late = clips_of(train), clips_of(val)
    assert early == sorted(f"{v}-{k}" for v, n in named.items() for k in range(n) if 5 * (k + 1) <= 4 * n)
    assert late == sorted(f"{v}-{k}" for v, n in named.items() for k in range(n) if 5 * k >= 4 * n)


def test_videos_too_short_for_per_video_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match="within the first four fifths of its video: extract shorter windows"
    ):
        open_feeds(video_store(tmp_path / "one", {"a": 1, "b": 1}), COLUMNS, 0, "per-video")
    with pytest.raises(StoreError, match="within the last fifth"):
        open_feeds(video_store(tmp_path / "three", {"a": 3}), COLUMNS, 0, "per-video")


def test_stores_that_cannot_be_trained_on(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no feature store"):
        open_feeds(Store(str(tmp_path)), COLUMNS, 0)
    empty = make_store(tmp_path / "empty", {"val": [3]})
    with pytest.raises(StoreError, match="`train` is empty"):
        open_feeds(empty, COLUMNS, 0)
    other = make_store(tmp_path / "other", {"train": [3]})
    with pytest.raises(StoreError, match="has no waveform"):
        open_feeds(other, ("waveform",), 0)
    identity = other.read_identity()
    assert identity is not None
    other.write_identity({"recipe": identity["recipe"] | {"name": "foreign"}})
    with pytest.raises(StoreError, match="has the recipe mini"):
        open_feeds(other, COLUMNS, 0)
    (file,) = empty.files()
    Path(file.uri).write_bytes(b"PAR1 cut short")
    with pytest.raises(StoreError, match="damaged"):
        open_feeds(empty, COLUMNS, 0)
