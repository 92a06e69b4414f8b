"""The columns of a store's rows without arrays, read from files that may be damaged, or of another program."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.media.errors import first_line
from pipelines.store.store import Store, StoreError, damage
from pipelines.store.tables import SMALL_SCHEMA

SPLIT = "train"
"""Split whose texts train a tokenizer."""

MOST = 100_000
"""Maximum number of texts for a tokenizer; more would not change it much."""


def read_small(file: pq.ParquetFile, names: Sequence[str] = tuple(SMALL_SCHEMA.names)) -> pa.Table:
    """Columns of `SMALL_SCHEMA` of a file of rows, whoever wrote it.

    Raises ValueError for columns that are missing, or hold what no store has.
    """
    kind = pa.schema([SMALL_SCHEMA.field(name) for name in names])
    if lacking := [name for name in names if name not in file.schema_arrow.names]:
        raise ValueError(f"no rows of a store (it lacks {', '.join(lacking)})")
    try:
        held = file.read(columns=list(names), use_threads=False).select(list(names)).cast(kind)
        held.validate(full=True)
    except pa.ArrowException as error:
        raise ValueError(first_line(error)) from error
    for field, column in zip(kind, held.columns, strict=True):
        if not field.nullable and column.null_count:
            raise ValueError(f"{field.name} is null")
        if field.type == pa.float64() and not pc.all(pc.is_finite(column), min_count=0).as_py():
            raise ValueError(f"{field.name} is no finite number")
    return held


def small_columns(info: storage.FileInfo, names: Sequence[str]) -> pa.Table:
    """Columns of `tables.SMALL_SCHEMA` of one file of a store. Raises StoreError, which names the file, for a damaged
    or foreign one, StorageError."""
    try:
        with storage.reading(info.uri) as file, damage():
            return read_small(pq.ParquetFile(file, pre_buffer=False), names)
    except ValueError as error:
        raise StoreError(
            f"{info.uri} cannot be used ({first_line(error)}); v2a extract makes its rows again"
        ) from error


def texts_of(store: Store, split: str = SPLIT, most: int = MOST) -> list[str]:
    """The different texts of a split, sorted: the first `most` of them."""
    texts: set[str] = set()
    for info in store.files():
        if not info.path.startswith(f"split={split}/"):
            continue
        texts.update(text for text in small_columns(info, ["text"])["text"].to_pylist() if text)
    return sorted(texts)[:most]
