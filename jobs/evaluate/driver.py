"""`v2a evaluate PRED REF --out DIR`: scores a folder of sounds against the true ones."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jobs.cli import DONE, SOME_FAILED, version
from jobs.common.checks import network_weights
from jobs.common.verb import run_verb
from jobs.evaluate.config import EvaluateConfig, command
from jobs.evaluate.export import export
from jobs.evaluate.preflight import find_captions, find_clips, preflight, system_name

if TYPE_CHECKING:
    from rich.console import Console


def run(config: EvaluateConfig) -> int:
    """Evaluate sounds. Exit code 0: done, 1: some clips were not scored, 2: wrong usage, 130: interrupted."""
    return run_verb("evaluate", command(config), lambda console: _run(config, console))


def _run(config: EvaluateConfig, console: Console) -> int:
    from jobs.common import ray_session
    from jobs.common.progress import Progress
    from jobs.common.score_table import print_summary
    from pipelines import storage
    from pipelines.reports.score_results import summarise, write_scores
    from pipelines.scoring import job as scoring_job
    from pipelines.scoring import pipeline
    from pipelines.scoring.caption_scores import add_captions, bertscore_reader
    from pipelines.scoring.summary import Board, available_networks

    started = time.perf_counter()
    preflight(config)
    name = system_name(config.pred)
    clips, notes = find_clips(config, name)
    captions, true = find_captions(config, {clip.name: clip.text for clip in clips})
    networks = (*config.networks, *["bertscore"] * bool(captions))
    available, missing = available_networks(networks, network_weights(config.weights), config.download)
    reader = bertscore_reader(available, network_weights(config.weights))
    available = [network for network in available if network != "bertscore"]  # it reads captions alone
    codec = "" if config.codec == "none" else config.codec
    job = scoring_job.ScoringJob(
        codec,
        tuple(available),
        network_weights(config.weights),
        baselines=config.baselines,
        download=config.download,
    )
    console.print(
        f"{len(clips)} clips of {name}, scored with {', '.join(available) or 'no network'}; "
        f"unavailable: {', '.join(name for name in networks if name in missing) or 'none'}.",
        markup=False,
    )
    board = Board()
    with Progress(console, len(clips), 0.0, doing="scoring", unit="clips") as progress:
        counted: set[str] = set()

        def session() -> Any:
            return ray_session.session(config.num_workers, config.address)

        for scored in pipeline.score_all(clips, job, session):
            board.add(scored)
            if scored.clip not in counted:
                counted.add(scored.clip)
                progress.advance(0.0, finished=True, failed=bool(scored.problem))
    if captions:
        add_captions(board, {name: captions}, true, reader)
    if config.export:
        export(config.export, name, clips, board)
    summary = summarise(board, missing, command=command(config), version=version(), notes=notes)
    write_scores(config.out, board, summary, clips)
    print_summary(summary, board, name, console)
    console.print(
        f"{storage.join(config.out, 'table.md')}, in {time.perf_counter() - started:.0f} s.", markup=False
    )
    return SOME_FAILED if any(totals.failures for totals in board.systems.values()) else DONE
