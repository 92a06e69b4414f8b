"""A small recipe, footage for it, and `v2a extract` run on it: what the tests of extraction share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import extract
from jobs.extract import ExtractConfig
from tests.support.toy_generators import write_video

# Pixels and samples only: no encoder has to be loaded, so that many runs fit into a test.
RECIPE = """
name: small
window_s: 0.5
frames: {fps: 10, width: 16, height: 12}
waveform: {rate: 8000, channels: 1}
"""


def footage(root: Path, names: range | list[str], seconds: float = 8.0) -> Path:
    for name in names:
        write_video(root / f"film {name}.mp4", seconds, fps=10, sound=0.5)
    return root


def run(archive: Path, store: Path, recipe: str, **options: Any) -> int:
    return extract.run(ExtractConfig(str(archive), str(store), recipe=recipe, tracking_uri="off", **options))


def rows(store: Path | str) -> pa.Table:
    """Rows of a store in the order of their clips, by pyarrow's own reader."""
    found = pq.read_table(str(store), partitioning="hive").sort_by("clip_id")
    ids = found["clip_id"].to_pylist()
    assert len(ids) == len(set(ids)), "a row is there twice"
    return found


def files(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in sorted(store.glob("split=*/*"))}
