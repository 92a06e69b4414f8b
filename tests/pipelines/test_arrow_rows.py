"""Parquet files, read without threads."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.arrow_rows import read_parquet

SCHEMA = pa.schema([("path", pa.string()), ("n", pa.int64()), ("parts", pa.list_(pa.float32()))])


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=2)
    return sink.getvalue()


@pytest.mark.parametrize("as_file", [False, True])
def test_tables_are_read_whole(as_file: bool) -> None:
    table = pa.table({"path": ["a", "b", None], "n": [1, 2, 3], "parts": [[1.5], [], None]}, schema=SCHEMA)
    data = parquet(table)
    assert read_parquet(io.BytesIO(data) if as_file else data).equals(table)
    assert read_parquet(data, SCHEMA).equals(table)


def test_columns_of_a_schema_are_cast_or_null_and_others_left_out() -> None:
    data = parquet(pa.table({"n": pa.array([1, 2], pa.int32()), "more": ["x", "y"]}))
    found = read_parquet(data, SCHEMA)
    assert found.schema.equals(SCHEMA)
    assert found.to_pylist() == [dict(path=None, n=1, parts=None), dict(path=None, n=2, parts=None)]
    assert read_parquet(parquet(pa.table({"more": ["x"]})), SCHEMA).num_rows == 1


def test_damage_and_other_types_are_errors() -> None:
    for data in (b"", b"PAR1", parquet(pa.table({"n": ["many"]}))):
        with pytest.raises((pa.ArrowException, OSError)):
            read_parquet(data, SCHEMA)
