"""Tables of events with their onsets, and of captions: .csv or Parquet files that users bring along."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pipelines import storage, synthfoley


class EventTableError(ValueError):
    """A table without the columns that it must have, or that cannot be read; the message names both."""


def event_rows(path: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of a table of events (.csv or Parquet) by the clip's name, each clip's by onset.

    Raises EventTableError for a table without `clip` and `onset_s`, StorageError.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    try:
        for row in sorted(
            _read_table(path).to_pylist(), key=lambda row: (str(row["clip"]), row["onset_s"] or 0.0)
        ):
            rows.setdefault(str(row["clip"]), []).append(row)
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise EventTableError(
            f"{path} is not a table of events (columns clip, onset_s; optionally class, strength): {error}"
        ) from error
    return rows


def read_events(path: str) -> dict[str, dict[str, Any]]:
    """Label, caption, onsets and strengths of each clip in a table of events, by the clip's name without extension.

    Sounds that go on all the time have no onsets. Raises EventTableError, StorageError.
    """
    facts: dict[str, dict[str, Any]] = {}
    try:
        for clip, rows in event_rows(path).items():
            fact = facts.setdefault(
                _clip_name(clip),
                {"label": str(rows[0].get("class") or ""), "text": str(rows[0].get("caption") or "")},
            )
            for row in rows:
                if row["onset_s"] is not None:
                    fact["events"] = (*fact.get("events", ()), float(row["onset_s"]))
                    if row.get("strength") is not None:
                        fact["strengths"] = (*fact.get("strengths", ()), float(row["strength"]))
    except (ValueError, TypeError) as error:
        raise EventTableError(f"{path} is not a table of events: {error}") from error
    return {clip: _sounding(fact) for clip, fact in facts.items()}


def read_captions(path: str) -> dict[str, list[str]]:
    """Captions by the clip's name.

    Raises EventTableError for a table without the columns clip and caption, StorageError.
    """
    try:
        captions: dict[str, list[str]] = {}
        for row in _read_table(path).to_pylist():
            if row["caption"]:
                captions.setdefault(_clip_name(row["clip"]), []).append(str(row["caption"]))
        return captions
    except (KeyError, ValueError, OSError) as error:
        raise EventTableError(
            f"{path} is not a table of captions (columns clip, caption): {error}"
        ) from error


def _read_table(path: str) -> pa.Table:
    """Table of a .csv or Parquet file. Raises ValueError or OSError for another file, StorageError."""
    content = io.BytesIO(storage.read_bytes(path))
    return pyarrow.csv.read_csv(content) if path.endswith(".csv") else pq.read_table(content)


def _clip_name(value: Any) -> str:
    """Name of a clip: a film's file name without extension."""
    return str(value).rpartition(".")[0] or str(value)


def _sounding(fact: dict[str, Any]) -> dict[str, Any]:
    """Drop the onsets of continuous sounds: SynthFoley's machines and weather."""
    if fact["label"] in synthfoley.CLASSES and fact["label"] not in synthfoley.IMPACTS:
        return {name: value for name, value in fact.items() if name not in ("events", "strengths")}
    return fact
