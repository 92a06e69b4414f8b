"""Reports that were written to do harm: damaged records, and never a process without memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.provenance import records
from pipelines.sandbox import confinement


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "_v2a").mkdir()
    return tmp_path


def write(out: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), out / "_v2a" / "report.parquet", compression="zstd", store_schema=False)


def test_a_row_is_found_with_every_measure(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(confinement.VARIABLE, "strict")
    write(out, output=["b.mp4"] * 5_000 + ["a.mp4"] * 2, seed=[*range(5_002)], other=[b"\xff"] * 5_002)
    assert records.find(str(out / "a.mp4")).report == {"output": "a.mp4", "seed": 5_000}
    assert records.find(str(out / "c.mp4")).report is None


def test_a_kilobyte_that_fills_200_gb(out: Path) -> None:
    huge = pa.DictionaryArray.from_arrays(pa.array([0] * 200_000, pa.int32()), pa.array(["x" * (1 << 20)]))
    write(out, output=huge)
    assert (out / "_v2a" / "report.parquet").stat().st_size < 2_000
    found = records.find(str(out / "a.mp4"))
    assert found.report is None and "OutOfMemory" in found.damaged[0]


@pytest.mark.parametrize(
    "columns",
    [
        {"path": ["a.mp4"]},
        {"output": [1]},
        {"output": ["a.mp4"], "seed": [[7]]},
        {"output": ["a.mp4"], "model": [b"a"]},
    ],
)
def test_tables_of_wrong_types(out: Path, columns: dict[str, Any]) -> None:
    write(out, **columns)
    found = records.find(str(out / "a.mp4"))
    assert found.report is None and found.damaged[0].startswith("report.parquet: ")
