"""Scan of an archive: a table with one row per file, whatever the file is.

Formats come from the content, lengths from packets and silence from decoded samples. A file that cannot be read is a
row with the reason; no file stops the scan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from pipelines import retry, storage
from pipelines.archive import joined_films, kinds, wall_clock
from pipelines.archive.picture_runs import without_rate
from pipelines.media.errors import DecodeFailed, DecoderNotStarted
from pipelines.media.raw_streams import RAW_STREAMS
from pipelines.media.video import Probe
from pipelines.sandbox.decoder import Sandbox
from pipelines.storage import FileInfo

VIDEO_SUFFIXES = frozenset(
    (
        ".264",
        ".265",
        ".26l",
        ".3g2",
        ".3gp",
        ".asf",
        ".avc",
        ".avi",
        ".dav",
        ".divx",
        ".dv",
        ".f4v",
        ".flv",
        ".h264",
        ".h265",
        ".hevc",
        ".hvc",
        ".ivf",
        ".jvt",
        ".m1v",
        ".m2t",
        ".m2ts",
        ".m2v",
        ".m4v",
        ".mjpeg",
        ".mjpg",
        ".mkv",
        ".mod",
        ".mov",
        ".mp4",
        ".mpe",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".nut",
        ".obu",
        ".ogm",
        ".ogv",
        ".qt",
        ".rm",
        ".rmvb",
        ".tod",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
        ".wtv",
        ".y4m",
    )
)
"""Suffixes of videos: such a file has failed if it cannot be read."""

AUDIO_SUFFIXES = frozenset(
    (
        ".aac",
        ".ac3",
        ".aif",
        ".aiff",
        ".amr",
        ".au",
        ".caf",
        ".flac",
        ".m4a",
        ".m4b",
        ".mka",
        ".mp2",
        ".mp3",
        ".oga",
        ".ogg",
        ".opus",
        ".wav",
        ".weba",
        ".wma",
    )
)

SCAN_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("duration_s", pa.float64()),
        pa.field("fps", pa.float64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("rotation", pa.int32()),
        pa.field("video_codec", pa.string()),
        pa.field("container", pa.string()),
        pa.field("audio_state", pa.string()),
        pa.field("peak_dbfs", pa.float64()),
        pa.field("video_start_s", pa.float64()),
        pa.field("n_audio_tracks", pa.int32()),
        pa.field("sha256", pa.string()),
        pa.field("recorded_at", pa.string()),
        pa.field("recorded_by", pa.string()),
        pa.field("parts", pa.list_(pa.field("element", pa.string()))),  # as Parquet names it
        pa.field("status", pa.string(), nullable=False),
        pa.field("error_class", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
    ],
    metadata={"v2a_schema": "scan/1"},
)
"""Columns of a row. `status`: `ok` (a video), `audio_only`, `not_video` (no footage: text, pictures, ...) or `failed`
(probably a video, by name or content, but cannot be read; `error_class` and `error` have the reason). The columns from
`duration_s` to `recorded_by` are null unless `status` is `ok`. `recorded_at` is the time at which a film begins (ISO
8601, with the zone where it is known), `recorded_by` its origin (`wall_clock`); both are null if nothing says it.
`parts` are the paths of the files of a film of several (`joined_films`), and null for all others. `error` of an `ok`
row is a note; that of a `not_video` row whose `error_class` is NOT_FOOTAGE is its kind (`pipelines.archive.kinds`)."""

_FACTS = (
    "duration_s",
    "fps",
    "width",
    "height",
    "rotation",
    "video_codec",
    "container",
    "audio_state",
    "peak_dbfs",
    "video_start_s",
    "n_audio_tracks",
    "sha256",
)

LATER = ("recorded_at", "recorded_by", "parts")
"""Columns that tables of earlier releases lack."""

MOST_GAPS = 5
"""Gaps in the numbers of a sequence that its note names."""

NOT_LOOKED_AT = "NotReadable"
"""`error_class` of an entry that was not opened: a link that leads away, a pipe, what v2a wrote itself."""

NOT_FOOTAGE = "NotFootage"
"""`error_class` of a file that is no film by its content."""

SILENT_STATES = ("none", "empty", "silent")
"""Values of `audio_state` for videos that count as silent."""


def known_row(info: FileInfo, rows: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The row of a file among those of an earlier scan, by video_id; None if it is another file, or was read at
    another rate."""
    if (row := rows.get(video_id(info.path, info.size, info.version))) is not None:
        return {**row, "uri": info.uri}
    plain = without_rate(info)
    row = rows.get(video_id(plain.path, plain.size, plain.version))
    return None if row is None or row["container"] in RAW_STREAMS else {**row, "uri": plain.uri}


def video_id(path: str, size: int, version: str) -> str:
    """Stable identifier of a file's content at its path: 16 hex digits of the SHA-256 of all three."""
    return hashlib.sha256(f"{path}\0{size}\0{version}".encode()).hexdigest()[:16]


def suffix(path: str) -> str:
    """Lower-case suffix with its dot, or an empty string."""
    name = path.rsplit("/", 1)[-1]
    stem, dot, ending = name.rpartition(".")
    return f".{ending.lower()}" if dot and stem else ""


def named_media(path: str) -> bool:
    """True if the name is one of footage or sound."""
    return suffix(path) in VIDEO_SUFFIXES | AUDIO_SUFFIXES or storage.is_run_name(path)


def too_long(row: dict[str, Any], max_hours: float) -> str:
    """The reason why a video is longer than `--max-hours-per-file` allows (0: any length); empty if it is not."""
    hours = (row["duration_s"] or 0.0) / 3600
    if not max_hours or row["status"] != "ok" or hours <= max_hours:
        return ""
    return (
        f"it lasts {hours:.4g} h, and --max-hours-per-file allows {max_hours:g}; if that is its true length, give a "
        "larger number (0 for any length)"
    )


def scan_file(info: FileInfo, sandbox: Sandbox) -> dict[str, Any]:
    """Row of one file, with the columns of SCAN_SCHEMA.

    Never raises for an error of the file or of its storage: storage gets the tries of `retry.SCAN` before the row has
    failed. Raises DecoderNotStarted.
    """
    # A rate belongs to what has none of its own, which shows when it is opened.
    row = dict.fromkeys(SCAN_SCHEMA.names) | _identity(
        info if storage.is_sequence(info.uri) else without_rate(info)
    )
    named_video = suffix(info.path) in VIDEO_SUFFIXES
    if info.problem:
        status = "failed" if info.lost or (named_video and not info.own) else "not_video"
        return row | {"status": status, "error_class": NOT_LOOKED_AT, "error": info.problem}
    try:
        for attempt in retry.storage_attempts(retry.SCAN):
            with attempt:
                row |= _examine(info, sandbox, named_video)
    except DecoderNotStarted:  # no fault of the file
        raise
    except DecodeFailed as error:
        row |= {"status": "failed", "error_class": error.error_class, "error": error.message}
    except Exception as error:  # one file never stops a scan, whatever is wrong with it
        status = "failed" if named_media(info.path) else "not_video"
        row |= {"status": status, "error_class": type(error).__name__, "error": str(error)}
    return row


def _identity(info: FileInfo) -> dict[str, Any]:
    return {
        "video_id": video_id(info.path, info.size, info.version),
        "path": info.path,
        "uri": info.uri,
        "size": info.size,
        "version": info.version,
        "parts": list(info.parts) or None,
        "error_class": "",
        "error": "",
    }


def _examine(info: FileInfo, sandbox: Sandbox, named_video: bool) -> dict[str, Any]:
    if storage.is_sequence(info.uri):
        return _examine_sequence(info, sandbox)
    head = storage.read_head(info.uri, kinds.HEAD) if info.size else b""
    kind, ending = kinds.kind_of(head), suffix(info.path)
    if kinds.is_passed_over(kind, ending, named_video):
        return _no_film(kind)
    named_sound = ending in AUDIO_SUFFIXES
    if not (named_video or named_sound or kind in (kinds.FILM, kinds.SOUND)):
        return _no_film(kind)
    try:
        notes = [joined_films.examine(info, sandbox.probe)] if info.parts else []
        facts = sandbox.probe(info.uri)
    except DecodeFailed as error:
        if error.error_class == "NoVideoStream":
            return {"status": "audio_only"}
        likely = named_video or (kind == kinds.FILM and not named_sound)
        if not likely and error.error_class in ("NotAVideo", "ForbiddenFormat", "EmptyFile"):
            return _no_film(kinds.SOUND if named_sound and kind == kinds.OTHER else kind)
        return {"status": "failed", "error_class": error.error_class, "error": error.message}
    found = {name: getattr(facts, name) for name in _FACTS} | _recorded(facts, info)
    found |= {"status": "ok", "error": "; ".join(filter(None, (*notes, facts.note)))}
    return (_identity(info) if facts.container in RAW_STREAMS else {}) | found


def _recorded(facts: Probe, info: FileInfo) -> dict[str, Any]:
    recorded_at, recorded_by = wall_clock.recorded(facts.recorded_at, info.path)
    return {"recorded_at": recorded_at, "recorded_by": recorded_by}


def _examine_sequence(info: FileInfo, sandbox: Sandbox) -> dict[str, Any]:
    """Facts of a sequence of pictures. Raises DecodeFailed, StorageError."""
    gaps = storage.picture_run(info.uri).missing()
    rate = storage.rate_of(info.uri)
    assert rate is not None  # the listing gives it one
    facts = sandbox.probe(info.uri)
    words = [f"{a}" if a == b else f"{a}-{b}" for a, b in gaps[:MOST_GAPS]]
    more = " ..." if len(gaps) > MOST_GAPS else ""
    note = f"frames {', '.join(words)}{more} are missing, held" if gaps else ""
    found = {name: getattr(facts, name) for name in _FACTS} | _recorded(facts, info)
    return found | {"status": "ok", "fps": float(rate), "error": "; ".join(filter(None, (note, facts.note)))}


def _no_film(kind: str) -> dict[str, Any]:
    return {"status": "not_video", "error_class": NOT_FOOTAGE, "error": kind}


def kind_passed_over(row: dict[str, Any]) -> str:
    """Kind of the file of a row that holds no footage; empty for films, failed files and what was not looked at."""
    if row["status"] == "audio_only":
        return kinds.SOUND
    if row["status"] != "not_video" or row["error_class"] == NOT_LOOKED_AT:
        return ""
    return str(row["error"]) if row["error_class"] == NOT_FOOTAGE else kinds.OTHER


def scan(root: str, sandbox: Sandbox | None = None) -> Iterator[dict[str, Any]]:
    """Rows of a whole archive in the order of the listing, made one after the other in this process.

    Raises StorageError if the root cannot be listed.
    """
    if sandbox is not None:
        yield from (scan_file(info, sandbox) for info in storage.list_tree(root, everything=True))
        return
    with Sandbox() as own:
        yield from (scan_file(info, own) for info in storage.list_tree(root, everything=True))


def to_table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Rows as an Arrow table of SCAN_SCHEMA, sorted by path."""
    ordered = sorted(rows, key=lambda row: str(row["path"]))
    return pa.Table.from_pylist(ordered, schema=SCAN_SCHEMA)
