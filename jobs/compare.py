"""`v2a compare MODELS... --store S --out DIR`: the same clips through every model, scored side by side."""

from __future__ import annotations

import contextlib
import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jobs.cli import DONE, SOME_FAILED, command_line
from jobs.verb import run_verb

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.compare_plan import Plan
    from pipelines.scoring.clips import Row
    from v2a_models.metrics.estimate import Estimate


@dataclass
class CompareConfig:
    """Run every model over the same clips with the same seeds, and put them side by side.

    DIR gets the sounds (clips/MODEL/CLIP.wav), scores.parquet, summary.json, table.md, table.tex, pictures, report.html
    with players, and listen.html, a blind A/B page for the first two models. Run the same command again to resume, or
    with more models to add them. MLflow gets one run for the comparison and one below it per model.
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Models: bundled names, checkpoint folders, or models:/NAME/VERSION and models:/NAME@ALIAS."""
    store: str
    """Feature store that `v2a extract` made: a folder or s3://bucket/prefix. Its clips are compared on, and models of
    its recipe are fed with what it holds."""
    out: str
    """Where the results go, a folder."""
    archive: str | None = None
    """Archive that the store was extracted from: gives the true sounds, and the pictures for models of another recipe
    than the store's. Without it the true sounds are those of the store, or what its codec makes of them."""
    split: Literal["train", "val", "test"] = "val"
    """Part of the store to compare on: what the models were not trained on."""
    clips: int | None = 200
    """Clips at most, spread over all films."""
    seed: int = 0
    """Decides what is drawn, for all models alike."""
    events: str | None = None
    """Table of events (.parquet or .csv), such as SynthFoley's; by default ARCHIVE/events.parquet if there is one."""
    networks: tuple[str, ...] = (
        "foley", "scav", "vggish", "panns", "passt", "beats", "clap", "wav2clip", "clip",
    )  # fmt: skip
    """Networks to score with; those that cannot be had are n/a, with the reason."""
    weights: tuple[str, ...] = ()
    """Weights files of the networks, for instance vggish=/models/vggish.pth."""
    download: bool = False
    """Fetch published weights that are not on this machine, under their licences, and keep them."""
    export: str | None = None
    """Also copy every model's sounds and the true ones there, as EXPORT/MODEL/FILM.wav and EXPORT/reference/FILM.wav
    (FILM-000001.wav for the second window of a film), for av-benchmark and other scorers."""
    listen: int = 20
    """Pairs on the listening page."""
    votes: str | None = None
    """Votes that the listening page saved: puts the preference into the table."""
    promote: str = ""
    """Metric by which the best model becomes the champion, if it is better beyond the interval: then
    `v2a dub --model models:/v2a@champion` uses it. Needs an MLflow registry."""
    batch_size: int = 1
    """Windows generated at a time: one on processor cores, 16 or more on a GPU."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the models; `auto` takes bfloat16 where this machine's hardware has it."""
    num_workers: int | None = None
    """Cores to use; all of them by default."""
    address: str | None = None
    """Ray cluster to run on, for instance auto or ray://head:10001; by default this machine."""
    tracking_uri: str | None = None
    """MLflow server or database; by default a file in DIR/_v2a. `off` records nothing."""


def command(config: CompareConfig) -> str:
    """The command line that means this configuration: run again, it resumes."""

    options = command_line("compare", config, positional=(), without=("models",))
    return options.replace("v2a compare", shlex.join(["v2a", "compare", *config.models]), 1)


def run(config: CompareConfig) -> int:
    """Compare; the exit code: 0 all done, 1 some clips failed, 2 wrong usage, 130 interrupted."""
    return run_verb("compare", command(config), lambda console: _run(config, console))


def _run(config: CompareConfig, console: Console) -> int:
    from jobs import compare_finish, compare_plan, ray_session
    from pipelines.scoring.clips import FEW_CLIPS

    started = time.perf_counter()
    plan = compare_plan.prepare(config)
    console.print(
        f"{len(plan.rows)} clips of {plan.store}, {len(plan.models)} models: "
        f"{', '.join(model.slug for model in plan.models)}. Networks: {', '.join(plan.networks) or 'none'}; not to be "
        f"had: {', '.join(name for name in config.networks if name in plan.missing) or 'none'}.",
        markup=False,
    )
    with contextlib.ExitStack() as stack:
        resources = ray_session.Resources(1, 0, 0)
        if len(plan.rows) > FEW_CLIPS:
            resources = stack.enter_context(ray_session.session(config.num_workers, config.address))
        problems = fetch(plan, config, console, resources)
        costs = {}
        for model in plan.models:
            found, costs[model.slug] = make(plan, config, model, console, resources)
            problems |= found
        board = score(plan, config, console)
        score_captions(plan, config, board)
    summary = compare_finish.summarise(plan, config, board, problems, costs, command(config))
    compare_finish.write(plan, config, board, summary, console)
    console.print(f"Report: {plan.out}/report.html ({time.perf_counter() - started:.0f} s)", markup=False)
    return SOME_FAILED if any(system["failed"] for system in summary["systems"]) else DONE


def _job(plan: Plan, config: CompareConfig, gpus: int = 0) -> Any:
    from pipelines import storage
    from pipelines.scoring.clips import Job

    return Job(
        store=plan.store, place=storage.join(plan.out, "clips"), window=plan.window, seed=config.seed,
        archive=plan.archive, kept_rate=plan.kept_rate, precision=plan.precision, device="cuda" if gpus else "cpu",
        batch_size=config.batch_size,
    )  # fmt: skip


def fetch(plan: Plan, config: CompareConfig, console: Console, resources: Any) -> dict[tuple[str, str], str]:
    """The true sounds; (system, clip) -> why, for those that cannot be had."""
    from pipelines.scoring.clips import missing, run_fetch
    from pipelines.scoring.job import REFERENCE
    from v2a_models import grid

    job = _job(plan, config)
    todo = missing(plan.rows, job.place, REFERENCE)
    answers = run_fetch(todo, job, plan.codec, resources.cpus) if todo else iter(())
    each = grid.seconds(plan.window, grid.SAMPLE_RATE)
    return problems_of(_watched(answers, todo, "true sounds", console, each))


def make(
    plan: Plan, config: CompareConfig, model: Any, console: Console, resources: Any
) -> tuple[dict[tuple[str, str], str], dict[str, Estimate]]:
    """The sounds of one model: what failed, and what it cost by figure (nothing where nothing had to be made)."""
    from pipelines.scoring.clips import missing, run_model
    from v2a_models import grid

    job = _job(plan, config, resources.gpus)
    todo = missing(plan.rows, job.place, model.slug)
    if not todo:
        return {}, {}
    answers = run_model(
        todo, job, model.slug, model.folder, model.from_archive, resources.cpus, resources.gpus
    )
    each = grid.seconds(plan.window, grid.SAMPLE_RATE)
    found = _watched(answers, todo, model.slug, console, each)
    return problems_of(found), costs_of(found, each)


def problems_of(answers: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """(system, clip) -> why it has no sound."""
    return {(a["system"], a["clip"]): a["problem"] for a in answers if a["problem"]}


def costs_of(answers: Sequence[Mapping[str, Any]], each_s: float) -> dict[str, Estimate]:
    """Speed (with the interval of drawing the clips anew) and memory of making clips of `each_s` seconds."""
    from v2a_models.metrics.estimate import Estimate, bootstrap_mean

    timed = [a for a in answers if a["seconds"] and not a["problem"]]
    if not timed:
        return {}
    slow = bootstrap_mean([a["seconds"] for a in timed])
    speed = Estimate(each_s / slow.value, each_s / slow.high, each_s / slow.low, slow.n, slow.note)
    memory = Estimate(max(a["memory_mib"] for a in timed), math.nan, math.nan, len(timed))
    return {"audio_s_per_s": speed, "memory": memory}


def _watched(
    answers: Any, todo: Sequence[Row], what: str, console: Console, each_s: float
) -> list[dict[str, Any]]:
    """The answers, with progress shown as they come."""
    from jobs.progress import Progress

    found: list[dict[str, Any]] = []
    if not todo:
        return found
    with Progress(console, len(todo), len(todo) * each_s, doing=what, unit=f"clips of {what}") as progress:
        for answer in answers:
            found.append(answer)
            progress.advance(each_s, finished=True, failed=bool(answer["problem"]))
    return found


def score(plan: Plan, config: CompareConfig, console: Console) -> Any:
    """Scores what was made; a `Board`."""
    from jobs import ray_session
    from jobs.evaluate import weights
    from jobs.progress import Progress
    from pipelines.scoring import job as scoring_job
    from pipelines.scoring.summary import Board
    from v2a_models import grid

    board, clips = Board(), scoring_clips(plan)
    hearing = tuple(name for name in plan.networks if name != "bertscore")  # which reads
    job = scoring_job.Job(
        plan.codec, hearing, weights(config.weights), keep=_job(plan, config).place, download=config.download
    )

    def session() -> contextlib.AbstractContextManager[Any]:
        return ray_session.session(config.num_workers, config.address)

    window_s = grid.seconds(plan.window, grid.SAMPLE_RATE)
    with Progress(
        console, len(clips), len(clips) * window_s, doing="scoring", unit="clips scored"
    ) as progress:
        seen: set[str] = set()
        for scored in scoring_job.score_all(clips, job, session):
            board.add(scored)
            if scored.clip not in seen:
                seen.add(scored.clip)
                progress.advance(window_s, finished=True)
    return board


def score_captions(plan: Plan, config: CompareConfig, board: Any) -> None:
    """Scores the captions of models that have words against the texts of the store."""
    from jobs.evaluate import add_captions, weights
    from pipelines.scoring.clips import captions_of
    from v2a_models.metrics import networks

    place, true = _job(plan, config).place, {row.clip_id: [row.text] for row in plan.rows if row.text.strip()}
    found = {m.slug: captions_of(place, m.slug) for m in plan.models if m.slug in board.systems}
    said = {slug: texts for slug, texts in found.items() if texts.keys() & true.keys()}
    if said:
        asked = "bertscore" in plan.networks
        add_captions(board, said, true, networks.load_bertscore(weights(config.weights)) if asked else None)


def scoring_clips(plan: Plan) -> list[Any]:
    """The clips with all that is known of them, for every model and its baselines."""
    from jobs.evaluate import other_clips
    from pipelines import storage
    from pipelines.scoring import job as scoring_job
    from pipelines.scoring.clips import missing, sound_uri
    from v2a_models import grid

    place = storage.join(plan.out, "clips")
    window_s = grid.seconds(plan.window, grid.SAMPLE_RATE)
    others = other_clips([row.label for row in plan.rows])
    # A model that made nothing at all must not leave the others without clips.
    able = [m.slug for m in plan.models if len(missing(plan.rows, place, m.slug)) < len(plan.rows)]
    clips = []
    for row, other in zip(plan.rows, others, strict=True):
        known = plan.facts.get(row.path.rpartition(".")[0], {})
        inside = [
            (at - row.start_s, strength)
            for at, strength in zip(known.get("events", ()), known.get("strengths", ()), strict=False)
            if 0 <= at - row.start_s < window_s
        ]
        clips.append(
            scoring_job.Clip(
                name=row.clip_id,
                reference=sound_uri(place, scoring_job.REFERENCE, row.clip_id),
                systems={slug: sound_uri(place, slug, row.clip_id) for slug in able},
                other=sound_uri(place, scoring_job.REFERENCE, plan.rows[other].clip_id),
                label=row.label or known.get("label", ""),
                text=row.text,
                events=tuple(at for at, _ in inside) if "events" in known else None,
                strengths=tuple(strength for _, strength in inside),
                fps=plan.fps.get(row.path, 0.0),
                film=storage.join(plan.archive, *row.path.split("/")) if plan.archive else "",
                start_s=row.start_s,
            )
        )
    return clips


if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["compare", *sys.argv[1:]]))
