"""Rows of a dub's report and their schema."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pyarrow as pa

from pipelines import storage
from pipelines.media.errors import Failure

STATUSES = ("dubbed", "skipped", "failed")

CAPTIONS_TYPE = pa.list_(
    pa.struct([("start_s", pa.float64()), ("end_s", pa.float64()), ("text", pa.string())])
)
"""Captions of a film with their times; the column `caption` has their texts alone."""

SEAMS = pa.list_(pa.struct([("at_s", pa.float64()), ("jump", pa.float64())]))
"""The worst joins between windows: time, and jump as a multiple of the usual one between neighbouring time steps."""

FLAGS = pa.list_(pa.struct([("start_s", pa.float64()), ("end_s", pa.float64()), ("what", pa.string())]))
"""Suspicious stretches (`pipelines.soundtrack.flags`): the longest of `n_flags`."""

REPORT_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("path", pa.string()),
        ("output", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("stage", pa.string()),
        ("error_class", pa.string()),
        ("message", pa.string()),
        ("duration_s", pa.float64()),
        ("fps", pa.float64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("video_codec", pa.string()),
        ("container", pa.string()),
        ("audio_state", pa.string()),
        ("peak_dbfs", pa.float64()),
        ("n_windows", pa.int32()),
        ("model", pa.string()),
        ("seed", pa.int64()),
        ("sound_peak_dbfs", pa.float64()),
        ("sound_rms_dbfs", pa.float64()),
        ("core_seconds", pa.float64()),
        ("x_realtime", pa.float64()),
        ("card", pa.string()),
        ("source_sha256", pa.string()),
        ("source_sha256_after", pa.string()),
        ("output_sha256", pa.string()),
        ("signer", pa.string()),
        ("prompt", pa.string()),
        ("negative", pa.string()),
        ("caption", pa.string()),
        ("captions", CAPTIONS_TYPE),
        ("subtitles", pa.string()),
        ("treatment", pa.string()),
        ("sound_lufs", pa.float64()),
        ("sound_true_peak_dbtp", pa.float64()),
        ("heard_s", pa.float64()),
        ("tracks", pa.int32()),
        ("gpu_seconds", pa.float64()),
        ("scenes", pa.int32()),
        ("static_s", pa.float64()),
        ("static", pa.string()),
        ("seams", SEAMS),
        ("flags", FLAGS),
        ("n_flags", pa.int32()),
        ("contact_sheet", pa.string()),
        ("left_out", pa.list_(pa.string())),
        ("converted", pa.list_(pa.string())),
        ("recorded_at", pa.string()),
        ("recorded_by", pa.string()),
        ("parts", pa.list_(pa.string())),
    ]
)
"""Columns of `report.parquet`.

`path` is relative to the archive; `output`, `card`, `contact_sheet` and `subtitles` to OUT (`subtitles` is `track`
if the film itself holds them). `scenes` counts the hard cuts at which windows end, `static_s` the seconds without
motion; `static` describes what the track holds there, with times. `left_out` names every stream and fact of the film
that its copy does not hold, `converted` every sound track of it that is decoded there.
`recorded_at` is when the film begins by the wall clock, as far as its metadata or its name say it (`recorded_by`).
`parts` are the paths of the files of a film of several, of which `path` is the first.
"""

_FROM_SCAN = (
    "video_id", "path", "duration_s", "fps", "width", "height", "video_codec", "container", "audio_state", "peak_dbfs",
    "recorded_at", "recorded_by",
)  # fmt: skip
_FROM_0 = ("n_windows", "core_seconds", "tracks", "gpu_seconds", "scenes", "static_s", "n_flags")
"""Numbers that begin at 0; the others are null until they are known."""


def report_row(video: dict[str, Any], status: str, reason: str = "", **values: Any) -> dict[str, Any]:
    """Report row with every column of `REPORT_SCHEMA`, from a row of the scan; `values` override the defaults."""
    row = {field.name: _default(field) for field in REPORT_SCHEMA}
    row |= {name: video.get(name) for name in _FROM_SCAN}
    row |= {
        "parts": video.get("parts") or [],
        "status": status,
        "reason": reason,
        "source_sha256": video.get("sha256") or "",
    }
    return row | values


def _default(column: pa.Field) -> Any:
    if pa.types.is_list(column.type):
        return []
    if pa.types.is_string(column.type):
        return ""
    return pa.scalar(0, column.type).as_py() if column.name in _FROM_0 else None


def failed_row(video: dict[str, Any], failure: Failure) -> dict[str, Any]:
    """Report row of a file that got no sound because of `failure`."""
    return report_row(video, "failed", failure.message, **asdict(failure))


def unwritable_row(video: dict[str, Any], error: storage.StorageError) -> dict[str, Any]:
    """Report row of a film that storage could not read or write."""
    return failed_row(video, Failure("storage", type(error).__name__, str(error)))


def check_row(row: dict[str, Any]) -> None:
    """Fill the columns that a row of an earlier release lacks as `report_row` does, but for numbers, which it did not
    count.

    Raises ValueError for a row that cannot stand in the report: without a film or a status, or with values of another
    type.
    """
    if not isinstance(row.get("path"), str) or not row["path"] or not isinstance(row.get("video_id"), str):
        raise ValueError("not the row of a film")
    if row.get("status") not in STATUSES:
        raise ValueError(f"status is {row.get('status')!r}")
    for field in REPORT_SCHEMA:
        if row.get(field.name) is None:
            counted = field.name in (*_FROM_0, *_FROM_SCAN)
            row[field.name] = None if counted else _default(field)
        try:
            pa.array([row[field.name]], field.type)
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"{field.name} is {str(row[field.name])[:80]!r}") from error
    size = row.get("output_size")
    if row["status"] == "dubbed" and not (row["output"] and isinstance(size, int) and row["duration_s"]):
        raise ValueError("a dubbed film without output, output_size or duration_s")
