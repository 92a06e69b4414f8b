"""What is left of a comparison: tables, pictures, pages, runs in MLflow, and a champion."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs import registry
from jobs.cli import version
from jobs.verb import WrongUsage
from pipelines import comparepage, compareplots, sounds, storage
from pipelines.scoresummary import Board, Totals, entry, is_baseline, verdict
from v2a_models import grid
from v2a_models.metrics.catalogue import BY_NAME

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.compare import CompareConfig
    from jobs.compare_plan import Plan

TITLES = {"reference": "ground truth", "codec": "codec resynthesis", "shuffled": "shuffled", "noise": "noise",
          "silence": "silence"}  # fmt: skip
REGISTERED = "v2a"
"""Name under which champions are registered."""


def summarise(
    plan: Plan,
    config: CompareConfig,
    board: Board,
    problems: Mapping[tuple[str, str], str],
    speeds: Mapping[str, float | None],
    command: str,
) -> dict[str, Any]:
    """All figures of a comparison, as summary.json holds them."""
    from jobs.evaluate import summarise as scored

    for each in plan.models:
        board.systems.setdefault(each.slug, Totals())
    for (system, clip), reason in problems.items():  # rather why it was not made than that it is not there
        board.systems.setdefault(system, Totals()).failures[clip] = reason
    summary = scored(board, plan.missing, command, [])
    before = _speeds(plan.out)
    for system in summary["systems"]:
        system["title"] = (
            TITLES.get(system["name"], system["name"]) if is_baseline(system["name"]) else system["name"]
        )
        model = next((m for m in plan.models if m.slug == system["name"]), None)
        if model is not None:
            system["model"] = model.given
            system["about"] = f"{model.parameters:.1f} million parameters, sha256 {model.sha256[:12]}"
            if model.from_archive:
                system["about"] += ", fed from the archive (its recipe is not the store's)"
            speed = speeds.get(model.slug) or before.get(model.slug)
            system["metrics"]["parameters"] = _plain(model.parameters)
            system["metrics"]["audio_s_per_s"] = _plain(speed)
    for name in ("audio_s_per_s", "parameters"):
        metric = BY_NAME[name]
        keys = ("name", "title", "group", "unit", "higher", "about", "per_clip")
        summary["metrics"].append({key: getattr(metric, key) for key in keys})
    summary |= {
        "store": plan.store,
        "clips": len(plan.rows),
        "window_s": grid.seconds(plan.window, grid.SAMPLE_RATE),
        "seed": config.seed,
    }
    if not plan.archive and not plan.kept_rate:
        summary["notes"].append("Without --archive the codec's resynthesis stands in for the true sounds.")
    if not plan.codec:
        summary["notes"].append("No codec resynthesis, and no FDD: none of the models has a codec.")
    order = [model.slug for model in plan.models]
    if len(order) > 1:
        summary["paired"] = paired(board, order[0], order[1], plan)
    return summary


def _plain(value: float | None) -> dict[str, Any]:
    return {
        "value": value,
        "low": None,
        "high": None,
        "n": 0,
        "note": "" if value else "not measured in this run",
    }


def _speeds(out: str) -> dict[str, float]:
    """What an earlier run of the same comparison measured."""
    try:
        before = json.loads(storage.read_bytes(storage.join(out, "summary.json")))
        found = {s["name"]: s["metrics"].get("audio_s_per_s", {}).get("value") for s in before["systems"]}
        return {name: value for name, value in found.items() if value}
    except (storage.StorageNotFound, ValueError, KeyError, TypeError, AttributeError):
        return {}


def paired(board: Board, first: str, second: str, plan: Plan) -> dict[str, Any]:
    """The difference of two models by every figure that can be drawn in pairs."""
    found = {}
    for name, metric in BY_NAME.items():
        if metric.group == "cost" or metric.network in plan.missing:
            continue
        difference = board.difference(metric, first, second)
        if difference.available:
            found[name] = entry(difference) | {"better": verdict(metric, difference)}
    return {"first": first, "second": second, "metrics": found}


def write(plan: Plan, config: CompareConfig, board: Board, summary: dict[str, Any], console: Console) -> None:
    """Everything in OUT and in MLflow."""
    from jobs import evaluate
    from jobs.compare import scoring_clips
    from jobs.tracking import Tracker, resolve_uri

    if config.votes:
        summary["votes"] = votes(plan.out, config.votes)
    uri = resolve_uri(plan.out, config.tracking_uri)
    if config.promote:
        summary["champion"] = {"metric": config.promote, "name": "", "promoted": False, "reason": ""}
    scores = scores_rows(plan, board)
    plots = write_plots(plan, summary, scores)
    listen = write_listening(plan, config, summary, board)
    say = lambda text: console.print(text, markup=False)  # noqa: E731
    tracker = Tracker(uri, "v2a/compare", out=plan.out, say=say)
    tags = {"v2a.version": version(), "v2a.out": plan.out, "v2a.store": plan.store}
    names = ", ".join(model.slug for model in plan.models)
    tracker.start(f"compare {names}"[:200], dataclasses.asdict(config), tags)
    if config.promote:
        summary["champion"] = promote(plan, config, board, summary, uri, tracker)
        for sentence in comparepage.champion_sentences(summary):
            say(sentence)
    evaluate.write(plan.out, board, summary, scoring_clips(plan))
    page = comparepage.report_html(summary, scores, plots, listen=listen)
    storage.write_atomic(storage.join(plan.out, "report.html"), page.encode("utf-8", "backslashreplace"))
    if config.export:
        for model in plan.models:
            made = sounds.list_sounds(storage.join(plan.out, "clips", model.slug))
            sounds.export_sounds(made, storage.join(config.export, model.slug))
    evaluate.tell(summary, board, plan.models[0].slug, console)
    files = ["report.html", "scores.parquet", "summary.json", "table.md", "table.tex", *plots.values()]
    tracker.artifacts([storage.join(plan.out, file) for file in files])
    record_children(plan, summary, uri, tracker)
    tracker.finish("FINISHED")


def scores_rows(plan: Plan, board: Board) -> list[dict[str, Any]]:
    """Rows of scores.parquet with what is known of their clips."""
    facts = {row.clip_id: row for row in plan.rows}
    return [
        {
            "label": facts[row["clip"]].label,
            "path": facts[row["clip"]].path,
            "start_s": facts[row["clip"]].start_s,
        }
        | row
        for row in board.rows()
    ]


def write_plots(plan: Plan, summary: dict[str, Any], scores: list[dict[str, Any]]) -> dict[str, str]:
    """The pictures; name -> path in OUT."""
    made = {
        "bars": compareplots.bars(summary),
        "radar": compareplots.radar(summary),
        "heatmap": compareplots.heatmap(summary, scores),
        "spectrograms": _spectrograms(plan, summary, {row["clip"] for row in scores}),
    }
    for name, content in made.items():
        storage.write_atomic(storage.join(plan.out, "plots", f"{name}.png"), content)
    return {name: f"plots/{name}.png" for name in made}


def _spectrograms(plan: Plan, summary: dict[str, Any], scored: set[str]) -> bytes:
    """The first clip that was scored, which all systems have."""
    row = next((row for row in plan.rows if row.clip_id in scored), None)
    if row is None:
        return compareplots.message("no clip was scored")
    waves: dict[str, np.ndarray] = {}
    for system in summary["systems"]:
        uri = storage.join(plan.out, "clips", system["name"], f"{row.clip_id}.wav")
        if storage.exists(uri):  # a model that made nothing has none
            waves[system["title"]] = sounds.read_sound(uri).samples
    return compareplots.spectrograms(waves, grid.SAMPLE_RATE, f"{row.label or row.path}, {row.clip_id}")


def write_listening(plan: Plan, config: CompareConfig, summary: dict[str, Any], board: Board) -> str:
    """The blind page, its sounds, and the key that stays with the records; its path in OUT, "" if there is none."""
    if len(plan.models) < 2 or not config.listen:
        return ""
    first, second = (model.slug for model in plan.models[:2])
    if not {first, second} <= board.systems.keys():
        return ""
    common = sorted(set(board.systems[first].clips) & set(board.systems[second].clips))
    if not common:
        return ""
    pairs, key = comparepage.listening_plan(common, first, second, config.listen, config.seed)
    for pair in pairs:
        for system, file in ((pair.system_a, pair.file_a), (pair.system_b, pair.file_b)):
            content = storage.read_bytes(storage.join(plan.out, "clips", system, f"{pair.clip}.wav"))
            storage.write_atomic(storage.join(plan.out, "listen", file), content)
    page = comparepage.listen_html(summary, pairs, config.seed)
    storage.write_atomic(storage.join(plan.out, "listen.html"), page.encode("utf-8", "backslashreplace"))
    key_file = storage.join(plan.out, storage.PRIVATE_FOLDER, f"listen-{key['page']}.json")
    storage.write_atomic(key_file, json.dumps(key, indent=2).encode())
    return "listen.html"


def votes(out: str, path: str) -> dict[str, Any]:
    """What the votes of a listening page say. Raises WrongUsage for votes of another page."""
    from v2a_models.metrics.preference import preferences

    try:
        given = json.loads(storage.read_bytes(path))
        page = str(given["page"])
        if not re.fullmatch(r"[0-9a-f]{16}", page):
            raise ValueError("it names no page")
        key = json.loads(storage.read_bytes(storage.join(out, storage.PRIVATE_FOLDER, f"listen-{page}.json")))
        results = [preference.result() for preference in preferences(given, key)]
    except (storage.StorageError, ValueError, KeyError, TypeError) as error:
        raise WrongUsage(f"the votes {path} do not belong to the listening page of {out}: {error}") from error
    return {"file": path.rpartition("/")[2], "n": sum(result["n"] for result in results), "results": results}


def record_children(plan: Plan, summary: dict[str, Any], uri: str | None, parent: Any) -> None:
    """A run in MLflow for every system below the comparison's own."""
    from jobs.tracking import Tracker

    if uri is None or not parent.opened():
        return
    for system in summary["systems"]:
        child = Tracker(uri, "v2a/compare", out=plan.out, say=lambda text: None)
        tags = {"mlflow.parentRunId": parent.run_id, "v2a.kind": system["kind"], "v2a.model": system["model"]}
        child.start(system["title"], {"system": system["name"], "model": system["model"]}, tags)
        known = {name: e["value"] for name, e in system["metrics"].items() if e["value"] is not None}
        child.metrics({name: value for name, value in known.items() if math.isfinite(value)})
        child.finish("FINISHED")


def promote(
    plan: Plan, config: CompareConfig, board: Board, summary: dict[str, Any], uri: str | None, tracker: Any
) -> dict[str, Any]:
    """Makes the best model by a metric the champion, if it is better than all others beyond the interval."""
    metric = BY_NAME[config.promote]
    refused = {"metric": metric.name, "name": "", "promoted": False}

    def no(reason: str) -> dict[str, Any]:
        return refused | {"reason": reason}

    if metric.name in summary["unfit"]:
        return no(f"{metric.title} is unfit here ({summary['unfit'][metric.name]}).")
    values = {
        m.slug: next(s for s in summary["systems"] if s["name"] == m.slug)["metrics"][metric.name]["value"]
        for m in plan.models
        if m.slug in board.systems
    }
    known = {slug: value for slug, value in values.items() if value is not None}
    if len(known) < 2:
        return no(f"{metric.title} is known of {len(known)} model only; name two or more.")
    best = sorted(known, key=lambda slug: known[slug], reverse=bool(metric.higher))[0]
    for other in known:
        if other == best:
            continue
        difference = board.difference(metric, best, other)
        if verdict(metric, difference) != "first":
            return no(
                f"{best} ({known[best]:.3g}) is not better than {other} ({known[other]:.3g}) in {metric.title} beyond "
                f"the interval of their difference ({difference.low:.3g} to {difference.high:.3g})"
                f"{f'; {difference.note}' if difference.note else ''}. More --clips may decide it."
            )
    if uri is None:
        return no("--tracking-uri is off, and the registry is there.")
    model = next(m for m in plan.models if m.slug == best)
    if not tracker.opened():
        return no("MLflow does not answer.")
    client = registry.client_of(uri)
    present = registry.champion(client, REGISTERED)
    if present is not None and present.sha256 == model.sha256:
        return refused | {"name": best, "promoted": True, "reason": "it was so before."}
    if present is not None and present.sha256 not in {m.sha256 for m in plan.models}:
        return no(
            f"the present champion ({registry.PREFIX}{REGISTERED}/{present.version}) was not compared; add "
            f"{registry.PREFIX}{REGISTERED}@{registry.CHAMPION} to the models."
        )
    done = registry.crown(client, tracker, REGISTERED, model.folder, model.sha256, metric.name)
    if not done:
        return no(f"the registry did not take it ({tracker.problem or 'no answer'}).")
    uri_of_it = f"{registry.PREFIX}{REGISTERED}@{registry.CHAMPION}"
    reason = f"v2a dub ARCHIVE OUT --model {uri_of_it} --tracking-uri ... uses it."
    return refused | {"name": best, "promoted": True, "reason": reason}
