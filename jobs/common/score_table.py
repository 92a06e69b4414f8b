"""Table of metrics on the terminal, for evaluate and compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.scoring.summary import Board

LISTED = 10
"""Most clips that a line on the terminal names."""


def print_summary(summary: Mapping[str, Any], board: Board, name: str, console: Console) -> None:
    """Print the table of metrics, and notes on sounds and metrics."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from jobs.common.terminal import printable
    from v2a_models.metrics.frechet import FEW

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("† unreliable here" if summary["unfit"] else "", no_wrap=True)
    for system in summary["systems"]:
        table.add_column(escape(printable(system["title"])), justify="right", no_wrap=True)
    for metric in summary["metrics"]:
        cells = [_cell(system["metrics"].get(metric["name"])) for system in summary["systems"]]
        if any(cell != "n/a" for cell in cells):
            mark = " †" if metric["name"] in summary["unfit"] else ""
            unit = f" ({metric['unit']})" if metric["unit"] else ""
            arrow = {True: " ↑", False: " ↓", None: ""}[metric["higher"]]
            table.add_row(f"{metric['title']}{unit}{arrow}{mark}", *cells)
    # Output into a file has no screen to fit.
    wide = console if console.is_terminal else Console(file=console.file, highlight=False, width=200)
    wide.print(table, soft_wrap=False)
    for system in summary["systems"]:
        for reason, clips in system["aligned"].items():
            line = f"{system['name']}: {len(clips)} clips: {reason}: {listed(clips)}"
            console.print(printable(line), markup=False)
    for clip, reason in list(board.systems[name].failures.items())[:LISTED]:
        console.print(printable(f"not scored: {clip}: {reason}"), markup=False)
    for metric in summary["metrics"]:
        notes = {system["metrics"].get(metric["name"], {}).get("note", "") for system in summary["systems"]}
        for note in sorted(note for note in notes if FEW in note):
            console.print(f"{metric['title']}: {note}", markup=False)
    for metric, reason in summary["unfit"].items():
        console.print(f"unreliable here: {metric}: {reason}", markup=False)
    for note in summary["notes"]:
        console.print(note, markup=False)


def listed(clips: Sequence[str]) -> str:
    more = len(clips) - LISTED
    return ", ".join(clips[:LISTED]) + (f" and {more} more" if more > 0 else "")


def _cell(estimate: Mapping[str, Any] | None) -> str:
    return "n/a" if estimate is None or estimate["value"] is None else f"{estimate['value']:.3g}"
