"""Results of a comparison: summary, tables, plots, pages, and exported sounds."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.cli import version
from jobs.common.verb import WrongUsage
from jobs.compare.config import CompareConfig
from pipelines import storage
from pipelines.reports import comparison_page, comparison_plots
from pipelines.scoring import sound_folder
from pipelines.scoring.job import REFERENCE
from pipelines.scoring.summary import Board, Totals, entry, is_baseline, verdict
from v2a_models import grid
from v2a_models.metrics.catalogue import BY_NAME, METRICS
from v2a_models.metrics.estimate import Estimate

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.compare.config import CompareConfig
    from jobs.compare.preflight import ComparePlan
    from pipelines.scoring.clips import Row

TITLES = {"reference": "ground truth", "codec": "codec resynthesis", "shuffled": "shuffled", "noise": "noise",
          "silence": "silence"}  # fmt: skip
COSTS = ("audio_s_per_s", "memory")
"""Metrics that only a run that generates sounds can measure."""


def summarise(
    plan: ComparePlan,
    config: CompareConfig,
    board: Board,
    problems: Mapping[tuple[str, str], str],
    costs: Mapping[str, Mapping[str, Estimate]],
    command: str,
) -> dict[str, Any]:
    """Summary of a comparison, the content of summary.json."""
    from pipelines.reports import score_results

    for each in plan.models:
        board.systems.setdefault(each.slug, Totals())
    for (
        system,
        clip,
    ), reason in problems.items():  # why it was not generated says more than that it is missing
        board.systems.setdefault(system, Totals()).failures[clip] = reason
    summary = score_results.summarise(board, plan.missing, command=command, version=version())
    before = _costs(plan.out)
    unknown = {name: entry(Estimate.missing("not measured in this run")) for name in COSTS}
    for system in summary["systems"]:
        system["title"] = (
            TITLES.get(system["name"], system["name"]) if is_baseline(system["name"]) else system["name"]
        )
        model = next((m for m in plan.models if m.slug == system["name"]), None)
        if model is not None:
            system["model"] = model.argument
            system["about"] = f"{model.parameters:.1f} million parameters, sha256 {model.sha256[:12]}"
            if model.from_archive:
                system["about"] += ", fed from the archive (its recipe is not the store's)"
            now = {name: entry(cost) for name, cost in costs.get(model.slug, {}).items()}
            now["parameters"] = entry(Estimate(model.parameters, math.nan, math.nan, 1))
            system["metrics"] |= unknown | before.get(model.slug, {}) | now
    for metric in (m for m in METRICS if m.group == "cost"):
        keys = ("name", "title", "group", "unit", "higher", "about", "per_clip")
        summary["metrics"].append({key: getattr(metric, key) for key in keys})
    summary |= {
        "store": plan.store,
        "clips": len(plan.rows),
        "window_s": grid.seconds(plan.window, grid.SAMPLE_RATE),
        "seed": config.seed,
    }
    if not plan.archive and not plan.stored_rate:
        summary["notes"].append("Without --archive, the codec's resynthesis replaces the reference sounds.")
    if not plan.codec:
        summary["notes"].append("No codec resynthesis, and no FDD: none of the models has a codec.")
    order = [model.slug for model in plan.models]
    if len(order) > 1:
        summary["paired"] = paired(board, order[0], order[1], plan)
    return summary


def _costs(out: str) -> dict[str, dict[str, Any]]:
    """Costs that an earlier run of the same comparison measured, by system."""
    try:
        before = storage.read_object(storage.join(out, "summary.json"))
        return {
            system["name"]: {
                name: system["metrics"][name]
                for name in COSTS
                if system["metrics"].get(name, {}).get("value") is not None
            }
            for system in before["systems"]
        }
    except (storage.StorageNotFound, ValueError, KeyError, TypeError, AttributeError):
        return {}


def paired(board: Board, first: str, second: str, plan: ComparePlan) -> dict[str, Any]:
    """Differences of two models by every metric that can be compared in pairs."""
    metrics = {}
    for name, metric in BY_NAME.items():
        if metric.group == "cost" or any(network in plan.missing for network in metric.networks):
            continue
        difference = board.difference(metric, first, second)
        if difference.available:
            metrics[name] = entry(difference) | {"better": verdict(metric, difference)}
    return {"first": first, "second": second, "metrics": metrics}


def write(
    plan: ComparePlan, config: CompareConfig, board: Board, summary: dict[str, Any], console: Console
) -> None:
    """Write the results to OUT and MLflow, and print the table."""
    from jobs.common.score_table import print_summary
    from jobs.common.tracking import Tracker, resolve_uri
    from jobs.compare import mlflow_runs
    from pipelines.reports import score_results

    if config.votes:
        summary["votes"] = votes(plan.out, config.votes)
    uri = resolve_uri(plan.out, config.tracking_uri)
    scores = scores_rows(plan, board)
    plots = write_plots(plan, summary, scores)
    listen = write_listening(plan, config, summary, board)

    def notify(text: str) -> None:
        console.print(text, markup=False)

    tracker = Tracker(uri, "v2a/compare", out=plan.out, notify=notify)
    tags = {"v2a.version": version(), "v2a.out": plan.out, "v2a.store": plan.store}
    names = ", ".join(model.slug for model in plan.models)
    tracker.start(f"compare {names}"[:200], dataclasses.asdict(config), tags)
    if config.promote:
        summary["champion"] = mlflow_runs.promote(plan, config, board, summary, uri, tracker)
        for sentence in comparison_page.champion_sentences(summary):
            notify(sentence)
    score_results.write_scores(plan.out, board, summary, scoring_clips(plan))
    page = comparison_page.report_html(summary, scores, plots, listen=listen)
    storage.write_atomic(storage.join(plan.out, "report.html"), page.encode("utf-8", "backslashreplace"))
    if config.export:
        export(plan, config.export)
    print_summary(summary, board, plan.models[0].slug, console)
    files = ["report.html", "scores.parquet", "summary.json", "table.md", "table.tex", *plots.values()]
    tracker.artifacts([storage.join(plan.out, file) for file in files])
    mlflow_runs.record(plan, summary, scores, uri, tracker)
    tracker.finish("FINISHED")


def scores_rows(plan: ComparePlan, board: Board) -> list[dict[str, Any]]:
    """Rows of scores.parquet, with label, path and start of each clip."""
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


def write_plots(plan: ComparePlan, summary: dict[str, Any], scores: list[dict[str, Any]]) -> dict[str, str]:
    """Write the plots; returns their paths in OUT by name."""
    plots = {
        "bars": comparison_plots.bars(summary),
        "radar": comparison_plots.radar(summary),
        "heatmap": comparison_plots.heatmap(summary, scores),
        "spectrograms": _spectrograms(plan, summary, {row["clip"] for row in scores}),
    }
    for name, content in plots.items():
        storage.write_atomic(storage.join(plan.out, "plots", f"{name}.png"), content)
    return {name: f"plots/{name}.png" for name in plots}


def _spectrograms(plan: ComparePlan, summary: dict[str, Any], scored: set[str]) -> bytes:
    """Plot of the first scored clip, which every system has."""
    row = next((row for row in plan.rows if row.clip_id in scored), None)
    if row is None:
        return comparison_plots.message("no clip was scored")
    waves: dict[str, np.ndarray] = {}
    for system in summary["systems"]:
        uri = storage.join(plan.out, "clips", system["name"], f"{row.clip_id}.wav")
        if storage.exists(uri):  # a model that failed has none
            waves[system["title"]] = sound_folder.read_sound(uri).samples
    return comparison_plots.spectrograms(waves, grid.SAMPLE_RATE, f"{row.label or row.path}, {row.clip_id}")


def write_listening(plan: ComparePlan, config: CompareConfig, summary: dict[str, Any], board: Board) -> str:
    """Write the blind A/B page, its sounds, and its key among the records; returns its path in OUT, "" for none."""
    if len(plan.models) < 2 or not config.listen:
        return ""
    first, second = (model.slug for model in plan.models[:2])
    if not {first, second} <= board.systems.keys():
        return ""
    common = sorted(set(board.systems[first].clips) & set(board.systems[second].clips))
    if not common:
        return ""
    pairs, key = comparison_page.listening_plan(common, first, second, config.listen, config.seed)
    for pair in pairs:
        for system, file in ((pair.system_a, pair.file_a), (pair.system_b, pair.file_b)):
            content = storage.read_bytes(storage.join(plan.out, "clips", system, f"{pair.clip}.wav"))
            storage.write_atomic(storage.join(plan.out, "listen", file), content)
    page = comparison_page.listen_html(summary, pairs, config.seed)
    storage.write_atomic(storage.join(plan.out, "listen.html"), page.encode("utf-8", "backslashreplace"))
    key_file = storage.join(plan.out, storage.PRIVATE_FOLDER, f"listen-{key['page']}.json")
    storage.write_atomic(key_file, json.dumps(key, indent=2).encode())
    return "listen.html"


def votes(out: str, path: str) -> dict[str, Any]:
    """Preferences by the votes of a listening page. Raises WrongUsage for votes of another page."""
    from v2a_models.metrics.preference import preferences

    try:
        ballot = storage.read_object(path)
        page = str(ballot["page"])
        if not re.fullmatch(r"[0-9a-f]{16}", page):
            raise ValueError("it has no page id")
        key = storage.read_object(storage.join(out, storage.PRIVATE_FOLDER, f"listen-{page}.json"))
        results = [preference.result() for preference in preferences(ballot, key)]
    except (storage.StorageError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WrongUsage(f"the votes {path} do not belong to the listening page of {out}: {error}") from error
    return {"file": path.rpartition("/")[2], "n": sum(result["n"] for result in results), "results": results}


def export(plan: ComparePlan, folder: str) -> None:
    """Copy the sounds of the models and the true ones into folders of av-benchmark's layout."""
    names = export_names(plan.rows)
    for system in (REFERENCE, *(model.slug for model in plan.models)):
        place = storage.join(plan.out, "clips", system)
        sounds = sound_folder.list_sounds(place) if storage.is_dir(place) else {}
        exported = {names[clip]: uri for clip, uri in sounds.items() if clip in names}
        sound_folder.export_sounds(exported, storage.join(folder, system))


def export_names(rows: Sequence[Row]) -> dict[str, str]:
    """File name for the exported sound of each clip, by the film, as published systems name theirs.

    The first window of a film is FILM, without extension, and the next one FILM-000001. Clips keep their own names
    where two films would have the same one.
    """
    names = {}
    for row in rows:
        stem = (row.path.rpartition(".")[0] or row.path).replace("/", "-")
        names[row.clip_id] = stem if not row.start_s else f"{stem}-{row.clip_id.rpartition('-')[2]}"
    uses = Counter(names.values())
    return {clip: name if uses[name] == 1 else clip for clip, name in names.items()}


def clip_job(plan: ComparePlan, config: CompareConfig, gpus: int = 0) -> Any:
    """Settings for fetching and generating the clips."""
    from pipelines import storage
    from pipelines.scoring.job import ClipJob

    return ClipJob(
        store=plan.store, place=storage.join(plan.out, "clips"), window=plan.window, seed=config.seed,
        archive=plan.archive, stored_rate=plan.stored_rate, precision=plan.precision, device="cuda" if gpus else "cpu",
        batch_size=config.batch_size,
    )  # fmt: skip


def scoring_clips(plan: ComparePlan) -> list[Any]:
    """Clips to score, with their facts, for every model and the baselines."""
    from pipelines import storage
    from pipelines.scoring import job as scoring_job
    from pipelines.scoring.clips import missing, sound_uri
    from v2a_models import grid
    from v2a_models.metrics.baselines import other_clips

    place = storage.join(plan.out, "clips")
    window_s = grid.seconds(plan.window, grid.SAMPLE_RATE)
    others = other_clips([row.label for row in plan.rows])
    # A model without any sound must not leave the others without clips.
    present = [m.slug for m in plan.models if len(missing(plan.rows, place, m.slug)) < len(plan.rows)]
    clips = []
    for row, other in zip(plan.rows, others, strict=True):
        facts = plan.facts.get(row.path.rpartition(".")[0], {})
        inside = [
            (at - row.start_s, strength)
            for at, strength in zip_longest(facts.get("events", ()), facts.get("strengths", ()))
            if 0 <= at - row.start_s < window_s
        ]
        clips.append(
            scoring_job.Clip(
                name=row.clip_id,
                reference=sound_uri(place, scoring_job.REFERENCE, row.clip_id),
                systems={slug: sound_uri(place, slug, row.clip_id) for slug in present},
                other=sound_uri(place, scoring_job.REFERENCE, plan.rows[other].clip_id),
                label=row.label or facts.get("label", ""),
                text=row.text,
                events=tuple(at for at, _ in inside) if "events" in facts else None,
                strengths=tuple(strength for _, strength in inside) if "strengths" in facts else (),
                fps=plan.fps.get(row.path, 0.0),
                film=storage.uri_of(plan.archive, row.path) if plan.archive else "",
                start_s=row.start_s,
            )
        )
    return clips
