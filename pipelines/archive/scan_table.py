"""Rows of a scan on disk, for archives of any size: only a few thousand are in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.archive.scan import SCAN_SCHEMA
from pipelines.arrow_rows import read_parquet

ROWS_HELD = 8192
"""Rows per row group, the part that is in memory."""


class ScanTable:
    """A Parquet file of SCAN_SCHEMA that is written once, closed, and then read any number of times.

    It lies in the machine's temporary folder without a name, so it disappears with this object or its process. A
    million films take 0.1 to 0.2 GB.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="v2a-scan-")  # noqa: SIM115
        self.n = 0
        self._held: list[pa.Table] = []
        self._n_held = 0
        self._writer: pq.ParquetWriter | None = pq.ParquetWriter(self._file, SCAN_SCHEMA)
        self._last = ""
        self._sorted = True

    def add(self, rows: pa.Table) -> None:
        """Append rows."""
        for path in rows["path"].to_pylist():
            self._sorted = self._sorted and self._last <= path
            self._last = path
        self._held.append(rows)
        self._n_held += len(rows)
        self.n += len(rows)
        if self._n_held >= ROWS_HELD:
            self._flush()

    def close(self) -> None:
        """Finish the file. Sorts the rows by path unless they came in that order."""
        self._flush()
        assert self._writer is not None
        self._writer.close()
        self._writer = None
        if not self._sorted:
            # Names that are not UTF-8 sort by their bytes in a listing, but by their spelling here. Sort in memory.
            ordered = self.table().sort_by("path")
            self._file.seek(0)
            self._file.truncate()
            pq.write_table(ordered, self._file, row_group_size=ROWS_HELD)
        self._file.flush()

    def parquet(self) -> str:
        """Path by which this process can read the closed file."""
        self._file.seek(0)
        return f"/dev/fd/{self._file.fileno()}"

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows, one row group at a time."""
        with pq.ParquetFile(self._file, pre_buffer=False) as file:
            for k in range(file.num_row_groups):
                names = None if columns is None else list(columns)
                yield file.read_row_group(k, columns=names, use_threads=False)

    def rows(self, most: int) -> Iterator[dict[str, Any]]:
        """The first rows, at most `most`."""
        left = max(most, 0)
        for table in self.tables():
            if left <= 0:
                return
            yield from table.slice(0, left).to_pylist()
            left -= len(table)

    def table(self) -> pa.Table:
        """The whole table in memory."""
        return read_parquet(self._file)

    def _flush(self) -> None:
        if self._held:
            assert self._writer is not None
            self._writer.write_table(pa.concat_tables(self._held).combine_chunks())
            self._held, self._n_held = [], 0
