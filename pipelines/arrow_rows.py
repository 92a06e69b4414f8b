"""Arrow tables: rows with arrays for Ray Data operators, and Parquet files read without threads.

A row with arrays has its notes as JSON and each array as the bytes of a binary column. Arrays of any shape share a
column, and neither packing nor unpacking copies them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa


def pack(
    notes: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    kinds: Mapping[str, Any],
    **columns: str,
) -> pa.Table:
    """Table of one row: `notes`, one column per name in `kinds` (null if `arrays` lacks it), and text `columns`.

    kinds: dtype of each array. Raises ValueError for an array of another dtype.
    """
    for name, array in arrays.items():
        if array.dtype != kinds[name]:
            raise ValueError(f"{name} is {array.dtype}, not {np.dtype(kinds[name])}")
    shapes = {name: array.shape for name, array in arrays.items()}
    table = {name: pa.array([text]) for name, text in columns.items()}
    table["notes"] = pa.array([json.dumps({**notes, "shapes": shapes})])
    for name in kinds:
        table[name] = _binary(arrays.get(name))
    return pa.table(table)


def unpack(
    table: pa.Table, kinds: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """(notes, arrays) of each row. The arrays are views into the table, and read-only."""
    for k in range(table.num_rows):
        notes = json.loads(table["notes"][k].as_py())
        shapes = notes.pop("shapes")
        arrays = {
            name: np.frombuffer(table[name][k].as_buffer(), kinds[name]).reshape(shape)
            for name, shape in shapes.items()
        }
        yield notes, arrays


def read_parquet(file: BinaryIO | bytes, schema: pa.Schema | None = None) -> pa.Table:
    """Table of a Parquet file, with the columns of `schema`, null where the file has none; without one, all of its own.

    This thread alone reads. Arrow's threads free Python's buffers late: one that does while the interpreter ends aborts
    the process. Raises pa.ArrowException or OSError for a damaged file or one of other types.
    """
    import pyarrow.parquet as pq

    source = pa.BufferReader(file) if isinstance(file, bytes) else file
    opened = pq.ParquetFile(source, pre_buffer=False)
    if schema is None:
        return opened.read(use_threads=False)
    names = [name for name in schema.names if name in opened.schema_arrow.names]
    table = opened.read(columns=names, use_threads=False)
    nulls = pa.nulls(table.num_rows) if names else pa.nulls(opened.metadata.num_rows)
    columns = [table[name] if name in names else nulls for name in schema.names]
    return pa.table(
        [column.cast(field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def _binary(array: np.ndarray | None) -> pa.Array:
    """The bytes of an array as a column of one row, without copying them."""
    if array is None:
        return pa.array([None], pa.large_binary())
    data = pa.py_buffer(np.ascontiguousarray(array))
    offsets = pa.py_buffer(np.array([0, data.size], np.int64))
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, data])
