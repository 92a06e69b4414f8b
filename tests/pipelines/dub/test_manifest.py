"""Rows of a manifest: seeds that the report can hold. The command line is tested in tests/jobs/dub/test_manifest.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.dub import manifest
from tests.support.media_files import damaged_page, texts_of_no_encoding


@pytest.mark.parametrize("seed", ["-1", -1, 2**63, str(2**70), "1e30", 1e30, "0.5", "inf", "seven"])
def test_a_seed_out_of_range_is_refused_with_its_row(seed: Any) -> None:
    words = r"films\.csv, row 3: seed must be a whole number from 0 to 9223372036854775807, not"
    rows = [{"path": "a.mp4", "seed": "7"}, {"path": "b.mp4", "seed": seed}]
    with pytest.raises(manifest.ManifestError, match=words):
        manifest.parse("films.csv", ["path", "seed"], rows)


@pytest.mark.parametrize("seed", [0, "0", "+8", "8.0", 8.0, 2**63 - 1, str(2**63 - 1)])
def test_a_seed_in_range_is_taken_as_it_is(seed: Any) -> None:
    row = manifest.parse("films.csv", ["path", "seed"], [{"path": "a.mp4", "seed": seed}])["a.mp4"]
    assert row.seed == int(seed if isinstance(seed, int) else float(seed) if "." in str(seed) else seed)


@pytest.mark.parametrize(
    "text", ["path,prompt\na.mp4," + "x" * 200_000, 'path,prompt\na.mp4,"never closed\nb.mp4,a train\n']
)
def test_cells_that_no_table_has_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_text(text)
    with pytest.raises(manifest.ManifestError, match=r"films\.csv, after line"):
        manifest.read(str(tmp_path / "films.csv"))


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "films.parquet"
    pq.write_table(pa.table({"path": [f"{k}.mp4" for k in range(9999)]}), file, use_dictionary=False)
    file.write_bytes(damaged_page(file.read_bytes()))
    with pytest.raises(manifest.ManifestError, match="not a Parquet file"):
        manifest.read(str(file))
    pq.write_table(pa.table({"path": texts_of_no_encoding(b"a\xff.mp4")}), file)
    with pytest.raises(manifest.ManifestError, match="not a Parquet file with texts"):
        manifest.read(str(file))
