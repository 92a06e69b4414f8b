"""The texts of a feature store: its captions, without its arrays."""

from __future__ import annotations

import pyarrow.parquet as pq

from pipelines import storage
from pipelines.store.store import Store

SPLIT = "train"
MOST = 100_000
"""A tokenizer learns no more from more."""


def texts_of(store: Store, split: str = SPLIT, most: int = MOST) -> list[str]:
    """The different texts of a split, sorted: the first `most` of them."""
    found: set[str] = set()
    for info in store.files():
        if not info.path.startswith(f"split={split}/"):
            continue
        with storage.reading(info.uri) as file:
            column = pq.ParquetFile(file).read(columns=["text"], use_threads=False)["text"]
        found.update(text for text in column.to_pylist() if text)
    return sorted(found)[:most]
