"""`v2a evaluate PRED REF --out DIR`: scores a folder of sounds against the true ones."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jobs.cli import DONE, SOME_FAILED
from jobs.common.checks import at_least, network_weights
from jobs.common.verb import WrongUsage, run_verb
from jobs.evaluate.config import EvaluateConfig, command
from jobs.evaluate.results import export
from jobs.evaluate.tables import add_captions, other_clips

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.scoring.job import Clip


def run(config: EvaluateConfig) -> int:
    """Evaluate sounds. Exit code 0: done, 1: some clips were not scored, 2: wrong usage, 130: interrupted."""
    return run_verb("evaluate", command(config), lambda console: _run(config, console))


def _run(config: EvaluateConfig, console: Console) -> int:
    from jobs.common import ray_session
    from jobs.common.progress import Progress
    from jobs.evaluate import tables
    from jobs.evaluate.results import print_summary, summarise, write
    from pipelines import storage
    from pipelines.scoring import job as scoring_job
    from pipelines.scoring import pipeline
    from pipelines.scoring.summary import Board, available_networks

    started = time.perf_counter()
    preflight(config)
    name = config.pred.rstrip("/").rpartition("/")[2] or "pred"
    clips, notes = find_clips(config, name)
    captions, true = tables.find_captions(config, {clip.name: clip.text for clip in clips})
    networks = (*config.networks, *["bertscore"] * bool(captions))
    available, missing = available_networks(networks, network_weights(config.weights), config.download)
    reader = None
    if "bertscore" in available:
        from v2a_models.metrics.networks.load import load_bertscore

        reader = load_bertscore(network_weights(config.weights))
        available.remove("bertscore")
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
        f"not to be had: {', '.join(name for name in networks if name in missing) or 'none'}.",
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
    summary = summarise(board, missing, command(config), notes)
    write(config.out, board, summary, clips)
    print_summary(summary, board, name, console)
    console.print(
        f"{storage.join(config.out, 'table.md')}, in {time.perf_counter() - started:.0f} s.", markup=False
    )
    return SOME_FAILED if any(totals.failures for totals in board.systems.values()) else DONE


def preflight(config: EvaluateConfig) -> None:
    """Check a configuration. Raises WrongUsage, with the fix."""
    from pipelines import storage
    from v2a_models.checkpoint_files import find_checkpoint
    from v2a_models.metrics.networks.sources import NETWORKS

    unknown = [name for name in config.networks if name not in NETWORKS]
    if unknown:
        raise WrongUsage(f"no network {unknown[0]!r}: choose from {', '.join(NETWORKS)}")
    network_weights(config.weights)
    at_least(config, num_workers=1, fps=0)
    try:
        if config.codec != "none":
            find_checkpoint(config.codec)
        for folder in (config.pred, config.ref):
            storage.check_readable(folder)
            if storage.is_within(folder, config.out):
                raise WrongUsage(f"--out ({config.out}) must lie outside {folder}")
        storage.check_writable(config.out)
    except (storage.StorageError, ValueError) as error:
        raise WrongUsage(str(error)) from error


def find_clips(config: EvaluateConfig, name: str) -> tuple[list[Clip], list[str]]:
    """Clips that both folders hold, and notes on the others. Raises WrongUsage."""
    from jobs.evaluate.results import listed
    from jobs.evaluate.tables import read_events
    from pipelines.scoring import job as scoring_job
    from pipelines.scoring import sound_folder

    try:
        pred, ref = sound_folder.list_sounds(config.pred), sound_folder.list_sounds(config.ref)
    except sound_folder.SoundError as error:
        raise WrongUsage(str(error)) from error
    events = read_events(config.events) if config.events else {}
    common = sorted(pred.keys() & ref.keys())
    notes = []
    for side, lacking in (("PRED lacks", ref.keys() - pred.keys()), ("REF lacks", pred.keys() - ref.keys())):
        if lacking:
            notes.append(f"{side} {len(lacking)} clips: {listed(sorted(lacking))}")
    if not common:
        raise WrongUsage(f"{config.pred} and {config.ref} have no clip in common (files are matched by name)")
    if notes and not config.allow_missing:
        raise WrongUsage("\n".join([*notes, f"--allow-missing scores the {len(common)} that both hold"]))
    facts = [events.get(clip, {}) for clip in common]
    others = other_clips([fact.get("label", "") for fact in facts])
    clips = [
        scoring_job.Clip(
            clip,
            ref[clip],
            {name: pred[clip]},
            ref[common[other]],
            fps=config.fps,
            film="" if ref[clip].lower().endswith(sound_folder.PICTURELESS) else ref[clip],
            **fact,
        )
        for clip, fact, other in zip(common, facts, others, strict=True)
    ]
    return clips, notes
