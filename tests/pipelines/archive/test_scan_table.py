"""Rows of a scan on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.archive import scan, scan_table
from pipelines.archive.scan_table import ScanTable


def rows(paths: list[str]) -> list[dict[str, object]]:
    made = dict.fromkeys(scan.SCAN_SCHEMA.names)
    made |= dict(size=1, version="1", status="not_video", error_class="", error="")
    return [made | {"video_id": path, "path": path, "uri": f"/{path}"} for path in paths]


@pytest.mark.parametrize("paths", [[], ["a"], [f"{k:03}" for k in range(25)], ["b", "c", "a", "d", "aa"]])
def test_what_goes_in_comes_out_by_path(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_table, "ROWS_HELD", 4)
    held = ScanTable()
    for row in rows(paths):
        held.add(scan.to_table([row]))
    held.close()
    assert held.n == len(paths)
    assert held.table().equals(scan.to_table(rows(paths)))
    assert [row["path"] for row in held.rows(2)] == sorted(paths)[:2] and not list(held.rows(0))
    assert [row["path"] for table in held.tables(("path",)) for row in table.to_pylist()] == sorted(paths)
    assert pq.read_schema(held.parquet()).equals(scan.SCAN_SCHEMA, check_metadata=True)


def test_it_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    held = ScanTable()
    held.add(scan.to_table(rows(["a"])))
    held.close()
    storage.put_atomic(held.parquet(), str(tmp_path / "kept" / "table.parquet"))
    assert pq.read_table(tmp_path / "kept" / "table.parquet").equals(held.table())
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
