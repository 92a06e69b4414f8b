"""A comparison in MLflow: one run, and below it one for every system, with a table of its clips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines import storage
from pipelines.reports.comparison_page import sound_url
from pipelines.reports.comparison_table import fit, known

if TYPE_CHECKING:
    from jobs.compare_plan import Plan

TABLE = "clips.json"
"""The table of clips of a run, as MLflow's own pages show and compare them."""


def record(
    plan: Plan, summary: dict[str, Any], scores: Sequence[Mapping[str, Any]], uri: str | None, parent: Any
) -> None:
    """Figures of the comparison into its run, those of each system into a run below it."""
    from jobs.tracking import Tracker

    if uri is None or not parent.opened():
        return
    parent.metrics({"clips": summary["clips"], **paired_metrics(summary), **votes_metrics(summary)})
    for system in summary["systems"]:
        child = Tracker(uri, "v2a/compare", out=plan.out, say=lambda text: None)
        tags = {"mlflow.parentRunId": parent.run_id, "v2a.kind": system["kind"], "v2a.model": system["model"]}
        child.start(system["title"], {"system": system["name"], "model": system["model"]}, tags)
        child.metrics(system_metrics(system))
        rows = [row for row in scores if row["system"] == system["name"]]
        if rows:
            child.table(clip_table(plan, summary, rows), TABLE)
        child.finish("FINISHED")


def system_metrics(system: Mapping[str, Any]) -> dict[str, float]:
    """A system's figures by name, and the ends of their intervals as low/NAME and high/NAME."""
    found: dict[str, float] = {"clips": system["clips"], "failed": system["failed"]}
    for name, item in system["metrics"].items():
        parts = {name: item["value"], f"low/{name}": item["low"], f"high/{name}": item["high"]}
        found |= {key: value for key, value in parts.items() if known(value)}
    return found


def paired_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Differences of the first two models with their intervals."""
    found: dict[str, float] = {}
    for name, item in (summary["paired"] or {"metrics": {}})["metrics"].items():
        parts = {"": item["value"], " low": item["low"], " high": item["high"]}
        found |= {f"difference/{name}{part}": value for part, value in parts.items() if known(value)}
    return found


def votes_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """The share of the votes that prefer the first of two systems, with its interval."""
    found: dict[str, float] = {}
    for result in (summary["votes"] or {}).get("results", []):
        name = f"preference/{result['first']} over {result['second']}"
        parts = {"": result["preferred_first"], " low": result["low"], " high": result["high"]}
        found |= {f"{name}{part}": value for part, value in parts.items() if known(value)}
        found[f"{name} votes"] = result["n"]
    return found


def clip_table(
    plan: Plan, summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> dict[str, list[Any]]:
    """Columns of a system's clips, the worst first, with the addresses of their sounds.

    Worst by the first figure per clip that is fit here; MLflow's pages sort by any other.
    """
    metrics = [
        m for m in summary["metrics"] if m["per_clip"] and any(known(row.get(m["name"])) for row in rows)
    ]
    ranking = next((m for m in metrics if fit(summary, m)), None)

    def badness(row: Mapping[str, Any]) -> float:
        value = row.get(ranking["name"]) if ranking else None
        if ranking is None or value is None or not math.isfinite(value):
            return math.inf
        return value if ranking["higher"] else -value

    ordered = sorted(rows, key=badness)
    table: dict[str, list[Any]] = {name: [row[name] for row in ordered] for name in ("clip", "label", "path")}
    table["sound"] = [storage.join(plan.out, sound_url(row["system"], row["clip"])) for row in ordered]
    texts = {row.clip_id: row.text for row in plan.rows}
    if any(row["caption"] for row in ordered):
        table["caption"] = [row["caption"] for row in ordered]
        table["true caption"] = [texts[row["clip"]] for row in ordered]
    for metric in metrics:
        table[metric["title"]] = [row.get(metric["name"]) for row in ordered]
    return table
