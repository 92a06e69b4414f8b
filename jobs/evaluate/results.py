"""Results of an evaluation: summary, tables, terminal output, and exported sounds."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs.cli import version
from jobs.common.verb import WrongUsage

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.scoring.job import Clip
    from pipelines.scoring.summary import Board

LISTED = 10
"""Most clips that a line on the terminal names."""


def summarise(board: Board, missing: Mapping[str, str], command: str, notes: Sequence[str]) -> dict[str, Any]:
    """Summary of an evaluation, the content of summary.json."""
    from pipelines.scoring.job import BASELINES
    from pipelines.scoring.summary import entry, is_baseline
    from v2a_models.metrics.catalogue import METRICS

    figures = {system: board.figures(system, missing) for system in board.systems}
    measured = [m for m in METRICS if any(m.name in f for f in figures.values())]
    ordered = sorted(
        board.systems, key=lambda s: (is_baseline(s), list(BASELINES).index(s) if is_baseline(s) else 0)
    )
    return {
        "command": command,
        "started": time.time(),
        "version": version(),
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


def write(out: str, board: Board, summary: Mapping[str, Any], clips: Sequence[Clip]) -> None:
    """Write scores.parquet, summary.json, table.md and table.tex to OUT."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipelines import storage
    from pipelines.reports import comparison_table
    from v2a_models.metrics.catalogue import METRICS

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


def print_summary(summary: Mapping[str, Any], board: Board, name: str, console: Console) -> None:
    """Print the table of metrics, and notes on sounds and metrics."""
    from rich.console import Console
    from rich.table import Table

    from jobs.common.terminal import printable
    from v2a_models.metrics.frechet import FEW

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("† unfit here" if summary["unfit"] else "", no_wrap=True)
    for system in summary["systems"]:
        table.add_column(printable(system["title"]), justify="right", no_wrap=True)
    for metric in summary["metrics"]:
        cells = [_cell(system["metrics"].get(metric["name"])) for system in summary["systems"]]
        if any(cell != "n/a" for cell in cells):
            mark = " †" if metric["name"] in summary["unfit"] else ""
            unit = f" ({metric['unit']})" if metric["unit"] else ""
            arrow = {True: " ↑", False: " ↓", None: ""}[metric["higher"]]
            table.add_row(f"{metric['title']}{unit}{arrow}{mark}", *cells)
    # Output into a file has no screen to fit.
    wide = console if console.is_terminal else Console(highlight=False, width=200)
    wide.print(table, soft_wrap=False)
    for system in summary["systems"]:
        for reason, clips in system["aligned"].items():
            console.print(f"{system['name']}: {len(clips)} clips: {reason}: {listed(clips)}", markup=False)
    for clip, reason in list(board.systems[name].failures.items())[:LISTED]:
        console.print(f"not scored: {clip}: {reason}", markup=False)
    for metric in summary["metrics"]:
        notes = {system["metrics"].get(metric["name"], {}).get("note", "") for system in summary["systems"]}
        for note in sorted(note for note in notes if FEW in note):
            console.print(f"{metric['title']}: {note}", markup=False)
    for metric, reason in summary["unfit"].items():
        console.print(f"unfit here: {metric}: {reason}", markup=False)
    for note in summary["notes"]:
        console.print(note, markup=False)


def listed(clips: Sequence[str]) -> str:
    more = len(clips) - LISTED
    return ", ".join(clips[:LISTED]) + (f" and {more} more" if more > 0 else "")


def _cell(estimate: Mapping[str, Any] | None) -> str:
    return "n/a" if estimate is None or estimate["value"] is None else f"{estimate['value']:.3g}"


def export(folder: str, name: str, clips: Sequence[Clip], board: Board) -> None:
    """Write the scored sounds and the true ones in av-benchmark's layout: FOLDER/SYSTEM/CLIP.wav, mono, equally long.

    Raises WrongUsage if two clips would have the same file.
    """
    from pipelines import storage
    from pipelines.scoring import sound_folder

    scored = set(board.systems[name].clips)
    exported = [clip for clip in clips if clip.name in scored]
    try:
        files = sound_folder.flat_names([clip.name for clip in exported])
    except sound_folder.SoundError as error:
        raise WrongUsage(f"--export: {error}") from error
    for clip in exported:
        n = len(sound_folder.read_sound(clip.reference).samples)
        for system, uri in ((name, clip.systems[name]), ("reference", clip.reference)):
            samples, _ = sound_folder.read_sound(uri).fitted(n)
            storage.write_atomic(
                storage.join(folder, system, f"{files[clip.name]}.wav"), sound_folder.wav_bytes(samples)
            )
