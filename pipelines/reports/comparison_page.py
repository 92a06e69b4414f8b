"""The pages of a comparison: the report with players side by side, and a blind A/B listening page.

Both stand alone (no network, no other script or style sheet) in the output folder, beside the sounds they play:
`clips/SYSTEM/CLIP.wav` for the report, `listen/NNNN-a.wav` and `-b.wav` for the listening page, whose text does
not hold which system is which.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from pipelines.reports import comparison_table, pages
from pipelines.reports.comparison_table import (
    REFERENCE,
    Summary,
    arrow,
    entry,
    fit,
    is_finite,
    metric_title,
    title_of,
)
from pipelines.reports.pages import plural

PER_CLASS = 3
"""Clips of every class that the page holds, the worst by each metric."""

MOST_CLIPS = 1500
FAILURES_SHOWN = 20

FIGURE_CAPTIONS = {
    "bars": "Every metric, with 95 % intervals",
    "radar": "Models between the worst baseline (0) and the ground truth (1)",
    "heatmap": "Classes",
    "spectrograms": "One clip, all systems",
}


class ListeningPair(NamedTuple):
    """Two sounds of one clip: what is played as A and as B, and the files (in `listen/`) that hold them."""

    clip: str
    system_a: str
    system_b: str
    file_a: str
    file_b: str


# ---- the report


def report_html(
    summary: Summary,
    scores: Sequence[Mapping[str, Any]],
    plots: Mapping[str, str],
    worst: int = 20,
    listen: str = "",
) -> str:
    """The report as text.

    scores: rows of `scores.parquet` (system, clip, label, path, start_s and a figure per metric of a clip).
    plots: paths of pictures by name (`CAPTIONS` has the usual ones), relative to the page.
    worst: how many clips are listed at a time; listen: the listening page, relative to this one, if there is any.

    Raises ValueError for a clip or system that is no slug, and for a path that leaves the folder.
    """
    pictures = [(FIGURE_CAPTIONS.get(name, name), relative_url(path)) for name, path in plots.items()]
    failed = [system for system in summary["systems"] if system["failed"]]
    unfit = [(metric_title(summary, name), why) for name, why in summary["unfit"].items()]
    return pages.render(
        "compare.html.j2",
        entry=entry,
        arrow=arrow,
        summary=summary,
        n_models=len(comparison_table.models(summary)),
        started=datetime.fromtimestamp(summary["started"], UTC).strftime("%-d %B %Y, %H:%M UTC"),
        tables=comparison_table.tables(summary),
        absent=comparison_table.absent(summary),
        findings=[*paired_sentences(summary), *votes_sentences(summary), *champion_sentences(summary)],
        unfit=unfit,
        failed=failed,
        failures_shown=FAILURES_SHOWN,
        pictures=pictures,
        clips=clip_data(summary, scores, worst),
        listen=relative_url(listen) if listen else "",
        legend=comparison_table.LEGEND,
        finest=comparison_table.FINEST,
    )


def sound_url(system: str, clip: str) -> str:
    """Address of a sound, relative to the report. Raises ValueError for names that are no slugs."""
    for name in (system, clip):
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name) or name.strip(".") == "":
            raise ValueError(f"{name!r} cannot name a file: use only letters, digits, - _ and .")
    return f"clips/{quote(system, safe='')}/{quote(clip, safe='')}.wav"


def relative_url(path: str) -> str:
    """Address of a file below the page's folder. Raises ValueError for a path that is not below it."""
    parts = path.split("/")
    if not path or "\\" in path or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{path!r} is not a path below the folder of the page")
    return "/".join(quote(part, safe="") for part in parts)


def clip_data(summary: Summary, scores: Sequence[Mapping[str, Any]], worst: int) -> dict[str, Any]:
    """Data for the report's script: the worst clips by every metric, of every model and class."""
    order = sorted(comparison_table.ordered(summary), key=lambda system: system["name"] != REFERENCE)
    names = [system["name"] for system in order]
    metrics = [
        m for m in summary["metrics"] if m["per_clip"] and any(is_finite(r.get(m["name"])) for r in scores)
    ]
    rows: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in scores:
        rows.setdefault(row["clip"], {})[row["system"]] = row
    competing = [s["name"] for s in comparison_table.models(summary)] or [
        name for name in names if name != REFERENCE
    ]
    chosen = _chosen(rows, [m for m in metrics if fit(summary, m)], competing, worst)
    clips = []
    for clip in chosen:
        held = rows[clip]
        any_row = next(iter(held.values()))
        clips.append(
            {
                "clip": clip,
                "label": any_row["label"] or "",
                "path": any_row["path"] or "",
                "start": _brief(any_row["start_s"]),
                "sounds": [sound_url(name, clip) if name in held else None for name in names],
                "captions": [held.get(name, {}).get("caption") or "" for name in names],
                "scores": [[_brief(held.get(name, {}).get(m["name"])) for m in metrics] for name in names],
            }
        )
    return {
        "systems": [{"title": s["title"], "rank": s["name"] in competing} for s in order],
        "metrics": [
            {
                "title": m["title"],
                "unit": m["unit"],
                "arrow": arrow(m),
                "sign": (1 if m["higher"] else -1) if fit(summary, m) else 0,
                "places": comparison_table.places(summary, m["name"]),
            }
            for m in metrics
        ],
        "clips": clips,
        "worst": worst,
        "of": len(rows),
    }


def _chosen(
    rows: Mapping[str, Mapping[str, Mapping[str, Any]]],
    metrics: Sequence[Mapping[str, Any]],
    competing: Sequence[str],
    worst: int,
) -> list[str]:
    """Clips of the page: the worst of the mean over models, of each model, and of each class, by every metric."""
    worst_clips: dict[str, None] = {}
    clips = sorted(rows)
    labels = {clip: next(iter(rows[clip].values()))["label"] or "" for clip in clips}
    more_of_class: list[str] = []
    for metric in metrics:
        sign = 1 if metric["higher"] else -1
        table = np.array(
            [[_number(rows[c].get(s, {}).get(metric["name"])) for s in competing] for c in clips]
        )
        there = np.isfinite(table)
        mean = np.where(there, table, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
        mean[~there.any(axis=1)] = np.nan
        for column in (mean, *table.T):
            ranked = [clips[at] for at in np.argsort(sign * column, kind="stable") if np.isfinite(column[at])]
            worst_clips |= dict.fromkeys(ranked[:worst])
            if column is mean:
                per_class: dict[str, int] = {}
                for clip in ranked:
                    per_class[labels[clip]] = per_class.get(labels[clip], 0) + 1
                    more_of_class += [clip] if per_class[labels[clip]] <= PER_CLASS else []
    if not metrics:
        worst_clips = dict.fromkeys(clips[:worst])
    return list(dict.fromkeys([*worst_clips, *more_of_class]))[: max(MOST_CLIPS, worst)]


def _number(value: Any) -> float:
    return float(value) if is_finite(value) else np.nan


def _brief(value: Any) -> float | None:
    """A figure with the digits that a page needs; None where there is none."""
    return float(f"{value:.4g}") if is_finite(value) else None


# ---- what it comes to


def paired_sentences(summary: Summary) -> list[str]:
    """The difference between the first two models: by which metrics who is better, and where none is shown."""
    paired = summary["paired"]
    if not paired:
        return []
    sides = {side: title_of(summary, paired[side]) for side in ("first", "second")}
    by_side: dict[str, list[str]] = {"first": [], "second": [], "": []}
    for metric in summary["metrics"]:
        item = paired["metrics"].get(metric["name"])
        if item is None or not is_finite(item["value"]) or not fit(summary, metric):
            continue
        by_side[item["better"]].append(f"{metric['title']} ({_difference(item, metric['unit'])})")
    said = []
    for better, other in (("first", "second"), ("second", "first")):
        if by_side[better]:
            said.append(
                f"{sides[better]} is better than {sides[other]} beyond the 95 % interval by "
                f"{listed(by_side[better])}."
            )
    if by_side[""]:
        said.append(
            f"No difference between {sides['first']} and {sides['second']} is shown by {listed(by_side[''])}."
        )
    if said:
        said.append(f"Differences are {sides['first']} minus {sides['second']} over the same clips.")
    return said


def _difference(item: Mapping[str, Any], unit: str) -> str:
    decimals = comparison_table.entry_places(item)
    signed = comparison_table.number(item["value"], decimals)
    parts = [f"+{signed}" if item["value"] > 0 else signed, comparison_table.spread(item, decimals), unit]
    return " ".join(filter(None, parts))


def votes_sentences(summary: Summary) -> list[str]:
    """Sentences about the votes of listeners, one per pair of systems."""
    sentences = []
    for result in (summary["votes"] or {}).get("results", []):
        first, second = (title_of(summary, result[side]) for side in ("first", "second"))
        if not is_finite(result["preferred_first"]):
            sentences.append(f"No listener has voted between {first} and {second}.")
            continue
        low, high = result["low"], result["high"]
        text = f"Listeners preferred {first} to {second} in {_percent(result['preferred_first'])} of "
        text += plural(result["n"], "vote") + ", ties counted half for each"
        if is_finite(low) and is_finite(high):
            verdict = "" if low > 0.5 or high < 0.5 else ", which shows no preference"
            text += f" (95 % interval {_percent(low)} to {_percent(high)}){verdict}"
        sentences.append(text + ".")
    return sentences


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"


def champion_sentences(summary: Summary) -> list[str]:
    """Sentence about the champion, with the reason; none if there was no contest."""
    champion = summary["champion"]
    if not champion:
        return []
    metric = metric_title(summary, champion["metric"])
    if champion["promoted"]:
        return [f"{title_of(summary, champion['name'])} is the champion by {metric}: {champion['reason']}"]
    return [f"No champion was named by {metric}: {champion['reason']}"]


def listed(items: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *rest, last = items
    return f"{', '.join(rest)} and {last}" if rest else last


# ---- the listening page


def listening_plan(
    clips: Sequence[str], first: str, second: str, n: int, seed: int
) -> tuple[list[ListeningPair], dict[str, Any]]:
    """Plan of a blind page: `n` of the clips (all, if fewer) in random order, the first system as A in half of them.

    The same arguments give the same plan. With it comes the key, to keep away from listeners:
    {"page", "seed", "first", "second", "files": {file: system}, "clips": [clip of 0001, 0002, ...]}.

    Raises ValueError for a system compared with itself, clips named twice, or nothing to play.
    """
    if first == second:
        raise ValueError(f"{first} cannot be compared with itself")
    if n < 1 or not clips or len(set(clips)) != len(clips):
        raise ValueError(
            f"a listening page needs at least one pair and different clips, not {n} of {len(clips)}"
        )
    digest = hashlib.sha256(f"listen/{seed}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    chosen = rng.permutation(len(clips))[:n]
    turned = rng.permutation(np.arange(len(chosen)) % 2 ^ rng.integers(2))
    pairs = []
    for at, (clip, turn) in enumerate(zip(chosen, turned, strict=True), 1):
        a, b = (second, first) if turn else (first, second)
        pairs.append(ListeningPair(clips[clip], a, b, *_files(at)))
    files = {pair.file_a: pair.system_a for pair in pairs} | {pair.file_b: pair.system_b for pair in pairs}
    key = {"page": page_id(pairs, seed), "seed": seed, "first": first, "second": second}
    return pairs, key | {"files": dict(sorted(files.items())), "clips": [pair.clip for pair in pairs]}


def listen_html(summary: Summary, pairs: Sequence[Sequence[str]], seed: int) -> str:
    """The listening page as text, for pairs as `listening_plan` gives them (clip, system A, system B first).

    Pair k plays `listen/000k-a.wav` and `listen/000k-b.wav`. No name of a system is in the page: the votes it
    saves hold the page's id, and the key of the plan says what was voted for.
    """
    rows = []
    for at, pair in enumerate(pairs, 1):
        a, b = _files(at)
        rows.append({"pair": f"{at:04}", "clip": pair[0], "a": f"listen/{a}", "b": f"listen/{b}"})
    data = {"page": page_id(pairs, seed), "seed": seed, "pairs": rows}
    return pages.render("listen.html.j2", data=data, n=len(rows), window_s=summary["window_s"])


def page_id(pairs: Sequence[Sequence[str]], seed: int) -> str:
    """Id that matches votes and key: a hash of the seed, the clips in order and the systems."""
    content = json.dumps([seed, [list(pair[:3]) for pair in pairs]])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _files(at: int) -> tuple[str, str]:
    return f"{at:04}-a.wav", f"{at:04}-b.wav"
