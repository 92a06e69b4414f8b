"""A comparison in MLflow: one run, and below it one for every system, with a table of its clips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs.common import registry
from pipelines import storage
from pipelines.reports.comparison_page import sound_url
from pipelines.reports.comparison_table import fit, known
from pipelines.scoring.summary import Board, verdict
from v2a_models.metrics.catalogue import BY_NAME, Metric

if TYPE_CHECKING:
    from jobs.compare.config import CompareConfig
    from jobs.compare.preflight import ComparePlan

TABLE = "clips.json"
"""The table of clips of a run, as MLflow's own pages show and compare them."""


REGISTERED = "v2a"
"""Name under which champions are registered."""


def record(
    plan: ComparePlan,
    summary: dict[str, Any],
    scores: Sequence[Mapping[str, Any]],
    uri: str | None,
    parent: Any,
) -> None:
    """Figures of the comparison into its run, those of each system into a run below it."""
    from jobs.common.tracking import Tracker

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
    plan: ComparePlan, summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
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


def promote(
    plan: ComparePlan,
    config: CompareConfig,
    board: Board,
    summary: dict[str, Any],
    uri: str | None,
    tracker: Any,
) -> dict[str, Any]:
    """Makes the best model by a metric the champion; why, or why not, as the summary holds it."""
    metric = BY_NAME[config.promote]
    best, refusal = winner(metric, [model.slug for model in plan.models], board, summary)
    if refusal:
        return _answer(metric, "", refusal)
    if uri is None:
        return _answer(metric, "", "--tracking-uri is off, and the registry is there.")
    if not tracker.opened():
        return _answer(metric, "", "MLflow does not answer.")
    model = next(m for m in plan.models if m.slug == best)
    client = registry.client_of(uri)
    present = registry.champion(client, REGISTERED)
    if present is not None and present.sha256 == model.sha256:
        return _answer(metric, best, "it was so before.")
    if present is not None and present.sha256 not in {m.sha256 for m in plan.models}:
        return _answer(
            metric,
            "",
            f"the present champion ({registry.PREFIX}{REGISTERED}/{present.version}) was not compared; add "
            f"{registry.PREFIX}{REGISTERED}@{registry.CHAMPION} to the models.",
        )
    if not registry.crown(client, tracker, REGISTERED, model.folder, model.sha256, metric.name):
        return _answer(metric, "", f"the registry did not take it ({tracker.problem or 'no answer'}).")
    alias = f"{registry.PREFIX}{REGISTERED}@{registry.CHAMPION}"
    return _answer(metric, best, f"v2a dub ARCHIVE OUT --model {alias} --tracking-uri ... uses it.")


def _answer(metric: Metric, name: str, reason: str) -> dict[str, Any]:
    return {"metric": metric.name, "name": name, "promoted": bool(name), "reason": reason}


def winner(metric: Metric, models: list[str], board: Board, summary: dict[str, Any]) -> tuple[str, str]:
    """The model that is better than each other by a metric, beyond the interval of their difference; else why not."""
    if metric.name in summary["unfit"]:
        return "", f"{metric.title} is unfit here ({summary['unfit'][metric.name]})."
    found = {s["name"]: s["metrics"].get(metric.name, {}) for s in summary["systems"] if s["name"] in models}
    known = {slug: item["value"] for slug, item in found.items() if item.get("value") is not None}
    if len(known) < 2:
        notes = sorted({item.get("note") or "not measured" for s, item in found.items() if s not in known})
        why = f": {'; '.join(notes)}" if notes else "; name two or more"
        return "", f"{metric.title} is known of {len(known)} of {len(models)} models{why}."
    best, *others = sorted(known, key=lambda slug: known[slug], reverse=bool(metric.higher))
    for other in others:
        difference = board.difference(metric, best, other)
        if not difference.available:
            return "", f"{best} and {other} cannot be told apart by {metric.title}: {difference.note}."
        if verdict(metric, difference) != "first":
            note = f"; {difference.note}" if difference.note else ""
            return "", (
                f"{best} ({known[best]:.3g}) is not better than {other} ({known[other]:.3g}) in {metric.title} beyond "
                f"the interval of their difference ({difference.low:.3g} to {difference.high:.3g}){note}. "
                "More --clips may decide it."
            )
    return best, ""
