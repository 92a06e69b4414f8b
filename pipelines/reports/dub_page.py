"""Report of a dub: one row per input file, as Parquet for programs and as a page for people.

`write` brings `_v2a/report.parquet` and `_v2a/report.html` to the output folder. The page loads nothing but the media
beside it, and opens from disk.
"""

from __future__ import annotations

import io
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.reports import costs, film_card, pages
from pipelines.reports.costs import Prices
from pipelines.reports.dub_rows import REPORT_SCHEMA, STATUSES
from pipelines.reports.film_card import CARD_S


def write(out_root: str, rows: Iterable[Mapping[str, Any]], run: Mapping[str, Any]) -> None:
    """Write `OUT/_v2a/report.parquet` and `OUT/_v2a/report.html`, each in one atomic step.

    rows: one mapping per input file with the columns of `REPORT_SCHEMA`; other keys are left out, missing
        ones are null.
    run: facts about the job. Shown where they are known: `archive`, `out`, `model`, `model_sha256`, `seed`,
        `version`, `command`, `started` (ISO 8601 or seconds since 1970), `wall_s`, `x_realtime`, and
        `knows`, the sounds that the model was trained for; any other
        plain value is listed under the run's details by its name.

    Raises ValueError for a status that is not one of `STATUSES`, StorageError if OUT cannot be written.
    """
    ordered = sorted((_clean(row) for row in rows), key=lambda row: str(row["path"]))
    for row in ordered:
        if row["status"] not in STATUSES:
            raise ValueError(f"{row['path']}: status {row['status']!r} is not one of {', '.join(STATUSES)}")
    table = pa.Table.from_pylist(ordered, schema=REPORT_SCHEMA)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    storage.write_atomic(storage.join(out_root, storage.PRIVATE_FOLDER, "report.parquet"), sink.getvalue())
    page = render_report(ordered, run).encode(
        "utf-8", "backslashreplace"
    )  # ARCHIVE may be a name that is not UTF-8
    storage.write_atomic(storage.join(out_root, storage.PRIVATE_FOLDER, "report.html"), page)


def render_report(rows: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> str:
    """HTML of the page. It holds everything but the media, to which it links one folder up."""
    return pages.render(
        "report.html.j2",
        totals=totals(rows, run),
        rows=[_page_row(row) for row in rows],
        run=_run_facts(run),
        card_s=CARD_S,
        card_height=film_card.HEIGHT,
    )


def totals(rows: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> dict[str, Any]:
    """Counts, footage and speed over all rows. `x_realtime` is None if nothing was dubbed."""
    counts = Counter(str(row["status"]) for row in rows)
    seconds = dict.fromkeys(STATUSES, 0.0)
    for row in rows:
        seconds[str(row["status"])] += row.get("duration_s") or 0.0
    speed, basis = run.get("x_realtime"), "of this run"
    if speed is None and run.get("wall_s") and seconds["dubbed"]:
        speed = seconds["dubbed"] / float(run["wall_s"])
    if speed is None and seconds["dubbed"]:
        cores = sum(row.get("core_seconds") or 0.0 for row in rows if row["status"] == "dubbed")
        speed, basis = (seconds["dubbed"] / cores if cores else None), "per core"
    return {
        "files": len(rows),
        "counts": {status: counts[status] for status in STATUSES},
        "seconds": seconds,
        "total_s": sum(seconds.values()),
        "x_realtime": speed,
        "x_basis": basis,
        "costs": costs.costs(rows, Prices(run.get("price_core_hour"), run.get("price_gpu_hour"))),
        "flagged": sum(1 for row in rows if row.get("n_flags") or row.get("flags")),
    }


# ---- the page

UNSHOWN = ("video_id", "source_sha256", "source_sha256_after", "output_sha256")
UNSHOWN_IF_0 = ("gpu_seconds", "scenes", "static_s", "n_flags")


def _clean(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the schema, with text that can be written as UTF-8 and numbers that are numbers."""
    clean: dict[str, Any] = {}
    for field in REPORT_SCHEMA:
        value = row.get(field.name)
        if isinstance(value, str):
            value = value.encode("utf-8", "backslashreplace").decode()
        elif pa.types.is_integer(field.type) and value is not None:
            value = int(value)
        elif isinstance(value, float) and not math.isfinite(value):
            value = None
        clean[field.name] = value
    return clean


def _page_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a row that the page shows: no empty ones, numbers at the precision that is printed."""
    values: dict[str, Any] = {}
    for name, value in row.items():
        if name in UNSHOWN or value is None or value in ("", []) or (name in UNSHOWN_IF_0 and not value):
            continue
        values[name] = round(value, 4) if isinstance(value, float) else value
    if captions := values.pop("captions", None):  # the page makes `caption` of them
        values["captions"] = [[round(cue["start_s"], 2), cue["text"]] for cue in captions]
        values.pop("caption", None)
    if seams := values.pop("seams", None):
        pairs = [[seam["at_s"], seam["jump"]] for seam in seams if None not in seam.values()]
        # A seam that jumps no more than time steps within windows is inaudible.
        audible = [(at_s, jump) for at_s, jump in pairs if 1 < jump < math.inf]
        if audible:
            values["seams"] = [[round(at_s, 2), round(jump, 1)] for at_s, jump in audible]
    if flags := values.pop("flags", None):
        values["flags"] = [[round(f["start_s"], 2), round(f["end_s"], 2), f["what"]] for f in flags]
    for name in ("output", "card", "contact_sheet"):
        if name in values:
            values[f"{name}_url"] = link(str(values[name]))
    return values


def link(relative: str) -> str:
    """URL of a file of the output folder, relative to the page in `_v2a`."""
    return "../" + quote(os.fsencode(relative))


def _run_facts(run: Mapping[str, Any]) -> dict[str, Any]:
    facts = {
        name: value
        for name, value in run.items()
        if isinstance(value, (str, int, float, bool)) and value != ""
    }
    started = facts.get("started")
    if isinstance(started, (int, float)):
        facts["started"] = datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds")
    return facts
