"""A feature store: what is written can be read, by us and by everybody else."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.archive import scan
from pipelines.store import tables
from pipelines.store.store import Store, StoreError
from v2a_models.recipe import Encoder, Recipe, View

RECIPE = Recipe(
    "tiny",
    window_s=1.0,
    overlap_s=0.0,
    semantic=View(2, 8, 8),
    sync=None,
    frames=View(4, 8, 6),
    encoders=(Encoder("semantic", "mini", "0" * 64),),
)
SHAPES = {"semantic": (2, 5), "codes": (3, 87), "frames": (4, 6, 8, 3)}
KIND = tables.schema(RECIPE, SHAPES)


def row(number: int, **more: Any) -> dict[str, Any]:
    """A row whose every value is a function of its number."""
    rng = np.random.default_rng(number)
    return {
        "clip_id": f"clip-{number:04d}",
        "video_id": f"video-{number // 4}",
        "path": f"films/{number // 4}.mp4",
        "start_s": float(number % 4),
        "duration_s": 1.0,
        "label": "bell" if number % 2 else "",
        "text": f"number {number}",
        "mask": np.ones(87, np.uint8),
        "semantic": rng.normal(size=(2, 5)).astype(np.float16),
        "codes": rng.integers(0, 1024, (3, 87)).astype(np.uint16),
        "frames": rng.integers(0, 256, (4, 6, 8, 3)).astype(np.uint8),
    } | more


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("store") / "of features"))
    store.write_identity({"recipe": RECIPE.to_dict()})
    store.write_rows(tables.table([row(k) for k in range(5)], KIND), "train")
    store.write_rows(tables.table([row(k) for k in range(5, 8)], KIND), "train")
    store.write_rows(tables.table([row(8)], KIND), "val")
    store.write_left_out({"clip-0100": "silence", "clip-0101": "static picture"})
    return store


def same(array: Any, name: str, number: int) -> bool:
    expected = row(number)[name]
    return bool(np.array_equal(np.asarray(array, expected.dtype).reshape(expected.shape), expected))


def test_rows_come_back_with_their_shapes_and_the_recipe(filled: Store) -> None:
    (file, *_) = sorted(filled.files(), key=lambda info: info.path)
    held = pq.read_table(file.uri)
    assert held.schema.metadata[b"v2a_schema"] == b"store/1"
    assert Recipe.from_dict(json.loads(held.schema.metadata[b"v2a_recipe"])) == RECIPE == filled.recipe()
    number = int(held["clip_id"][0].as_py()[-4:])
    for name, shape in SHAPES.items():
        column = held[name].combine_chunks()
        assert column.type == KIND.field(name).type
        assert column.to_numpy_ndarray().shape == (held.num_rows, *shape)
        assert same(column.to_numpy_ndarray()[0], name, number)


def test_pandas_reads_it(filled: Store) -> None:
    pandas = pytest.importorskip("pandas")
    held = pandas.read_parquet(filled.root + "/split=train").sort_values("clip_id")
    assert list(held["clip_id"]) == [f"clip-{k:04d}" for k in range(8)]
    assert all(same(held["codes"].iloc[k], "codes", k) for k in range(8))
    assert held["semantic"].iloc[0].dtype == np.float16


def test_duckdb_reads_it(filled: Store) -> None:
    duckdb = pytest.importorskip("duckdb")
    files = f"{filled.root}/*/*.parquet"
    rows = duckdb.sql(
        f"select clip_id, semantic, codes, split from read_parquet('{files}') order by clip_id"
    ).fetchall()
    assert [(r[0], r[3]) for r in rows] == [(f"clip-{k:04d}", "val" if k == 8 else "train") for k in range(9)]
    assert all(same(r[1], "semantic", k) and same(r[2], "codes", k) for k, r in enumerate(rows))
    counted = duckdb.sql(f"select count(*) from read_parquet('{files}') where label = 'bell'").fetchall()
    assert counted == [(4,)]


def test_polars_reads_it(filled: Store) -> None:
    polars = pytest.importorskip("polars")
    held = polars.read_parquet(f"{filled.root}/*/*.parquet", hive_partitioning=True).sort("clip_id")
    assert held["split"].to_list() == ["train"] * 8 + ["val"]
    assert all(same(held["frames"].to_arrow()[k].as_py(), "frames", k) for k in range(9))


def test_ray_reads_it(filled: Store, ray_session: Any) -> None:
    import ray

    rows = ray.data.read_parquet([info.uri for info in filled.files()]).take_all()
    assert sorted(r["clip_id"] for r in rows) == [f"clip-{k:04d}" for k in range(9)]
    for found in rows:
        number = int(found["clip_id"][-4:])
        assert found["semantic"].shape == (2, 5) and found["semantic"].dtype == np.float16
        assert all(same(found[name], name, number) for name in SHAPES)


def test_names_are_a_function_of_what_is_inside(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    rows = [row(k) for k in range(4)]
    first = store.write_rows(tables.table(rows, KIND), "train")
    content = (tmp_path / first).read_bytes()
    assert store.write_rows(tables.table(rows[::-1], KIND), "train") == first
    assert (tmp_path / first).read_bytes() == content
    assert store.write_rows(tables.table(rows[:3], KIND), "train") != first


def test_done_is_what_can_be_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert store.done() == set()
    store.write_rows(tables.table([row(k) for k in range(3)], KIND), "train")
    lost = store.write_rows(tables.table([row(3)], KIND), "test")
    store.write_left_out({"clip-0100": "silence"})
    everything = {"clip-0000", "clip-0001", "clip-0002", "clip-0003", "clip-0100"}
    assert store.done() == everything
    assert store.write_index() == 0
    assert store.done() == everything
    # The index is a cache: a file that is gone, changed or damaged counts as what it is now.
    (tmp_path / lost).unlink()
    assert store.done() == everything - {"clip-0003"}
    (tmp_path / lost).write_bytes(b"PAR1 half a file")
    assert store.done() == everything - {"clip-0003"}
    assert not (tmp_path / lost).exists(), "what cannot be read must not be read as rows"
    assert (tmp_path / "_v2a" / "broken" / f"{lost}.broken").read_bytes() == b"PAR1 half a file"
    assert store.gone() == [lost] and store.n_rows() == 3
    assert store.left_out() == {"silence": 1}


def test_the_scan_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    made = (
        dict.fromkeys(scan.SCAN_SCHEMA.names, "x") | dict.fromkeys(scan.SCAN_SCHEMA.names[5:-3]) | {"size": 1}
    )
    store.write_scan(scan.to_table([made]).drop_columns(list(scan.LATER)))
    [row] = store.scan(scan.SCAN_SCHEMA, scan.LATER)
    assert scan.to_table([row]).to_pylist() == [made]


def damaged(content: bytes) -> dict[str, bytes]:
    """Damaged and foreign Parquet files, by what is wrong with them."""
    sink = io.BytesIO()
    at = len(content) - 8 - int.from_bytes(content[-8:-4], "little")  # where the footer begins
    pq.write_table(pa.table({"other": [1]}), sink)
    return {
        "empty": b"",
        "half": content[: len(content) // 2],
        "another footer": content[:at] + bytes(40) + content[at + 40 :],
        "other columns": sink.getvalue(),
        "no Parquet": b"[1]",
    }


@pytest.mark.parametrize("what", damaged(bytes(8)))
def test_nothing_damaged_ends_an_extraction(tmp_path: Path, what: str) -> None:
    store = Store(str(tmp_path))
    path = tmp_path / store.write_rows(tables.table([row(k) for k in range(3)], KIND), "train")
    store.write_left_out({"clip-0100": "silence"})
    store.write_failures([dict.fromkeys(tables.FAILURES_SCHEMA.names, "x") | {"start_s": 4.0}])
    store.write_scan(scan.to_table([]))
    store.write_index()
    [left_out] = (tmp_path / "_v2a" / "left_out").iterdir()
    places = [path, left_out, tmp_path / "_failures.parquet"]
    places += [tmp_path / "_v2a" / name for name in ("scan.parquet", "index.parquet")]
    for place in places:
        place.write_bytes(damaged(place.read_bytes())[what])
    looking = Store(str(tmp_path), mends=False)
    assert (looking.done(), looking.failures(), looking.scan(scan.SCAN_SCHEMA)) == (set(), [], [])
    assert all(place.exists() for place in places), "a command that only reads has renamed something"
    assert (store.done(), store.failures(), store.scan(scan.SCAN_SCHEMA)) == (set(), [], [])
    assert not any(place.exists() for place in places)
    assert len(list(tmp_path.rglob("*.broken"))) == len(places)
    beside = [
        file
        for file in tmp_path.rglob("*.broken")
        if "split=train" in file.parts and "_v2a" not in file.parts
    ]
    assert not beside, "readers of the folder would read it"
    store.write_rows(tables.table([row(k) for k in range(3)], KIND), "train")
    assert store.write_index() == 0 and store.n_rows() == 3


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"recipe": 1}', '{"recipe": {}, "batch_size": "x"}', None]
)
def test_a_lost_recipe_comes_back_from_the_rows(tmp_path: Path, text: str | None) -> None:
    store, place = Store(str(tmp_path)), tmp_path / "_recipe.json"
    identity = {"recipe": RECIPE.to_dict(), "batch_size": 1, "precision": "float32"}
    store.write_identity(identity)
    assert store.recover_identity() == json.loads(json.dumps(identity))
    place.unlink()
    if text is not None:
        place.write_text(text)
        with pytest.raises(StoreError, match="v2a extract writes it again"):
            store.read_identity()
    assert store.recover_identity() is None
    assert (tmp_path / "_recipe.json.broken").exists() == (text is not None)
    store.write_rows(tables.table([row(0)], KIND), "train")
    assert store.recover_identity() == {"recipe": json.loads(json.dumps(RECIPE.to_dict()))}


def test_rows_written_by_two_runs_at_once_are_removed(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_rows(tables.table([row(k) for k in range(4)], KIND), "train")
    store.write_rows(tables.table([row(k) for k in range(2, 7)], KIND), "train")
    store.write_rows(tables.table([row(k) for k in range(5, 7)], KIND), "train")
    assert store.write_index() == 4
    ids = [i for info in store.files() for i in pq.read_table(info.uri)["clip_id"].to_pylist()]
    assert sorted(ids) == [f"clip-{k:04d}" for k in range(7)]
    assert store.done() == set(ids)
    assert store.write_index() == 0


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="in a column of"):
        tables.table([row(0, semantic=np.zeros((3, 5), np.float16))], KIND)


def test_what_is_no_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="v2a extract"):
        Store(str(tmp_path)).recipe()
    (tmp_path / "_recipe.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        Store(str(tmp_path)).read_identity()


def test_failures_are_a_table(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert store.failures() == []
    failure = dict.fromkeys(tables.FAILURES_SCHEMA.names, "x") | {"start_s": 4.0}
    store.write_failures([failure])
    assert store.failures() == [failure]
    store.write_failures([])
    assert store.failures() == []


@given(st.integers(1, 900), st.floats(0.01, 20), st.floats(0.01, 20))
def test_the_mask_covers_the_footage(n: int, window_s: float, duration_s: float) -> None:
    duration_s = min(duration_s, window_s)
    found = tables.mask(n, duration_s, window_s)
    assert found.shape == (n,) and found[0] == 1
    assert (np.diff(found.astype(int)) <= 0).all(), "footage comes first"
    assert abs(found.sum() - n * duration_s / window_s) <= 1
    assert duration_s < window_s or found.all()


def test_row_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.store.store.ROW_GROUP_BYTES", 3 * tables.row_bytes(KIND))
    store = Store(str(tmp_path))
    path = store.write_rows(tables.table([row(k) for k in range(8)], KIND), "train")
    groups = pq.ParquetFile(tmp_path / path).metadata
    assert [groups.row_group(k).num_rows for k in range(groups.num_row_groups)] == [3, 3, 2]
    assert pa.concat_tables([pq.read_table(tmp_path / path)]).num_rows == 8
