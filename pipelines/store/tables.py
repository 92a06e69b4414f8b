"""Columns of a store's files, and rows as Arrow tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from v2a_models.recipe import Recipe

SCHEMA_VERSION = "store/1"

_TENSORS: dict[str, pa.DataType] = {
    "mask": pa.uint8(),
    "semantic": pa.float16(),
    "sync": pa.float16(),
    "audio": pa.float16(),
    "codes": pa.uint16(),
    "frames": pa.uint8(),
    "waveform": pa.int16(),
}

FAILURES_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),  # empty where a whole file failed
        ("video_id", pa.string()),
        ("path", pa.string()),
        ("start_s", pa.float64()),
        ("stage", pa.string()),
        ("error_class", pa.string()),
        ("error", pa.string()),
    ],
    metadata={"v2a_schema": "failures/1"},
)

LEFT_OUT_SCHEMA = pa.schema([("clip_id", pa.string()), ("reason", pa.string())])

INDEX_SCHEMA = pa.schema(
    [("file", pa.string()), ("size", pa.int64()), ("version", pa.string()), ("clip_id", pa.string())]
)


SMALL_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("duration_s", pa.float64(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("text", pa.string()),
    ]
)
"""The columns without arrays."""


def schema(recipe: Recipe, shapes: Mapping[str, tuple[int, ...]]) -> pa.Schema:
    """Columns of the store, tensors as `arrow.fixed_shape_tensor`. `shapes`: those of `encoders.shapes.feature_shapes`.

    `mask` is 1 for every codec frame (for every picture where there are no codes) that holds footage.
    """
    fields = list(SMALL_SCHEMA)
    for name, shape in {"mask": mask_shape(shapes), **shapes}.items():
        fields.append(pa.field(name, pa.fixed_shape_tensor(_TENSORS[name], shape), nullable=False))
    metadata = {"v2a_schema": SCHEMA_VERSION, "v2a_recipe": json.dumps(recipe.to_dict(), sort_keys=True)}
    return pa.schema(fields, metadata=metadata)


def mask_shape(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int]:
    """Shape of the mask of a window."""
    if "codes" in shapes:
        return (shapes["codes"][-1],)
    return (next(shapes[name][0] for name in ("frames", "sync", "semantic") if name in shapes),)


def mask(n: int, duration_s: float, window_s: float) -> np.ndarray:
    """uint8 [n]: 1 for the cells of a window that begin before its footage ends."""
    return (np.arange(n) * window_s / n < duration_s - 1e-9).astype(np.uint8)


def row_bytes(kind: pa.Schema) -> int:
    """Bytes of the arrays of one row, uncompressed."""
    tensors = (field.type for field in kind if isinstance(field.type, pa.FixedShapeTensorType))
    return sum(int(np.prod(t.shape)) * t.value_type.bit_width // 8 for t in tensors)


def table(rows: Sequence[Mapping[str, Any]], kind: pa.Schema) -> pa.Table:
    """Rows (arrays as numpy) as a table of `schema`, sorted by clip. Raises ValueError for a wrong shape."""
    rows = sorted(rows, key=lambda row: str(row["clip_id"]))
    columns = []
    for field in kind:
        values = [row[field.name] for row in rows]
        if isinstance(field.type, pa.FixedShapeTensorType):
            columns.append(_tensor(values, field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=kind)


def _tensor(arrays: Sequence[np.ndarray], kind: pa.FixedShapeTensorType) -> pa.ExtensionArray:
    shape = tuple(kind.shape)
    wrong = next((array.shape for array in arrays if array.shape != shape), None)
    if wrong is not None:
        raise ValueError(f"an array of {wrong} in a column of {shape}")
    flat = pa.array(np.stack(arrays).reshape(-1), kind.value_type)
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(flat, int(np.prod(shape))))
