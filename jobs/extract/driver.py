"""`v2a extract ARCHIVE STORE --recipe NAME`: turns footage with sound into a feature store for training."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

from jobs.cli import DONE, SOME_FAILED, version
from jobs.common.ray_processes import ray_errors
from jobs.common.verb import Stopped, run_verb
from jobs.extract.config import ExtractConfig, command

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.common.ray_session import Resources
    from jobs.extract.preflight import Work
    from pipelines.extract.progress import Counts

TRACK_EVERY_S = 30.0
"""Seconds between two sets of metrics in MLflow."""

POLL_S = 2.0
"""Seconds between two reads of the workers' counts."""


def run(config: ExtractConfig) -> int:
    """Extract an archive. Exit code 0: done, 1: some failed or were put off, 2: wrong usage, 130: interrupted."""
    return run_verb("extract", command(config), lambda console: _run(config, console), config.sandbox)


def _run(config: ExtractConfig, console: Console) -> int:
    from jobs.common import ray_session
    from jobs.extract import preflight

    started = time.perf_counter()
    prepared = preflight.prepare(config)
    if config.describe:
        from jobs.extract.describe import describe

        describe(prepared, config, console)
        return DONE
    with contextlib.ExitStack() as stack:
        session: list[Resources] = []

        def resources() -> Resources:
            """Resources of Ray, which starts only when there is work for it."""
            if not session:
                opened = ray_session.session(config.num_workers, config.address)
                session.append(stack.enter_context(opened))
            return session[0]

        work = preflight.find_work(prepared, config, resources, console)
        _tell_notices(console)
        if not work.todo:
            return _nothing_to_do(work, config, console)
        return _extract(work, config, console, resources(), started)


def _tell_notices(console: Console) -> None:
    """Print notices about files of the store that were set aside."""
    from jobs.common.terminal import printable
    from pipelines import storage

    for text in storage.take_notices():
        console.print(printable(text), markup=False)


def _nothing_to_do(work: Work, config: ExtractConfig, console: Console) -> int:
    if work.store.failures() != work.with_others([]):
        work.store.write_failures(work.with_others([]))
    check_rows(work, config)
    failed = f", {len(work.scan_failures)} files cannot be read" if work.scan_failures else ""
    console.print(
        f"Nothing to do: all {len(work.clips)} windows of {work.n_videos} files are in {config.store}{failed}.",
        markup=False,
    )
    return SOME_FAILED if work.scan_failures else DONE


def check_rows(work: Work, config: ExtractConfig) -> None:
    """Raises Stopped, with the reason, for a store without a single row: nothing could be trained on it."""
    if work.store.n_rows():
        return
    reasons = [
        f"{n} windows were left out ({why}: see --drop-silent and --drop-static)"
        for why, n in work.store.left_out().items()
    ]
    failures = work.store.failures()
    if failures:
        first = failures[0]
        reasons.append(
            f"{len(failures)} files or windows failed, the first: {first['path']} "
            f"({first['error_class']}: {first['error']})"
        )
    if work.passed_over:
        reasons.append(f"{work.passed_over} files have no sound, or no picture")
    if work.n_videos and not work.clips:
        reasons.append(f"{work.n_videos} films are too short for a window")
    raise Stopped(f"{config.store} holds no rows: {'; '.join(reasons) or f'{config.archive} holds no files'}")


def _extract(
    work: Work, config: ExtractConfig, console: Console, resources: Resources, started: float
) -> int:
    from jobs.common.tracking import Tracker, resolve_uri
    from jobs.extract.preflight import make_job

    job = make_job(work.prepared, config, resources.gpus)
    work.store.write_identity(work.prepared.identity_with(job))
    _print_plan(work, console)
    uri = resolve_uri(config.store, config.tracking_uri)
    tracker = Tracker(
        uri, "v2a/extract", out=config.store, notify=lambda text: console.print(text, markup=False)
    )
    tags = {"v2a.version": version(), "v2a.store": config.store, "v2a.recipe": job.recipe.digest}
    params = dataclasses.asdict(config)
    params |= params.pop("selection")
    tracker.start(f"extract {job.recipe.name}", params, tags)
    status = "KILLED"
    try:
        try:
            counts, elapsed_s = _watch(work, job, config, console, resources, tracker)
        except Stopped:
            status = "FAILED"
            raise
        figures = _finish(work, counts, elapsed_s)
        tracker.metrics(figures)
        tracker.artifacts([work.store.uri("_recipe.json"), work.store.uri("_failures.parquet")])
        status = "FINISHED" if work.store.n_rows() else "FAILED"
    finally:
        tracker.finish(status, wait_s=60.0 if status == "FINISHED" else 3.0)
    _tell_notices(console)
    code = _print_result(config, console, figures, counts, time.perf_counter() - started)
    check_rows(work, config)
    return code


def _print_plan(work: Work, console: Console) -> None:
    done = (
        f", {len(work.clips) - len(work.todo)} windows done already"
        if len(work.todo) < len(work.clips)
        else ""
    )
    console.print(
        f"{work.n_videos} files with sound: {len(work.todo)} windows to extract "
        f"({sum(clip.duration_s for clip in work.todo) / 60:.1f} min){done}; "
        f"{work.passed_over} files skipped, {len(work.scan_failures)} cannot be read. "
        f"Recipe {work.prepared.recipe.name} ({work.prepared.recipe.digest}).",
        markup=False,
    )


def _watch(
    work: Work, job: Any, config: ExtractConfig, console: Console, resources: Resources, tracker: Any
) -> tuple[Counts, float]:
    """Run the pipeline in a thread and report its progress; returns the workers' counts and the seconds taken."""
    import ray

    from jobs.common.progress import Progress
    from jobs.extract.preflight import fraction
    from pipelines.extract.progress import Counts, Ledger

    remote: Any = ray.remote(num_cpus=0, max_restarts=-1)(Ledger)
    ledger = remote.remote(fraction(config.max_failed))
    counts = Counts()

    def update_counts() -> None:
        # Without an answer in time the counts are a little older.
        with contextlib.suppress(ray.exceptions.RayError):
            counts.merge(ray.get(ledger.read.remote(), timeout=10))

    thread, errors = _pipeline_thread(work, job, config, resources, ledger)
    total_s = sum(clip.duration_s for clip in work.todo)
    tracked = time.perf_counter()
    with Progress(console, len(work.todo), total_s, doing="extracting", unit="windows") as progress:
        thread.start()
        while thread.is_alive():
            thread.join(POLL_S)
            update_counts()
            failed, left_out = len(counts.failures), counts.rows.get("left_out", 0)
            done = counts.rows.get("encode", 0) + failed + left_out
            progress.reach(counts.footage_s.get("encode", 0.0), done, failed)
            if time.perf_counter() - tracked > TRACK_EVERY_S:
                tracked = time.perf_counter()
                tracker.metrics(_throughput(counts, progress.elapsed_s), step=round(progress.elapsed_s))
        elapsed_s = progress.elapsed_s
    update_counts()
    if errors:
        # A run that its failures stopped shows them.
        work.store.write_failures(work.with_others(counts.failures.values()))
        raise _stopped_by(errors[0])
    return counts, elapsed_s


def _pipeline_thread(
    work: Work, job: Any, config: ExtractConfig, resources: Resources, ledger: Any
) -> tuple[threading.Thread, list[BaseException]]:
    """Thread, not yet started, that runs the pipeline, and the list that gets its error."""
    from pipelines.extract import pipeline

    errors: list[BaseException] = []

    def extract() -> None:
        try:
            pipeline.run(
                work.clips if resources.cpus > 1 else work.todo,
                job,
                cpus=resources.cpus,
                gpus=resources.gpus,
                memory=resources.memory,
                gpu_share=config.gpu_share,
                ledger=ledger,
            )
        except BaseException as error:  # handed to the thread that watches
            errors.append(error)

    return threading.Thread(target=extract, name="extract", daemon=True), errors


def _stopped_by(error: BaseException) -> BaseException:
    """Stopped, with the reason, for an error of the pipeline that has one; else the error itself."""
    from pipelines.extract.pipeline import ExtractionStopped

    if isinstance(error, ExtractionStopped):
        return Stopped(str(error))
    try:
        with ray_errors():
            raise error
    except BaseException as named:
        return named


def _throughput(counts: Counts, elapsed_s: float) -> dict[str, float]:
    """Metrics: footage seconds per core-second by stage, footage seconds per second overall, rows by stage."""
    figures = {f"x_realtime_per_core.{stage}": value for stage, value in counts.throughput().items()}
    figures["x_realtime"] = counts.footage_s.get("encode", 0.0) / max(elapsed_s, 1e-9)
    return figures | {f"rows.{stage}": float(n) for stage, n in counts.rows.items()}


def _finish(work: Work, counts: Counts, elapsed_s: float) -> dict[str, float]:
    """Write failures and index of the store; returns the metrics of the run."""
    work.store.write_failures(work.with_others(counts.failures.values()))
    removed = work.store.write_index()
    done = work.store.done()
    written = [clip for clip in work.todo if clip.clip_id in done]
    accounted = done | counts.failures.keys() | counts.put_off.keys()
    lost = [clip.clip_id for clip in work.todo if clip.clip_id not in accounted]
    counts.put_off |= dict.fromkeys(lost, "a worker was lost with its results")
    return _throughput(counts, elapsed_s) | {
        "rows": float(len(done)),
        "rows_written": float(len(written)),
        "rows_removed_twice": float(removed),
        "hours_written": sum(clip.duration_s for clip in written) / 3600,
        "windows_failed": float(len(counts.failures)),
        "windows_put_off": float(
            len([c for c in work.todo if c.clip_id in counts.put_off and c.clip_id not in done])
        ),
        "windows_left_out": float(counts.rows.get("left_out", 0)),
        "files_failed": float(len(work.scan_failures)),
        "elapsed_s": elapsed_s,
    }


def _print_result(
    config: ExtractConfig, console: Console, figures: dict[str, float], counts: Counts, wall_s: float
) -> int:
    from jobs.common.terminal import clock

    parts = [
        f"{figures['rows_written']:.0f} rows written ({figures['hours_written'] * 60:.1f} min of footage)"
    ]
    for name, words in (
        ("windows_left_out", "windows left out"),
        ("windows_failed", "windows failed"),
        ("files_failed", "files cannot be read"),
        ("windows_put_off", "windows postponed"),
    ):
        if figures[name]:
            parts.append(f"{figures[name]:.0f} {words}")
    speed = f" at {figures['x_realtime']:.1f}x real time" if figures["x_realtime"] else ""
    console.print(f"{', '.join(parts)}, in {clock(wall_s)}{speed}.", markup=False)
    if figures["windows_put_off"]:
        reason = next(iter(counts.put_off.values()), "")
        console.print(
            f"Storage timed out for some windows ({reason}); run the same command again.", markup=False
        )
    if figures["windows_failed"] or figures["files_failed"]:
        console.print(f"Failures: {config.store}/_failures.parquet (the next run retries them)", markup=False)
    console.print(f"Store: v2a store {config.store}", markup=False)
    failed = figures["windows_failed"] or figures["files_failed"] or figures["windows_put_off"]
    return SOME_FAILED if failed else DONE
