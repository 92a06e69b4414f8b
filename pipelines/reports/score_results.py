"""Files of an evaluation or a comparison: summary.json, scores.parquet, table.md and table.tex."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.reports import comparison_table
from pipelines.scoring.job import BASELINES, Clip
from pipelines.scoring.summary import Board, entry, is_baseline
from v2a_models.metrics.catalogue import METRICS


def summarise(
    board: Board, missing: Mapping[str, str], *, command: str, version: str, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Summary of an evaluation, the content of summary.json."""
    figures = {system: board.figures(system, missing) for system in board.systems}
    measured = [m for m in METRICS if any(m.name in f for f in figures.values())]
    ordered = sorted(
        board.systems, key=lambda s: (is_baseline(s), list(BASELINES).index(s) if is_baseline(s) else 0)
    )
    return {
        "command": command,
        "started": time.time(),
        "version": version,
        "metrics": [
            {k: getattr(m, k) for k in ("name", "title", "group", "unit", "higher", "about", "per_clip")}
            for m in measured
        ],
        "systems": [
            {
                "name": system,
                "title": system,
                "kind": "baseline" if is_baseline(system) else "model",
                "model": "",
                "about": BASELINES.get(system, ""),
                "clips": len(board.systems[system].clips),
                "failed": len(board.systems[system].failures),
                "failures": [
                    {"clip": c, "reason": r} for c, r in sorted(board.systems[system].failures.items())
                ],
                "aligned": _by_reason(board.systems[system].aligned),
                "metrics": {name: entry(estimate) for name, estimate in figures[system].items()},
            }
            for system in ordered
        ],
        "clips": len({clip for totals in board.systems.values() for clip in totals.clips}),
        "paired": None,
        "champion": None,
        "votes": None,
        "unfit": board.unfit(figures),
        "notes": list(notes),
    }


def _by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Clips by what was done to their sounds."""
    clips: dict[str, list[str]] = {}
    for clip, reason in sorted(reasons.items()):
        clips.setdefault(reason, []).append(clip)
    return clips


def write_scores(out: str, board: Board, summary: Mapping[str, Any], clips: Sequence[Clip]) -> None:
    """Write scores.parquet, summary.json, table.md and table.tex to OUT."""
    facts = {clip.name: clip for clip in clips}
    names = [m.name for m in METRICS if m.per_clip]
    rows = [{"label": facts[row["clip"]].label, **row} for row in board.rows()]
    fields = [(name, pa.string()) for name in ("system", "clip", "label", "aligned", "caption")] + [
        (name, pa.float64()) for name in names
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), sink)
    storage.write_atomic(storage.join(out, "scores.parquet"), sink.getvalue())
    storage.write_atomic(storage.join(out, "table.md"), comparison_table.markdown(summary).encode())
    storage.write_atomic(storage.join(out, "table.tex"), comparison_table.latex(summary).encode())
    storage.write_atomic(storage.join(out, "summary.json"), json.dumps(summary, indent=2).encode())
