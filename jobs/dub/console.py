"""Console output and report of `v2a dub`: plan, figures, last lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.dub.config import DubConfig
    from pipelines.dub.job import DubJob
    from pipelines.dub.plan import DubPlan
    from pipelines.reports.costs import Costs, Prices

FILES_SHOWN = 30
"""Maximum number of files that a dry run lists."""

FAILURES_SHOWN = 10
"""Maximum number of failed files in the last lines, and of entries that were not looked at; the report has all."""

X_REALTIME_PER_CORE = 1.5
"""Assumed speed for the estimate of a dry run, until this output has measured ones."""


def summary(table: list[dict[str, Any]], plan: DubPlan, elapsed_s: float) -> dict[str, Any]:
    """Figures of a run for summary.json, MLflow and the last lines."""
    states = [row["status"] for row in table]
    footage_s = sum(row["duration_s"] or 0 for row in table if row["status"] == "dubbed")
    generated_s = sum(
        row["duration_s"] for row in table if row["status"] == "dubbed" and row["video_id"] in plan.to_dub
    )
    return {
        "files": len(table),
        "files_dubbed": states.count("dubbed"),
        "files_skipped": states.count("skipped"),
        "files_failed": states.count("failed"),
        "files_kept": plan.kept,
        "passed_over": dict(plan.passed_over),
        "files_left_out": sum(1 for row in table if row.get("left_out")),
        "footage_hours": footage_s / 3600,
        "made_hours": generated_s / 3600,
        "elapsed_s": elapsed_s,
        "x_realtime": generated_s / elapsed_s if elapsed_s and generated_s else None,
    }


def write_report(out: str, table: list[dict[str, Any]], facts: dict[str, Any]) -> None:
    """Write OUT/_v2a/report.parquet, report.html, and the figures to summary.json."""
    from pipelines import storage
    from pipelines.reports import dub_page, dub_rows

    names = dub_rows.REPORT_SCHEMA.names
    dub_page.write(out, [{name: row.get(name) for name in names} for row in table], facts)
    storage.write_atomic(
        storage.join(out, storage.PRIVATE_FOLDER, "summary.json"), json.dumps(facts, indent=2).encode()
    )


def describe(console: Console, plan: DubPlan, job: DubJob) -> None:
    """Print one line about the plan before the work starts."""
    kept = f", {plan.kept} already dubbed" if plan.kept else ""
    rest = len(plan.order) - len(plan.to_dub) - plan.kept
    with_sound = sum(row["reason"].startswith("has sound (") for row in plan.rows.values())
    why = f" ({with_sound} with sound; --only all includes those)" if with_sound else ""
    chosen = f", best of {job.candidates} candidates" if job.candidates > 1 else ""
    against = f", negative prompt {job.negative!r}" if job.negative else ""
    console.print(
        f"{len(plan.order)} files: {len(plan.to_dub)} to dub ({plan.footage_s / 60:.1f} min){kept}, "
        f"{rest} not to dub{why}. Model {job.model_name}, seed {job.seed}{chosen}{against}.",
        markup=False,
    )


def print_plan(
    console: Console, plan: DubPlan, cpus: int, candidates: int = 1, prices: Prices | None = None
) -> None:
    """Print the plan and the estimates of a dry run."""
    from rich.markup import escape
    from rich.table import Table

    from jobs.common.terminal import clock, printable
    from pipelines.dub.plan import classify
    from pipelines.reports import costs

    listed = Table("file", "length", "action", "reason")
    paths = [
        (video["path"], video["duration_s"], "dub", classify(video, "all")[1])
        for video in plan.to_dub.values()
    ]
    for row in plan.rows.values():
        what = "keep" if row["status"] == "dubbed" else {"skipped": "skip", "failed": "cannot"}[row["status"]]
        paths.append((row["path"], row["duration_s"] or 0.0, what, row["reason"]))
    for path, duration_s, what, why in sorted(paths)[:FILES_SHOWN]:
        listed.add_row(escape(printable(path)), clock(duration_s), what, escape(printable(why)))
    console.print(listed, soft_wrap=False)
    if len(paths) > FILES_SHOWN:
        console.print(f"... and {len(paths) - FILES_SHOWN} more files")
    _print_passed_over(console, plan.passed_over)
    spent = costs.costs(plan.rows.values(), prices or costs.Prices())
    measured = spent.footage_s > 0 and spent.core_s > 0
    # Candidates share the work on the pictures and the decoding of sound, so this guess is an upper bound.
    core_s = spent.core_s / spent.footage_s if measured else candidates / X_REALTIME_PER_CORE
    estimate = plan.footage_s * core_s / cpus
    console.print(
        f"{len(plan.to_dub)} files to dub, {clock(plan.footage_s)} of footage: about {clock(estimate)} on "
        f"{cpus} cores{' at the rate so far' if measured else ''}. Nothing was written."
    )
    if prices is not None and prices.known:
        gpu_s = spent.gpu_s / spent.footage_s if measured else 0.0
        to_come = prices.of(plan.footage_s * core_s, plan.footage_s * gpu_s) or 0.0
        hour = prices.of(3600 * core_s, 3600 * gpu_s) or 0.0
        kept = (
            f", after {costs.money(spent.total)} for the files dubbed so far"
            if measured and spent.total
            else ""
        )
        unknown = prices.gpu_hour is not None and not spent.gpu_s
        console.print(
            f"Cost: about {costs.money(to_come)}, {costs.money(hour)} an hour of footage{kept}."
            + (" GPUs are not included: no GPU time was measured yet." if unknown else "")
        )


def _print_passed_over(console: Console, counts: Mapping[str, int]) -> None:
    """Print the number of files that hold no footage, by kind."""
    from pipelines.archive.kinds import counted

    if counts:
        console.print(f"Passed over: {counted(counts)}.", markup=False, soft_wrap=True)


def print_result(
    console: Console,
    config: DubConfig,
    table: list[dict[str, Any]],
    figures: dict[str, Any],
    spent: Costs,
    elapsed_s: float,
) -> None:
    """Print the last lines: counts, failures with reasons, and the place of the report."""
    from jobs.common.terminal import clock, printable
    from pipelines import storage
    from pipelines.dub.plan import NOT_LOOKED_AT
    from pipelines.reports.costs import money

    counts = ", ".join(f"{figures[f'files_{status}']} {status}" for status in ("dubbed", "skipped", "failed"))
    speed = f" at {figures['x_realtime']:.1f}x real time" if figures["x_realtime"] else ""
    console.print(
        f"{figures['files']} files: {counts}, in {clock(elapsed_s)}{speed}.", markup=False, soft_wrap=True
    )
    _print_passed_over(console, figures["passed_over"])
    failed = [f"failed: {row['path']}: {row['reason']}" for row in table if row["status"] == "failed"]
    passed_over = [row for row in table if row["reason"].startswith(NOT_LOOKED_AT)]
    left_out = [
        f"not in the copy of {row['path']}: {name}" for row in table for name in row.get("left_out") or []
    ]
    for lines in (failed, [f"{row['path']}: {row['reason']}" for row in passed_over], left_out):
        more = [f"... and {len(lines) - FAILURES_SHOWN} more"] if len(lines) > FAILURES_SHOWN else []
        for line in lines[:FAILURES_SHOWN] + more:
            console.print(printable(f"  {line}"), markup=False, soft_wrap=True)
    if spent.core_s or spent.gpu_s:
        gpus = f" and {spent.gpu_s:,.0f} GPU-seconds" if spent.gpu_s else ""
        console.print(
            f"Work: {spent.core_s:,.0f} core-seconds{gpus} for {clock(spent.footage_s)} of footage.",
            markup=False,
            soft_wrap=True,
        )
    if spent.total is not None and spent.per_hour is not None and spent.archive is not None:
        console.print(
            f"Cost: {money(spent.total)}, {money(spent.per_hour)} an hour of footage; the whole archive "
            f"({clock(spent.archive_s)}): {money(spent.archive)}."
            + (f" {spent.leaves_out}." if spent.leaves_out else ""),
            markup=False,
            soft_wrap=True,
        )
    console.print(f"Report: {storage.join(config.out, '_v2a', 'report.html')}", markup=False, soft_wrap=True)
