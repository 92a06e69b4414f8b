"""The scores of a comparison as tables: one per group of metrics, a row per system, for Markdown and LaTeX.

`tables` reads the summary of a comparison (`summary.json`) once for every kind of page; `markdown` and `latex`
write what it gives.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.reports.pages import plural
from v2a_models.metrics.catalogue import GROUPS

Summary = Mapping[str, Any]

REFERENCE = "reference"
"""The system that is the ground truth."""

WIDEST = 5
"""Metrics beside each other in Markdown and LaTeX; a group of more gets several tables."""

FINEST = 6
"""Decimals at most; smaller figures are printed with a power of ten."""


LEGEND = (
    "↑ more is better, ↓ less is better, ± or [ , ] the 95 % interval. Bold: the best model, which may lie "
    "within the interval of the next. Baselines are no candidates."
)


@dataclass(frozen=True)
class Cell:
    """One figure as it is printed. `value` is empty where there is none; `notes` are numbers of footnotes."""

    value: str
    spread: str = ""
    best: bool = False
    note: int = 0


@dataclass(frozen=True)
class Row:
    """A system and its figures, in the order of the table's metrics."""

    system: Mapping[str, Any]
    cells: list[Cell]


@dataclass
class Table:
    """A group of metrics, or a part of one."""

    title: str
    metrics: list[Mapping[str, Any]]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Footnotes, numbered from 1."""

    def note(self, text: str) -> int:
        """The number of a footnote; the same text has one number. 0 for no text."""
        if text and text not in self.notes:
            self.notes.append(text)
        return self.notes.index(text) + 1 if text else 0


# ---- reading the summary


def is_finite(value: Any) -> bool:
    """True for a figure; None, NaN and infinities are none."""
    return value is not None and math.isfinite(value)


def entry(system: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    """Entry of a system for a metric; `value` is None if it was not measured."""
    missing = {"value": None, "low": None, "high": None, "n": 0, "note": "not measured"}
    return system["metrics"].get(metric) or missing


def ordered(summary: Summary) -> list[Mapping[str, Any]]:
    """Systems, models before baselines, else as they were named."""
    return sorted(summary["systems"], key=lambda system: system["kind"] != "model")


def models(summary: Summary) -> list[Mapping[str, Any]]:
    """The systems that compete."""
    return [system for system in summary["systems"] if system["kind"] == "model"]


def title_of(summary: Summary, name: str) -> str:
    """Title of a system in print; its name if it is not in the summary."""
    return next((system["title"] for system in summary["systems"] if system["name"] == name), name)


def measured(summary: Summary, metric: str) -> bool:
    """True if any system has a figure for the metric."""
    return any(is_finite(entry(system, metric)["value"]) for system in summary["systems"])


def fit(summary: Summary, metric: Mapping[str, Any]) -> bool:
    """True if the metric can rank systems here: it has a direction and ranks the baselines right."""
    return metric["higher"] is not None and metric["name"] not in summary["unfit"]


def best(summary: Summary, metric: Mapping[str, Any]) -> set[str]:
    """Models with the best figure: several at a tie, none where nothing can be ranked or there is no contest."""
    values = {s["name"]: entry(s, metric["name"])["value"] for s in models(summary)}
    values = {name: value for name, value in values.items() if is_finite(value)}
    if len(values) < 2 or not fit(summary, metric):
        return set()
    top = (max if metric["higher"] else min)(values.values())
    return {name for name, value in values.items() if value == top}


def arrow(metric: Mapping[str, Any]) -> str:
    """The direction of a metric; empty if it has none."""
    return {True: "↑", False: "↓"}.get(metric["higher"], "")


def places(summary: Summary, metric: str) -> int:
    """Decimals for all figures of a metric: two digits of a model's interval, three of its value without one."""
    for systems in (models(summary), summary["systems"]):
        entries = [entry(system, metric) for system in systems]
        spreads = sorted(s for e in entries if (s := _half(e)) > 0)
        values = sorted(abs(e["value"]) for e in entries if is_finite(e["value"]) and e["value"])
        if spreads or values:
            usual = spreads or values
            return _decimals(usual[(len(usual) - 1) // 2], 2 if spreads else 3)
    return 0


def entry_places(item: Mapping[str, Any]) -> int:
    """Decimals for one figure on its own, by the same rule."""
    half = _half(item)
    return _decimals(half, 2) if half > 0 else _decimals(abs(item["value"]), 3) if item["value"] else 0


def _half(item: Mapping[str, Any]) -> float:
    """Half the width of an interval; 0 without one."""
    return (item["high"] - item["low"]) / 2 if is_finite(item["low"]) and is_finite(item["high"]) else 0.0


def _decimals(size: float, digits: int) -> int:
    return min(FINEST, max(0, digits - 1 - math.floor(math.log10(size))))


def number(value: float, decimals: int) -> str:
    """A figure with `decimals` decimals; a small one with two significant digits."""
    if value and abs(value) < {0: 1.0, FINEST: 10.0 ** (1 - FINEST)}.get(decimals, 0.0):
        return f"{value:.2g}"
    text = f"{value:,.{decimals}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text


def spread(item: Mapping[str, Any], decimals: int) -> str:
    """The interval of a figure: `± half` where it is even, `[low, high]` where not, empty if there is none."""
    value, low, high = item["value"], item["low"], item["high"]
    if not (is_finite(value) and is_finite(low) and is_finite(high)) or low == high == value:
        return ""
    half = (high - low) / 2
    if abs((high + low) / 2 - value) <= 0.2 * half:
        return f"± {number(half, decimals)}"
    return f"[{number(low, decimals)}, {number(high, decimals)}]"


def absent(summary: Summary) -> list[tuple[Mapping[str, Any], str]]:
    """Metrics that no system has a figure of, with the reasons."""
    gone = [m for m in summary["metrics"] if not measured(summary, m["name"])]
    notes = [[entry(system, m["name"])["note"] for system in summary["systems"]] for m in gone]
    return [
        (m, "; ".join(dict.fromkeys(filter(None, s))) or "no reason given")
        for m, s in zip(gone, notes, strict=True)
    ]


def tables(summary: Summary, widest: int = 0) -> list[Table]:
    """One table per group of metrics that have a figure; of at most `widest` metrics each, if given."""
    with_values = [m for m in summary["metrics"] if measured(summary, m["name"])]
    names = dict.fromkeys([*GROUPS, *(m["group"] for m in with_values)])
    parts_of_page = []
    for group in names:
        metrics = [m for m in with_values if m["group"] == group]
        parts = -(-len(metrics) // widest) if widest else min(1, len(metrics))
        for part in range(parts):
            begin, end = len(metrics) * part // parts, len(metrics) * (part + 1) // parts
            title = group.capitalize() + (f" ({part + 1} of {parts})" if parts > 1 else "")
            parts_of_page.append(_filled(summary, Table(title, metrics[begin:end])))
    return parts_of_page


def _filled(summary: Summary, table: Table) -> Table:
    decimals = {m["name"]: places(summary, m["name"]) for m in table.metrics}
    winners = {m["name"]: best(summary, m) for m in table.metrics}
    for system in ordered(summary):
        cells = []
        for name in decimals:
            item = entry(system, name)
            if is_finite(item["value"]):
                text = number(item["value"], decimals[name])
                won = system["name"] in winners[name]
                cells.append(Cell(text, spread(item, decimals[name]), won, table.note(item["note"])))
            else:
                cells.append(Cell("", note=table.note(item["note"] or "no reason given")))
        table.rows.append(Row(system, cells))
    return table


# ---- Markdown


def markdown(summary: Summary) -> str:
    """Tables with legend and footnotes in GitHub's Markdown."""
    text = [f"{_size(summary)}. {LEGEND}", ""]
    for table in tables(summary, WIDEST):
        heads = [_md(_head(m)) + _dagger(summary, m) for m in table.metrics]
        text += [f"**{_md(table.title)}**", "", _line(["", *heads]), _line(["---", *["--:"] * len(heads)])]
        for row in table.rows:
            name = _md(row.system["title"])
            cells = [name if row.system["kind"] == "model" else f"*{name}*", *map(_md_cell, row.cells)]
            text.append(_line(cells))
        notes = [f"{at}. {_md(note)}" for at, note in enumerate(table.notes, 1)]
        text += ["", *notes, *[""] * bool(notes)]
    for metric, why in summary["unfit"].items():
        text.append(f"- † {_md(metric_title(summary, metric))} is unreliable here: {_md(why)}")
    text += [f"- {_md(m['title'])} n/a: {_md(why)}" for m, why in absent(summary)]
    return "\n".join(text).rstrip() + "\n"


def metric_title(summary: Summary, name: str) -> str:
    """Title of a metric in print; its name if it is not in the summary."""
    return next((m["title"] for m in summary["metrics"] if m["name"] == name), name)


def _size(summary: Summary) -> str:
    clips = plural(summary["clips"], "clip")
    if "window_s" not in summary:  # an evaluation of sounds made elsewhere
        return clips
    return f"{clips} of {summary['window_s']:g} s, seed {summary['seed']}"


def _head(metric: Mapping[str, Any]) -> str:
    unit = f"({metric['unit']})" if metric["unit"] else ""
    return " ".join(filter(None, [metric["title"], unit, arrow(metric)]))


def _dagger(summary: Summary, metric: Mapping[str, Any]) -> str:
    return " †" if metric["name"] in summary["unfit"] else ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md_cell(cell: Cell) -> str:
    value = f"**{cell.value}**" if cell.best else cell.value or "n/a"
    return " ".join(filter(None, [value, _md(cell.spread)])) + (
        f" <sup>{cell.note}</sup>" if cell.note else ""
    )


def _flat(text: Any) -> str:
    """Text on one line, without characters that control."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def _md(text: Any) -> str:
    """Text with Markdown escaped, for cells and for the start of list items."""
    quiet = _flat(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    quiet = re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", quiet)
    return re.sub(r"^([-+]|\d+(?=[.)]))", lambda m: f"&#{ord(m[1][0])};{m[1][1:]}", quiet)


# ---- LaTeX

_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "`": r"\textasciigrave{}", '"': "''", "[": "{[}", "]": "{]}",
    "*": "{*}", "±": r"$\pm$", "†": r"$\dagger$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
}  # fmt: skip
"""`*` and `[` mean something after the end of a row, `--` is a dash, `"` a shorthand in some languages."""


def latex(summary: Summary) -> str:
    """Tables as LaTeX `table` environments with their notes below. They need the package booktabs."""
    text = [r"% Needs \usepackage{booktabs}", f"% {_flat(LEGEND)}"]
    for table in tables(summary, WIDEST):
        text += ["", r"\begin{table}[t]", r"  \centering\small"]
        text.append(rf"  \caption{{{_tex(table.title)}; {_size(summary)}.}}")
        text += [rf"  \begin{{tabular}}{{l{'r' * len(table.metrics)}}}", r"    \toprule"]
        heads = [_tex(_head(m) + _dagger(summary, m)) for m in table.metrics]
        text.append(_tex_row(["", *heads]))
        kind = None
        for row in table.rows:
            if row.system["kind"] != kind:
                kind = row.system["kind"]
                text.append(r"    \midrule")
            text.append(_tex_row([_tex(row.system["title"]), *map(_tex_cell, row.cells)]))
        text += [r"    \bottomrule", r"  \end{tabular}"]
        notes = [rf"\textsuperscript{{{at}}} {_tex(note)}" for at, note in enumerate(table.notes, 1)]
        for metric in table.metrics:
            if why := summary["unfit"].get(metric["name"]):
                notes.append(rf"$\dagger$ {_tex(metric['title'])} is unreliable here: {_tex(why)}")
        text += [rf"  \par\smallskip{{\footnotesize {note}\par}}" for note in notes]
        text.append(r"\end{table}")
    gone = [f"% {_flat(m['title'])} n/a: {_flat(why)}" for m, why in absent(summary)]
    return "\n".join([*text, *gone]) + "\n"


def _tex(text: Any) -> str:
    return re.sub("-(?=-)", "-{}", "".join(_TEX.get(c, c) for c in _flat(text)))


def _tex_row(cells: Sequence[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


def _tex_number(text: str) -> str:
    """Figure in math mode, with a power of ten in place of an `e`."""
    text = re.sub(r"e([-+]?)0*(\d+)", lambda m: rf"\times10^{{{m[1].strip('+')}{m[2]}}}", text)
    return f"${text.replace(',', '{,}')}$"


def _tex_cell(cell: Cell) -> str:
    note = rf"\textsuperscript{{{cell.note}}}" if cell.note else ""
    if not cell.value:
        return "n/a" + note
    value = rf"{{\boldmath{_tex_number(cell.value)}}}" if cell.best else _tex_number(cell.value)
    if cell.spread.startswith("±"):
        value += rf" {{\scriptsize $\pm$ {_tex_number(cell.spread[2:])}}}"
    elif cell.spread:
        low, high = cell.spread.strip("[]").split(", ")
        value += rf" {{\scriptsize {{[}}{_tex_number(low)}, {_tex_number(high)}{{]}}}}"
    return value + note
