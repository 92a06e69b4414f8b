"""The champion of a comparison: the model that is better than every other beyond the interval, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobs import registry
from pipelines.scoring.summary import Board, verdict
from v2a_models.metrics.catalogue import BY_NAME, Metric

if TYPE_CHECKING:
    from jobs.compare import CompareConfig
    from jobs.compare_plan import Plan

REGISTERED = "v2a"
"""Name under which champions are registered."""


def promote(
    plan: Plan, config: CompareConfig, board: Board, summary: dict[str, Any], uri: str | None, tracker: Any
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
