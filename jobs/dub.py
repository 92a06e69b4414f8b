"""`v2a dub ARCHIVE OUT`: give the silent videos of an archive a sound track."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jobs.cli import DONE, SOME_FAILED, command_line
from jobs.dub_words import describe, show_plan, summary, tell, write_report
from jobs.film_options import FilmOptions
from jobs.preflight import check_identity, full_address, full_model, make_job, preflight, read_wishes
from jobs.price_options import PriceOptions
from jobs.sound_options import SoundOptions
from jobs.verb import Stopped, reason_of, run_verb

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.ray_session import Resources
    from pipelines.dub.job import Job
    from pipelines.dub.manifest import Wish
    from pipelines.dub.plan import Plan

CLIPS_TRACKED = 3
"""Dubbed clips kept with the MLflow run."""


@dataclass
class DubConfig:
    """Give the silent videos of an archive a sound track, in a copy of the archive.

    OUT gets the same tree: the picture is copied bit for bit, a generated track is added and named, and
    OUT/_v2a/report.html tells what became of every file. The archive is only read. Run the same command
    again to resume, or to take in new files.
    """

    archive: Annotated[str, tyro.conf.Positional]
    """Folder with videos, or s3://bucket/prefix."""
    out: Annotated[str, tyro.conf.Positional]
    """Where the dubbed copies go: a folder or s3:// prefix outside the archive."""
    model: str = "mini"
    """Generator: the name of a bundled one, the path of a checkpoint folder, or models:/NAME/VERSION and
    models:/NAME@ALIAS of the MLflow registry at --tracking-uri, such as models:/v2a@champion."""
    only: Literal["silent", "all"] = "silent"
    """Which videos: those without sound (no track, an empty one or a silent one), or all of them."""
    seed: int = 0
    """Another seed gives another sound. The same seed gives the same one on any number of workers."""
    num_workers: int | None = None
    """Cores to use; all of them by default."""
    dry_run: bool = False
    """Only say what would be done, and for how long. Writes nothing."""
    restart: bool = False
    """Forget what earlier runs did in OUT and do everything again."""
    address: str | None = None
    """Ray cluster to run on, for instance auto or ray://head:10001; by default this machine."""
    tracking_uri: str | None = None
    """MLflow server or database; by default a file beside the output. `off` records nothing."""
    segment_s: float = 60.0
    """Seconds of film that one task handles: more of them cost less and need more memory. With crossfades that does not
    change the sound; otherwise windows lie between the borders of segments, and another length gives another one."""
    batch_size: int = 1
    """Windows generated at a time (films, with a model that goes on from its own past): one is fastest on processor
    cores, 16 or more on a GPU."""
    candidates: int = 1
    """Sounds drawn for each window, of which the one that fits the picture best is kept. The time that takes grows
    with them; 10 is usual."""
    keep_top: int = 1
    """Of the candidates, so many become tracks: the best, and named alternatives (or further sidecars), the second best
    of every window and so on."""
    manifest: str | None = None
    """Table of what is asked for single films, .csv or .parquet, columns path (relative to ARCHIVE), prompt, negative,
    seed, start_s and end_s (in and out time: silence outside), skip. Empty cells, and films that are not in it: as
    this command says."""
    prompt: str = ""
    """What is to be heard, for instance "a heavy wooden hammer, no music": the picture still says when. Needs a model
    that follows text, such as vatt-mini or one of v2a train vatt."""
    negative: str | None = None
    """What is not to be heard, for instance "wind". By default "music, speech" where the model follows text and knows
    the words; "" for nothing."""
    captions: bool = False
    """Say of every window what it should sound like, as a subtitle track (in mp4, mov and mkv; else FILM.srt beside
    the film). Needs a model that has words, such as vatt-mini or one of v2a train vatt. The report has captions in
    any case."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the transformers. `auto` takes bfloat16 where this machine's hardware has it. Name one for
    a cluster of unlike machines, so that all of them compute alike."""
    sign_key: str | None = None
    """File with a private key (PEM): every dubbed file is signed with it by C2PA. Or set V2A_SIGN_KEY. On a cluster, a
    path that all machines see. Without a key files are marked as synthetic and not signed."""
    sign_cert: str | None = None
    """File with the certificate of that key and those that lead to its authority (PEM). Or set V2A_SIGN_CERT.
    `v2a verify --make-test-certificate FOLDER` makes a pair for trying out."""
    sound: SoundOptions = field(default_factory=SoundOptions)
    film: FilmOptions = field(default_factory=FilmOptions)
    price: PriceOptions = field(default_factory=PriceOptions)


def run(config: DubConfig, *, load: Callable[[str], Any] | None = None) -> int:
    """Dub an archive; the exit code: 0 all done, 1 some files failed, 2 wrong usage, 130 interrupted.

    `load` makes the generator from its name (default: `v2a_models.checkpoint.load_generator`).
    """
    return run_verb("dub", command(config), lambda console: _run(config, load, console))


def command(config: DubConfig) -> str:
    """The command line that means this configuration, without `--restart`: run again, it resumes."""
    return command_line("dub", config, positional=("archive", "out"), without=("restart",))


def _run(config: DubConfig, load: Callable[[str], Any] | None, console: Console) -> int:
    from jobs import ray_session, registry

    preflight(config)
    config.price.prices()
    config = dataclasses.replace(config, model=registry.resolve(config.model, config.tracking_uri))
    wishes = read_wishes(config)
    job = make_job(config, load, wishes)
    check_identity(config, job)
    with ray_session.session(config.num_workers, config.address) as resources:
        return _run_on_ray(config, load or load_generator, console, job, wishes, resources)


def load_generator(model: str) -> Any:
    """The generator of that name or path."""
    from v2a_models.checkpoint import load_generator

    return load_generator(model)


def _run_on_ray(
    config: DubConfig,
    load: Callable[[str], Any],
    console: Console,
    job: Job,
    wishes: dict[str, Wish],
    resources: Resources,
) -> int:
    from jobs.scan import scan_rows
    from jobs.tracking import Tracker, resolve_uri
    from pipelines import storage
    from pipelines.dub.plan import Wish, make_plan, wants_silence
    from pipelines.dub.state import State
    from pipelines.reports import costs
    from pipelines.soundtrack import silence

    started, started_at = time.perf_counter(), time.time()
    rows = scan_rows(config.archive, resources.cpus)
    how = job.treatment
    partly = [v for v in rows if wants_silence(v, how.existing, wishes.get(v["path"], Wish()))]
    silences = silence.look_at_all(partly, how.silence_dbfs, resources.cpus)
    plan = make_plan(
        job,
        rows,
        config.only,
        restart=config.restart,
        dry_run=config.dry_run,
        wishes=wishes,
        silences=silences,
    )
    if config.dry_run:
        show_plan(console, plan, resources.cpus, job.candidates, config.price.prices())
        return DONE
    State(config.out).write_config(kept_config(config, job))
    describe(console, plan, job)
    if job.sign_key:
        console.print(f"Signing with {job.sign_cert}.", markup=False)
    uri = resolve_uri(config.out, config.tracking_uri)
    tracker = Tracker(uri, "v2a/dub", out=config.out, say=lambda text: console.print(text, markup=False))
    params = dataclasses.asdict(config)
    params |= params.pop("sound") | params.pop("film") | params.pop("price")
    tracker.start(f"dub {job.run_id}", params, {"v2a.version": job.version, "v2a.out": config.out})
    status = "KILLED"
    try:
        elapsed_s = execute(plan, job, load, console, resources)
        status = "FAILED"
        table = [plan.rows[video_id] for video_id in plan.order]
        spent = costs.costs(table, config.price.prices())
        figures = summary(table, plan, elapsed_s) | spent.figures()
        facts = {"archive": config.archive, "out": config.out, "command": command(config), **figures}
        facts |= {"started": started_at, "version": job.version}
        if plan.to_dub:
            facts["wall_s"] = time.perf_counter() - started
        facts |= {"model": job.model_name, "model_sha256": job.model_sha256, "seed": job.seed}
        facts |= {"candidates": job.candidates} if job.candidates > 1 else {}
        facts |= {name: text for name, text in (("prompt", job.prompt), ("negative", job.negative)) if text}
        write_report(config.out, table, facts)
        tracker.metrics({name: value for name, value in figures.items() if isinstance(value, (int, float))})
        reports = [storage.join(config.out, "_v2a", name) for name in ("report.parquet", "report.html")]
        tracker.artifacts(reports)
        dubbed = [row["output"] for row in table if row["status"] == "dubbed"]
        tracker.artifacts([storage.join(config.out, path) for path in dubbed[:CLIPS_TRACKED]], "clips")
        status = "FINISHED"
    finally:
        tracker.finish(status, wait_s=60.0 if status == "FINISHED" else 3.0)
    tell(console, config, table, figures, spent, time.perf_counter() - started)
    return SOME_FAILED if figures["files_failed"] else DONE


def kept_config(config: DubConfig, job: Job) -> dict[str, Any]:
    """What OUT remembers of how it was made."""
    places = {"archive": full_address(config.archive), "model_place": full_model(job.model)}
    return (
        job.identity()
        | places
        | {
            "windows_per_segment": job.windows_per_segment,
            "film": dataclasses.asdict(config.film),
        }
    )


# during


def execute(
    plan: Plan, job: Job, load: Callable[[str], Any], console: Console, resources: Resources
) -> float:
    """Run the pipeline over the plan's tasks and fill in its rows; seconds that took. Raises Stopped."""
    import ray.exceptions

    from jobs.progress import Progress
    from jobs.watchdog import Watchdog
    from pipelines.dub import pipeline as dub_pipeline
    from pipelines.dub.state import Failure, State

    watchdog = Watchdog(lambda text: console.print(text, markup=False))
    with Progress(console, len(plan.to_dub), plan.footage_s) as progress, watchdog:
        if plan.tasks:
            pipeline = dub_pipeline.dataset(
                plan.tasks,
                job,
                load,
                cpus=resources.cpus,
                gpus=resources.gpus,
                memory=resources.memory,
            )
            try:
                for result in dub_pipeline.results(pipeline):
                    watchdog.reset()
                    if result["fatal"]:
                        raise Stopped(f"OUT can no longer be written: {result['fatal']}")
                    row = json.loads(result["row"]) if result["row"] else None
                    fresh = row is not None and row["video_id"] not in plan.rows
                    if row is not None:
                        plan.rows[row["video_id"]] = row
                    failed = fresh and row is not None and row["status"] == "failed"
                    progress.advance(result["seconds"], finished=fresh, failed=failed)
            except ray.exceptions.RayError as error:
                raise Stopped(f"a worker was lost: {reason_of(error)}") from error
    for video_id, video in plan.to_dub.items():
        if video_id not in plan.rows:
            row = State(job.out).read_row(video_id)
            lost = Failure("generate", "Unfinished", "the job ended before this file; run it again")
            plan.rows[video_id] = row or dub_pipeline.failed_row(video, lost)
    return progress.elapsed_s


if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["dub", *sys.argv[1:]]))
