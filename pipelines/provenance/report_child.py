"""Child process that finds the row of one film in a report, which anyone may have written who can write OUT.

Started as `python -P -m pipelines.provenance.report_child`, it follows the protocol of `pipelines.sandbox.child` and
may write nothing. A table of a kilobyte can fill any memory, and its reader is a large C++ program.
"""

from __future__ import annotations

from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.sandbox.child import serve
from pipelines.sandbox.lent_files import borrowed


def _find(order: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    """`answers.ReportAnswer`: the first row whose `output` is that of the order, or the error."""
    try:
        with borrowed(order["file"]) as file:
            table = pq.ParquetFile(file, pre_buffer=False)
            wanted = sorted(set(order["columns"]) & set(table.schema_arrow.names))
            for rows in table.iter_batches(batch_size=1000, columns=wanted, use_threads=False):
                if found := rows.filter(pc.equal(rows["output"], order["output"])).slice(0, 1).to_pylist():
                    return {"row": found[0]}
            return {"row": None}
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        return {"row": None, "damaged": str(error).encode(errors="replace").decode()[:200]}


def _load() -> None:
    """Let Arrow load what it loads when it is first used; a confined process can load nothing."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"output": ["a"]}), sink)
    table = pq.ParquetFile(pa.BufferReader(sink.getvalue()), pre_buffer=False)
    for rows in table.iter_batches(columns=["output"], use_threads=False):
        rows.filter(pc.equal(rows["output"], "a")).to_pylist()


if __name__ == "__main__":
    pa.set_memory_pool(pa.system_memory_pool())  # the others reserve more than a child may have
    serve(_find, _load)
