"""Tables of events with their onsets, and of captions: .csv or Parquet files that users bring along."""

from __future__ import annotations

import io
import math
from typing import Any

import pyarrow as pa
import pyarrow.csv

from pipelines import storage, synthfoley
from pipelines.arrow_rows import read_parquet
from pipelines.media.errors import first_line


class EventTableError(ValueError):
    """A table without the columns that it must have, or that cannot be read; the message names both."""


def event_rows(path: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of a table of events (.csv or Parquet) by the clip's name, each clip's by onset.

    Raises EventTableError for a table without `clip` and `onset_s`, or with onsets or strengths that are no finite
    numbers, StorageError.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    try:
        read = [row | {name: _number(row, name) for name in _NUMBERS} for row in _read_rows(path)]
        for row in sorted(read, key=lambda row: (str(row["clip"]), row["onset_s"] or 0.0)):
            rows.setdefault(str(row["clip"]), []).append(row)
    except UNREADABLE as error:
        raise EventTableError(
            f"{path} is not a table of events (columns clip, onset_s; optionally class, strength): "
            f"{_words(error)}"
        ) from error
    return rows


_NUMBERS = ("onset_s", "strength")


def _number(row: dict[str, Any], name: str) -> float | None:
    """Raises KeyError without onsets, ValueError or TypeError for what is no finite number."""
    value = row[name] if name == "onset_s" else row.get(name)
    if value is not None and not math.isfinite(value := float(value)):
        raise ValueError(f"{name} is {value} for {row['clip']}")
    return value


def read_events(path: str) -> dict[str, dict[str, Any]]:
    """Label, caption, onsets and strengths of each clip in a table of events, by the clip's name without extension.

    Sounds that go on all the time have no onsets. Raises EventTableError, StorageError.
    """
    facts: dict[str, dict[str, Any]] = {}
    for clip, rows in event_rows(path).items():
        fact = facts.setdefault(
            _clip_name(clip),
            {"label": str(rows[0].get("class") or ""), "text": str(rows[0].get("caption") or "")},
        )
        heard = [row for row in rows if row["onset_s"] is not None]
        if heard:
            fact["events"] = (*fact.get("events", ()), *(row["onset_s"] for row in heard))
            fact["strengths"] = (*fact.get("strengths", ()), *(row["strength"] for row in heard))
    for fact in facts.values():
        if None in fact.get("strengths", ()):  # a strength each, or none at all
            del fact["strengths"]
    return {clip: _sounding(fact) for clip, fact in facts.items()}


def read_captions(path: str) -> dict[str, list[str]]:
    """Captions by the clip's name.

    Raises EventTableError for a table without the columns clip and caption, StorageError.
    """
    captions: dict[str, list[str]] = {}
    try:
        for row in _read_rows(path):
            if row["caption"]:
                captions.setdefault(_clip_name(row["clip"]), []).append(str(row["caption"]))
    except UNREADABLE as error:
        raise EventTableError(
            f"{path} is not a table of captions (columns clip, caption): {_words(error)}"
        ) from error
    return captions


UNREADABLE = (KeyError, ValueError, TypeError, OSError, pa.ArrowException)
"""Errors for a table that is damaged or holds something else; damaged pages of Parquet are an OSError."""


def _words(error: Exception) -> str:
    return f"no column {error}" if isinstance(error, KeyError) else first_line(error)


def _read_rows(path: str) -> list[dict[str, Any]]:
    """Rows of a .csv or Parquet file. Raises one of `UNREADABLE` for another file, StorageError."""
    content = storage.read_bytes(path)
    if path.lower().endswith(".csv"):
        reading = pyarrow.csv.ReadOptions(use_threads=False)
        table = pyarrow.csv.read_csv(io.BytesIO(content), reading)
    else:
        table = read_parquet(content)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _clip_name(value: Any) -> str:
    """Name of a clip: a film's file name without extension."""
    return str(value).rpartition(".")[0] or str(value)


def _sounding(fact: dict[str, Any]) -> dict[str, Any]:
    """Drop the onsets of continuous sounds: SynthFoley's machines and weather."""
    if fact["label"] in synthfoley.CLASSES and fact["label"] not in synthfoley.IMPACTS:
        return {name: value for name, value in fact.items() if name not in ("events", "strengths")}
    return fact
