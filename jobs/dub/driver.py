"""`v2a dub ARCHIVE OUT`: give the silent videos of an archive a sound track."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from jobs.cli import DONE, SOME_FAILED
from jobs.common.checks import full_address, full_model, selected
from jobs.common.models import known_sounds
from jobs.common.ray_processes import ray_errors
from jobs.common.terminal import printable
from jobs.common.verb import Stopped, run_verb
from jobs.dub.config import DubConfig, command
from jobs.dub.console import describe, print_plan, print_result, summary, write_report
from jobs.dub.preflight import check_identity, make_job, preflight, prices, read_manifest

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.common.progress import Progress
    from jobs.common.ray_session import Resources
    from jobs.common.watchdog import Watchdog
    from pipelines.archive.selection import Selection
    from pipelines.dub.job import DubJob, DubTask
    from pipelines.dub.manifest import ManifestRow
    from pipelines.dub.plan import DubPlan

PASSES = 3
"""Times that a film is begun of which a part cannot be read; each sets such parts aside and makes them again."""

CLIPS_TRACKED = 3
"""Dubbed clips kept with the MLflow run."""


def run(config: DubConfig) -> int:
    """Dub an archive; the exit code: 0 all done, 1 some files failed, 2 wrong usage, 130 interrupted."""
    return run_verb("dub", command(config), lambda console: _run(config, console), config.sandbox)


def _run(config: DubConfig, console: Console) -> int:
    from jobs.common import ray_session, registry
    from pipelines.dub import manifest

    requests = read_manifest(config)
    config, selection = selected(config, config.out, manifest.rates(requests))
    preflight(config)
    prices(config.price)
    config = dataclasses.replace(config, model=registry.resolve(config.model, config.tracking_uri))
    selection.joins.insert(0, manifest.joins(requests))
    job = make_job(config, requests)
    check_identity(config, job)
    with ray_session.session(config.num_workers, config.address) as resources:
        return _run_on_ray(config, selection, console, job, requests, resources)


def _run_on_ray(
    config: DubConfig,
    selection: Selection,
    console: Console,
    job: DubJob,
    requests: dict[str, ManifestRow],
    resources: Resources,
) -> int:
    from jobs.common.tracking import Tracker, resolve_uri
    from pipelines import storage
    from pipelines.dub.state import State
    from pipelines.reports import costs

    started, started_at = time.perf_counter(), time.time()
    plan = plan_of(config, selection, job, requests, resources)
    tell_notices(console, plan)
    for line in selection.notes():
        console.print(printable(line), markup=False)
    if config.dry_run:
        print_plan(console, plan, resources.cpus, job.candidates, prices(config.price))
        return DONE
    State(config.out).write_config(saved_settings(config, job))
    describe(console, plan, job)
    if job.sign_key:
        console.print(f"Signing with {job.sign_cert}.", markup=False)
    uri = resolve_uri(config.out, config.tracking_uri)
    tracker = Tracker(uri, "v2a/dub", out=config.out, notify=lambda text: console.print(text, markup=False))
    params = dataclasses.asdict(config)
    for group in ("selection", "sound", "film", "price"):
        params |= params.pop(group)
    tracker.start(f"dub {job.run_id}", params, {"v2a.version": job.version, "v2a.out": config.out})
    status = "KILLED"
    facts = report_facts(config, job, started_at)  # read now: the model may be gone when the films are done
    try:
        elapsed_s = execute(plan, job, console, resources)
        status = "FAILED"
        table = [plan.rows[video_id] for video_id in plan.order]
        whole = [*table, *plan.others]
        spent = costs.costs(whole, prices(config.price))
        figures = summary(whole, plan, elapsed_s) | spent.figures()
        facts |= figures
        facts |= {"set_aside": plan.notices} if plan.notices else {}
        if plan.to_dub:
            facts["wall_s"] = time.perf_counter() - started
        write_report(config.out, whole, facts)
        tracker.metrics({name: value for name, value in figures.items() if isinstance(value, (int, float))})
        reports = [
            storage.join(config.out, storage.PRIVATE_FOLDER, name)
            for name in ("report.parquet", "report.html")
        ]
        tracker.artifacts(reports)
        dubbed = [row["output"] for row in table if row["status"] == "dubbed"]
        tracker.artifacts([storage.join(config.out, path) for path in dubbed[:CLIPS_TRACKED]], "clips")
        status = "FINISHED"
    finally:
        tracker.finish(status, wait_s=60.0 if status == "FINISHED" else 3.0)
    figures = summary(table, plan, elapsed_s)
    print_result(console, config, table, figures, spent, time.perf_counter() - started)
    if plan.others:
        console.print(f"The report also lists {len(plan.others)} files of earlier runs.", markup=False)
    return SOME_FAILED if figures["files_failed"] else DONE


def plan_of(
    config: DubConfig,
    selection: Selection,
    job: DubJob,
    requests: dict[str, ManifestRow],
    resources: Resources,
) -> DubPlan:
    """Scan the selection, and its sound where the plan depends on it, and plan the run."""
    from pipelines.archive.ray_scan import scan_rows
    from pipelines.dub import manifest
    from pipelines.dub.plan import ManifestRow, make_plan, wants_silence
    from pipelines.soundtrack import silence

    rows, policy = scan_rows(selection, resources.cpus), job.treatment
    requests = manifest.resolved(requests, rows)
    partly = [
        video
        for video in rows
        if wants_silence(
            video, policy.existing, requests.get(video["path"], ManifestRow()), config.max_hours_per_file
        )
    ]
    silences = silence.find_all(partly, policy.silence_dbfs, resources.cpus)
    return make_plan(
        job,
        rows,
        config.only,
        restart=config.restart,
        dry_run=config.dry_run,
        requests=requests,
        silences=silences,
        selection=selection,
    )


def execute(plan: DubPlan, job: DubJob, console: Console, resources: Resources) -> float:
    """Run the pipeline over the plan's tasks and fill in the plan's rows; the seconds it took. Raises Stopped."""
    from jobs.common.progress import Progress
    from jobs.common.watchdog import Watchdog
    from pipelines.dub.plan import plan_again
    from pipelines.dub.state import State
    from pipelines.media.errors import Failure
    from pipelines.reports import dub_rows

    watchdog = Watchdog(lambda text: console.print(text, markup=False))
    with Progress(console, len(plan.to_dub), plan.footage_s) as progress, watchdog:
        tasks, passes = plan.tasks, 0
        while tasks and passes < PASSES:
            broken = _run_tasks(tasks, plan, job, console, resources, progress, watchdog)
            tasks, passes = plan_again(job, plan, sorted(broken)), passes + 1
            tell_notices(console, plan)
    for video_id, video in plan.to_dub.items():
        if video_id not in plan.rows:
            row = State(job.out).read_row(video_id)
            lost = Failure("generate", "Unfinished", "the job ended before this file; run it again")
            plan.rows[video_id] = row or dub_rows.failed_row(video, lost)
    return progress.elapsed_s


def _run_tasks(
    tasks: Sequence[DubTask],
    plan: DubPlan,
    job: DubJob,
    console: Console,
    resources: Resources,
    progress: Progress,
    watchdog: Watchdog,
) -> set[str]:
    """Run the pipeline over some tasks and fill in the plan's rows; video_ids of films with a part to be made again.

    Raises Stopped.
    """
    from pipelines.dub import pipeline as dub_pipeline

    broken: set[str] = set()
    pipeline = dub_pipeline.dataset(
        tasks, job, cpus=resources.cpus, gpus=resources.gpus, memory=resources.memory
    )
    with ray_errors():
        for result in dub_pipeline.results(pipeline):
            watchdog.reset()
            tell_notices(console, plan, result["notices"])
            if result["fatal"]:
                raise Stopped(f"OUT can no longer be written: {result['fatal']}")
            if result["again"]:
                broken.add(result["video_id"])
            row = json.loads(result["row"]) if result["row"] else None
            fresh = row is not None and row["video_id"] not in plan.rows
            if row is not None:
                plan.rows[row["video_id"]] = row
            failed = fresh and row is not None and row["status"] == "failed"
            progress.advance(result["seconds"], finished=fresh, failed=failed)
    return broken - plan.rows.keys()


def tell_notices(console: Console, plan: DubPlan, notices: Iterable[str] = ()) -> None:
    """Print notices about records that were set aside, those of a worker and those of this process, and add them to
    the plan's."""
    from pipelines import storage

    for text in (*notices, *storage.take_notices()):
        plan.notices.append(text)
        console.print(printable(text), markup=False, soft_wrap=True)


def report_facts(config: DubConfig, job: DubJob, started_at: float) -> dict[str, Any]:
    """Facts about the job for the head of the report."""
    facts: dict[str, Any] = {"archive": config.archive, "out": config.out, "command": command(config)}
    facts |= {"started": started_at, "version": job.version}
    facts |= {"model": job.model_name, "model_sha256": job.model_sha256, "seed": job.seed}
    facts |= {"candidates": job.candidates} if job.candidates > 1 else {}
    facts |= {"knows": sounds} if (sounds := known_sounds(config.model)) else {}
    return facts | {name: text for name in ("prompt", "negative") if (text := getattr(job, name))}


def saved_settings(config: DubConfig, job: DubJob) -> dict[str, Any]:
    """Settings to keep in OUT: those that decide the sound, and those that redubbing needs."""
    places = {"archive": full_address(config.archive), "model_place": full_model(job.model)}
    cutting = {"windows_per_segment": job.windows_per_segment, "film": dataclasses.asdict(config.film)}
    return job.identity() | places | cutting
