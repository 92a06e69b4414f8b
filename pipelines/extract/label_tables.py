"""Readers for tables of labels (.csv, .tsv or .parquet), as columns of text.

Two formats are supported: VGGSound's csv (no header: YouTube id, start second, label, split), and any table with a
header that names files. `pipelines.extract.labels` builds the labels from them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.archive import scan

COLUMNS = {
    "path": ("path", "clip", "file", "filename", "video"),
    "label": ("label", "class", "category"),
    "text": ("text", "caption", "description"),
    "split": ("split", "subset", "set"),
}
"""Accepted column names by meaning, in any case; the first name has precedence."""

_SEPARATORS = ",\t;|"


class LabelsError(ValueError):
    """Table that cannot be used. The message states the problem and the fix."""


class VggsoundRow(NamedTuple):
    """Row of VGGSound's csv: ten seconds of a YouTube video."""

    video: str
    start_ms: int
    label: str
    split: str


def read_table(uri: str) -> dict[str, list[str]] | list[VggsoundRow]:
    """Read a table from a .csv, .tsv or .parquet file, local or s3://.

    Returns the accepted columns by meaning (a key of COLUMNS), or the rows of a table in VGGSound's format. Raises
    LabelsError for unsupported content, StorageError if the file cannot be read.
    """
    suffix = scan.suffix(uri)
    if suffix not in (".csv", ".tsv", ".parquet"):
        raise LabelsError(f"{uri}: labels are read from a .csv, .tsv or .parquet file, not {suffix!r}")
    data = storage.read_bytes(uri)
    if suffix == ".parquet":
        return _parquet_columns(uri, data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelsError(f"{uri}: not UTF-8 at byte {error.start} (save the table as UTF-8)") from error
    rows = _csv_rows(uri, text, _separator(uri, text))
    line, first = next(rows)
    if _is_vggsound(first):
        return _vggsound_rows(uri, [(line, first), *rows])
    return _csv_columns(uri, first, rows)


def _vggsound_rows(uri: str, rows: Iterable[tuple[int, list[str]]]) -> list[VggsoundRow]:
    """Parse rows (line, cells) of YouTube id, start second, label and split."""
    parsed = []
    for line, row in rows:
        if not _is_vggsound(row):
            problem = f"line {line} is not YouTube id, start second, label and split: {row!r}"
            raise LabelsError(f"{uri}: {problem} (labels with a comma need quotes)")
        parsed.append(VggsoundRow(row[0].strip(), _milliseconds(row[1]), row[2].strip(), row[3]))
    return parsed


def _is_vggsound(row: list[str]) -> bool:
    return len(row) == 4 and bool(row[0].strip()) and _milliseconds(row[1]) >= 0


def _milliseconds(seconds: str) -> int:
    """Milliseconds from a time in seconds as text; -1 if it is invalid."""
    try:
        value = float(seconds)
    except ValueError:
        return -1
    return round(value * 1000) if 0 <= value < 1e9 else -1


def _csv_rows(uri: str, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every non-empty row."""
    # Strict: a quote that is never closed must not swallow the rest of the table.
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    try:
        yield from ((reader.line_num, row) for row in reader if any(cell.strip() for cell in row))
    except csv.Error as error:
        fix = "a quoted value must be closed, with quotes inside it doubled"
        raise LabelsError(f"{uri}: line {reader.line_num}: {error} ({fix})") from error


def _separator(uri: str, text: str) -> str:
    """Separator for which the first row is recognised; otherwise the one that gives the most columns.

    Raises LabelsError for a table without rows.
    """
    widths = {",": 0}
    for separator in _SEPARATORS:
        try:
            _, first = next(_csv_rows(uri, text, separator))
        except StopIteration:
            raise LabelsError(f"{uri}: the table is empty (it needs one row per file)") from None
        except LabelsError:  # quoting that is invalid with this separator
            continue
        if _is_vggsound(first) or "path" in _columns_by_meaning(first):
            return separator
        widths[separator] = len(first)
    return max(widths, key=lambda separator: widths[separator])


def _columns_by_meaning(header: Iterable[str]) -> dict[str, str]:
    """Names of the accepted columns in `header`, by meaning."""
    # Reversed, so that the first of two columns with the same name is used.
    spelled = {name.strip().lower(): name for name in reversed(list(header))}
    matches = {
        meaning: [spelled[name] for name in names if name in spelled] for meaning, names in COLUMNS.items()
    }
    return {meaning: names[0] for meaning, names in matches.items() if names}


def _pick(uri: str, header: Sequence[str]) -> dict[str, str]:
    """`_columns_by_meaning`. Raises LabelsError without a path column, or without any other."""
    picked = _columns_by_meaning(header)
    if "path" in picked and len(picked) > 1:
        return picked
    missing = "label, text or split" if "path" in picked else "path"
    accepted = "; ".join(f"{meaning}: {', '.join(names)}" for meaning, names in COLUMNS.items())
    raise LabelsError(
        f"{uri}: no column for the {missing} among {list(header)} (rename the columns; accepted are {accepted}; "
        "without a header only VGGSound's four: YouTube id, start second, label, split)"
    )


def _csv_columns(uri: str, header: list[str], rows: Iterable[tuple[int, list[str]]]) -> dict[str, list[str]]:
    """Values by meaning, from rows (line, cells)."""
    places = {meaning: header.index(name) for meaning, name in _pick(uri, header).items()}
    columns: dict[str, list[str]] = {meaning: [] for meaning in places}
    for line, row in rows:
        if len(row) < len(header) or any(row[len(header) :]):
            problem = f"line {line} has {len(row)} columns and the header has {len(header)}"
            raise LabelsError(f"{uri}: {problem} (values that contain the separator need quotes)")
        for meaning, place in places.items():
            columns[meaning].append(row[place].strip())
    return columns


def _parquet_columns(uri: str, data: bytes) -> dict[str, list[str]]:
    """Values by meaning, as text; null becomes empty."""
    try:
        file = pq.ParquetFile(io.BytesIO(data), pre_buffer=False)
        picked = _pick(uri, file.schema_arrow.names)
        table = file.read(columns=list(picked.values()), use_threads=False)
        texts = {meaning: table.column(name).cast(pa.string()) for meaning, name in picked.items()}
        values = {name: column.to_pylist() for name, column in texts.items()}
    except (
        pa.ArrowException,
        OSError,
        KeyError,
        ValueError,
    ) as error:  # texts that are not UTF-8 are a ValueError
        fix = "write it again with text columns, or give a .csv"
        raise LabelsError(f"{uri}: not a parquet table of texts: {error} ({fix})") from error
    return {name: [(text or "").strip() for text in column] for name, column in values.items()}
