"""MLflow runs of a comparison (one, with a child run per system and its table of clips), and its champion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs.common import registry
from jobs.common.verb import WrongUsage
from pipelines import storage
from pipelines.reports.comparison_page import sound_url
from pipelines.reports.comparison_table import fit, is_finite
from pipelines.scoring.summary import Board, verdict
from v2a_models.metrics.catalogue import BY_NAME, Metric

if TYPE_CHECKING:
    from jobs.compare.config import CompareConfig
    from jobs.compare.preflight import ComparePlan

TABLE = "clips.json"
"""Table of clips of a run, in the form that MLflow's pages show and compare."""

REGISTERED = "v2a"
"""Registered name of the champions."""


def record(
    plan: ComparePlan,
    summary: dict[str, Any],
    scores: Sequence[Mapping[str, Any]],
    uri: str | None,
    parent: Any,
) -> None:
    """Record the metrics of the comparison in its run, and those of each system in a child run."""
    from jobs.common.tracking import Tracker

    if uri is None or not parent.opened():
        return
    parent.metrics({"clips": summary["clips"], **paired_metrics(summary), **votes_metrics(summary)})
    for system in summary["systems"]:
        child = Tracker(uri, "v2a/compare", out=plan.out, notify=lambda text: None)
        tags = {"mlflow.parentRunId": parent.run_id, "v2a.kind": system["kind"], "v2a.model": system["model"]}
        child.start(system["title"], {"system": system["name"], "model": system["model"]}, tags)
        child.metrics(system_metrics(system))
        rows = [row for row in scores if row["system"] == system["name"]]
        if rows:
            child.table(clip_table(plan, summary, rows), TABLE)
        child.finish("FINISHED")


def system_metrics(system: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of a system by name, and the ends of their intervals as low/NAME and high/NAME."""
    metrics: dict[str, float] = {"clips": system["clips"], "failed": system["failed"]}
    for name, item in system["metrics"].items():
        parts = {name: item["value"], f"low/{name}": item["low"], f"high/{name}": item["high"]}
        metrics |= {key: value for key, value in parts.items() if is_finite(value)}
    return metrics


def paired_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Differences of the first two models, with their intervals."""
    metrics: dict[str, float] = {}
    for name, item in (summary["paired"] or {"metrics": {}})["metrics"].items():
        parts = {"": item["value"], " low": item["low"], " high": item["high"]}
        metrics |= {f"difference/{name}{part}": value for part, value in parts.items() if is_finite(value)}
    return metrics


def votes_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Fraction of the votes that prefer the first of two systems, with its interval."""
    metrics: dict[str, float] = {}
    for result in (summary["votes"] or {}).get("results", []):
        name = f"preference/{result['first']} over {result['second']}"
        parts = {"": result["preferred_first"], " low": result["low"], " high": result["high"]}
        metrics |= {f"{name}{part}": value for part, value in parts.items() if is_finite(value)}
        metrics[f"{name} votes"] = result["n"]
    return metrics


def clip_table(
    plan: ComparePlan, summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> dict[str, list[Any]]:
    """Columns of a system's clips with the addresses of their sounds, the worst first.

    The order is that of the first metric per clip that passed the check on baselines; MLflow can sort by others.
    """
    metrics = [
        m for m in summary["metrics"] if m["per_clip"] and any(is_finite(row.get(m["name"])) for row in rows)
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


def promote(
    plan: ComparePlan,
    config: CompareConfig,
    board: Board,
    summary: dict[str, Any],
    uri: str | None,
    tracker: Any,
) -> dict[str, Any]:
    """Promote the best model by a metric to champion; returns the summary's entry with the reason for or against."""
    metric = BY_NAME[config.promote]
    best, refusal = winner(metric, [model.slug for model in plan.models], board, summary)
    if refusal:
        return _decision(metric, "", refusal)
    if uri is None:
        return _decision(metric, "", "--tracking-uri is off, and promotion needs the registry.")
    if not tracker.opened():
        return _decision(metric, "", "MLflow is not reachable.")
    model = next(m for m in plan.models if m.slug == best)
    try:
        client = registry.client_of(uri)
    except WrongUsage as error:
        return _decision(metric, "", f"{error}.")
    present = registry.champion(client, REGISTERED)
    if present is not None and present.sha256 == model.sha256:
        return _decision(metric, best, "it already was the champion.")
    if present is not None and present.sha256 not in {m.sha256 for m in plan.models}:
        return _decision(
            metric,
            "",
            f"the current champion ({registry.PREFIX}{REGISTERED}/{present.version}) was not compared; add "
            f"{registry.PREFIX}{REGISTERED}@{registry.CHAMPION} to the models.",
        )
    if not registry.promote(client, tracker, REGISTERED, model.folder, model.sha256, metric.name):
        return _decision(metric, "", f"the registry rejected it ({tracker.problem or 'no answer'}).")
    alias = f"{registry.PREFIX}{REGISTERED}@{registry.CHAMPION}"
    return _decision(metric, best, f"v2a dub ARCHIVE OUT --model {alias} --tracking-uri ... uses it.")


def _decision(metric: Metric, name: str, reason: str) -> dict[str, Any]:
    return {"metric": metric.name, "name": name, "promoted": bool(name), "reason": reason}


def winner(metric: Metric, models: list[str], board: Board, summary: dict[str, Any]) -> tuple[str, str]:
    """Model that beats every other by a metric, beyond the interval of their difference; else an empty name and why."""
    if metric.name in summary["unfit"]:
        return "", f"{metric.title} is unreliable here ({summary['unfit'][metric.name]})."
    entries = {
        s["name"]: s["metrics"].get(metric.name, {}) for s in summary["systems"] if s["name"] in models
    }
    values = {slug: item["value"] for slug, item in entries.items() if item.get("value") is not None}
    if len(values) < 2:
        notes = sorted({item.get("note") or "not measured" for s, item in entries.items() if s not in values})
        why = f": {'; '.join(notes)}" if notes else "; at least two are needed"
        return "", f"{metric.title} was measured for {len(values)} of {len(models)} models{why}."
    best, *others = sorted(values, key=lambda slug: values[slug], reverse=bool(metric.higher))
    for other in others:
        difference = board.difference(metric, best, other)
        if not difference.available:
            return "", f"{best} and {other} cannot be told apart by {metric.title}: {difference.note}."
        if verdict(metric, difference) != "first":
            note = f"; {difference.note}" if difference.note else ""
            return "", (
                f"{best} ({values[best]:.3g}) is not better than {other} ({values[other]:.3g}) in {metric.title} "
                f"beyond the interval of their difference ({difference.low:.3g} to {difference.high:.3g}){note}. "
                "More --clips may decide it."
            )
    return best, ""
