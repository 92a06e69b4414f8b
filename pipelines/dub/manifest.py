"""Manifest of per-film requests, CSV or Parquet: prompts, seeds and times.

    path,prompt,negative,seed,start_s,end_s,skip,film,fps
    1925/reel 7.mp4,a steam engine,music,8,12.5,61,,,
    1925/leader.mp4,,,,,,yes,,
    1925/reel8/scan_{0086400-0107999}.dpx,,,,,,,,18
    cam/0900.ts,a road,,,,,,morning,
    cam/0910.ts,,,,,,,morning,

One row per film, or per file where several are one: those that name the same `film`, in the order of their rows. The
first of these has the settings. An empty cell, or a film without a row, leaves the options of the command.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from pipelines import storage
from pipelines.archive.join_rules import Joins, by_list
from pipelines.media.errors import first_line

BEYOND_S = 0.05
"""Seconds by which an in or out time may lie beyond the end of a film: tables are rounded."""

LARGEST_SEED = 2**63 - 1
"""Seeds are a column of the report (int64)."""

_YES, _NO = ("1", "true", "yes", "y"), ("0", "false", "no", "n", "")


class ManifestError(ValueError):
    """An invalid manifest; the message gives the place and the fix."""


@dataclass(frozen=True)
class ManifestRow:
    """Request for one film; None leaves the options of the command."""

    prompt: str | None = None
    negative: str | None = None
    seed: int | None = None
    start_s: float | None = None
    """Start of the generated sound, in seconds ("in time")."""
    end_s: float | None = None
    """End of the generated sound, in seconds ("out time")."""
    skip: bool = False
    film: str | None = None
    """Name of the film that the file is a part of."""
    fps: Fraction | None = None
    """Pictures per second of a sequence of pictures or of a stream without a container."""

    def overrides(self) -> dict[str, Any]:
        """Prompt, negative and seed, by name, as far as they are given."""
        values = {name: getattr(self, name) for name in ("prompt", "negative", "seed")}
        return {name: value for name, value in values.items() if value is not None}


COLUMNS = ("path", *(f.name for f in fields(ManifestRow)))


def read(uri: str) -> dict[str, ManifestRow]:
    """Rows of a manifest by path. Raises ManifestError, StorageError."""
    suffix = uri.rpartition(".")[2].lower()
    data = storage.read_bytes(uri)
    if suffix == "parquet":
        names, rows = _of_parquet(uri, data)
    elif suffix == "csv":
        names, rows = _of_csv(uri, data)
    else:
        raise ManifestError(f"a manifest is a .csv or .parquet file, not {uri!r}")
    return parse(uri, names, rows)


def rates(requests: Mapping[str, ManifestRow]) -> dict[str, Fraction]:
    """Rates of films by path, for rows that state one."""
    return {path: row.fps for path, row in requests.items() if row.fps is not None}


def _of_csv(uri: str, data: bytes) -> tuple[list[str], Iterable[Mapping[str, Any]]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{uri} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    # Strict: a quote that is never closed must not swallow the rest of the table.
    lines = io.StringIO(text, newline="")
    reader = csv.DictReader(lines, restkey="(more cells than columns)", strict=True)
    try:
        return list(reader.fieldnames or []), list(reader)
    except csv.Error as error:
        raise ManifestError(
            f"{uri}, after line {reader.line_num}: {error} (a quoted text must be closed, and its quotes doubled)"
        ) from error


def _of_parquet(uri: str, data: bytes) -> tuple[list[str], Iterable[Mapping[str, Any]]]:
    import pyarrow as pa

    from pipelines.arrow_rows import read_parquet

    try:
        table = read_parquet(data)
        return list(table.column_names), table.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:  # a damaged page is an OSError
        raise ManifestError(f"{uri} is not a Parquet file with texts: {first_line(error)}") from error


def parse(uri: str, names: list[str], rows: Iterable[Mapping[str, Any]]) -> dict[str, ManifestRow]:
    """Rows of a table by path. Raises ManifestError with the row's number, as a spreadsheet counts it."""
    if unknown := [name for name in names if name not in COLUMNS]:
        raise ManifestError(
            f"{uri} has unknown columns: {', '.join(unknown)}; known are {', '.join(COLUMNS)}"
        )
    if "path" not in names:
        raise ManifestError(f"{uri} has no column 'path' (of each film, relative to the archive)")
    by_path: dict[str, ManifestRow] = {}
    films: dict[str, ManifestRow] = {}
    for number, row in enumerate(rows, start=2):
        try:
            path, request = _parse_row(row)
            if path in by_path:
                raise ManifestError(f"{path!r} occurs twice")
            if request.film is not None:
                request = _of_film(request, films.setdefault(request.film, request))
        except ManifestError as error:
            raise ManifestError(f"{uri}, row {number}: {error}") from None
        by_path[path] = request
    return by_path


def _of_film(request: ManifestRow, first: ManifestRow) -> ManifestRow:
    """The request for a film of several files, from one row and the first. Raises ManifestError if both differ."""
    if request not in (first, ManifestRow(film=request.film)):
        raise ManifestError(
            f"film {request.film!r} has its settings in its first row; leave those cells empty here"
        )
    return first


def joins(requests: Mapping[str, ManifestRow]) -> Joins:
    """Rule for the files that are one film by a manifest, in the order of its rows."""
    films = {path: (row.film, number) for number, (path, row) in enumerate(requests.items()) if row.film}
    listed = by_list(films)
    return lambda path: listed(path) or listed(_tidy(path))


def resolved(
    requests: Mapping[str, ManifestRow], scanned: Iterable[Mapping[str, Any]]
) -> dict[str, ManifestRow]:
    """Rows by the paths of the scan. These differ from those of the manifest for names with backslashes, or with spaces
    at their ends."""
    paths = {str(row["path"]) for row in scanned} if requests else set()
    odd: dict[str, list[str]] = {}
    for path in paths:
        if (tidy := _tidy(path)) not in paths:
            odd.setdefault(tidy, []).append(path)
    meant = {tidy: found[0] for tidy, found in odd.items() if len(found) == 1}
    return {meant.get(path, path): row for path, row in requests.items()}


def _tidy(path: str) -> str:
    # Tables made on Windows have backslashes between folders; the scan has them in names that are not UTF-8 (\\xff).
    return re.sub(r"\\(?!x(5c|[89a-f][0-9a-f]))", "/", path.strip()).removeprefix("./")


def _parse_row(row: Mapping[str, Any]) -> tuple[str, ManifestRow]:
    if extra := [name for name in row if name not in COLUMNS]:
        raise ManifestError(f"it has {extra[0]}; put texts with commas in quotes")
    cells = {name: row.get(name) for name in COLUMNS}
    path = _tidy(_text(cells["path"]))
    if not path:
        raise ManifestError("no path")
    start_s, end_s = (_time(name, cells[name]) for name in ("start_s", "end_s"))
    if end_s is not None and end_s <= (start_s or 0.0):
        raise ManifestError(f"end_s ({end_s:g}) must be later than start_s ({start_s or 0:g})")
    prompt, negative = (_text(cells[name]) or None for name in ("prompt", "negative"))
    film, skip, fps = _text(cells["film"]) or None, _yes(cells["skip"]), _rate(cells["fps"])
    return path, ManifestRow(prompt, negative, _seed(cells["seed"]), start_s, end_s, skip, film, fps)


def _text(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value).strip()


def _seed(value: Any) -> int | None:
    text = _text(value)
    if not text:
        return None
    try:
        number = float(text)
        if number != int(number):
            raise ValueError
        seed = int(text) if text.lstrip("+-").isdigit() else int(number)
        if not 0 <= seed <= LARGEST_SEED:
            raise ValueError
    except (ValueError, OverflowError):
        raise ManifestError(f"seed must be a whole number from 0 to {LARGEST_SEED}, not {text!r}") from None
    return seed


def _time(name: str, value: Any) -> float | None:
    text = _text(value)
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ManifestError(f"{name} must be seconds from the film's start, such as 61.5, not {text!r}")
    return seconds


def _rate(value: Any) -> Fraction | None:
    text = _text(value)
    if not text:
        return None
    try:
        return storage.parse_rate(text)
    except ValueError as error:
        raise ManifestError(f"fps: {error}") from None


def _yes(value: Any) -> bool:
    text = _text(value).lower()
    if text in _YES:
        return True
    if text in _NO:
        return False
    raise ManifestError(f"skip must be yes or no, not {text!r}")
