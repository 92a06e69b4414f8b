"""`v2a evaluate PRED REF --out DIR`: scores a folder of sounds against the true ones."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jobs.cli import DONE, SOME_FAILED, command_line
from jobs.verb import WrongUsage, run_verb

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.scoring.job import Clip
    from pipelines.scoring.summary import Board


@dataclass
class EvaluateConfig:
    """Score a folder of sounds against the true ones, by the protocol of `v2a compare`.

    Both folders hold one file per clip, named by the clip: CLIP.wav, as av-benchmark and the published systems leave
    them (.flac and films work too). Baselines are scored beside them: the true sound, the same through the codec, that
    of other clips, noise and silence. DIR gets scores.parquet, summary.json, table.md and table.tex.
    """

    pred: Annotated[str, tyro.conf.Positional]
    """Folder of the sounds to score, or s3://bucket/prefix."""
    ref: Annotated[str, tyro.conf.Positional]
    """Folder of the true sounds, or of the films that they belong to."""
    out: str
    """Where the results go: a folder or s3:// prefix. What an earlier evaluation left there is replaced."""
    events: str | None = None
    """Table of events (.parquet or .csv: clip, onset_s; also class, strength), such as SynthFoley's events.parquet:
    scores onsets, and classes."""
    fps: float = 0.0
    """Pictures per second of the films: measures the tone that some models make at that rate."""
    captions: str | None = None
    """Table (.parquet or .csv: clip, caption) of what the system says is heard: scores captions."""
    true_captions: str | None = None
    """Table of the same form with the true captions, one or more per clip; by default those of the table of events."""
    allow_missing: bool = False
    """Score what both folders hold, even where clips are missing on one side."""
    codec: str = "mini"
    """Checkpoint whose codec is a baseline and gives the latents of FDD; `none` leaves both out, which is faster."""
    baselines: bool = True
    """Score the baselines too. Without them (--no-baselines) the Fréchet distances have only the true sounds to go by,
    and no metric is checked."""
    networks: tuple[str, ...] = (
        "foley", "scav", "vggish", "panns", "passt", "beats", "clap", "wav2clip", "clip",
    )  # fmt: skip
    """Networks to score with; those that cannot be had are n/a, with the reason."""
    weights: tuple[str, ...] = ()
    """Weights files of the networks, for instance vggish=/models/vggish.pth."""
    download: bool = False
    """Fetch published weights that are not on this machine, under their licences, and keep them."""
    export: str | None = None
    """Also write the sounds as they were scored (mono, 44.1 kHz, exactly as long as the true ones) to EXPORT/PRED and
    EXPORT/reference, for av-benchmark and other scorers."""
    num_workers: int | None = None
    """Cores to use; all of them by default."""
    address: str | None = None
    """Ray cluster to run on, for instance auto or ray://head:10001; by default this machine."""


def command(config: EvaluateConfig) -> str:
    """The command line that means this configuration."""
    return command_line("evaluate", config, positional=("pred", "ref"))


def run(config: EvaluateConfig) -> int:
    """Evaluate; the exit code: 0 all scored, 1 some clips could not be, 2 wrong usage, 130 interrupted."""
    return run_verb("evaluate", command(config), lambda console: _run(config, console))


def _run(config: EvaluateConfig, console: Console) -> int:
    from jobs import evaluate_tables, ray_session
    from jobs.evaluate_finish import summarise, tell, write
    from pipelines import storage
    from pipelines.scoring import job as scoring_job
    from pipelines.scoring.summary import Board, reachable

    started = time.perf_counter()
    preflight(config)
    name = config.pred.rstrip("/").rpartition("/")[2] or "pred"
    clips, notes = find_clips(config, name)
    said, true = evaluate_tables.find_captions(config, {clip.name: clip.text for clip in clips})
    asked = (*config.networks, *["bertscore"] * bool(said))
    available, missing = reachable(asked, weights(config.weights), config.download)
    reader = None
    if "bertscore" in available:
        from v2a_models.metrics import networks

        reader = networks.load_bertscore(weights(config.weights))
        available.remove("bertscore")
    codec = "" if config.codec == "none" else config.codec
    job = scoring_job.Job(
        codec, tuple(available), weights(config.weights), baselines=config.baselines, download=config.download
    )
    console.print(
        f"{len(clips)} clips of {name}, scored with {', '.join(available) or 'no network'}; "
        f"not to be had: {', '.join(name for name in asked if name in missing) or 'none'}.",
        markup=False,
    )
    board = Board()
    from jobs.progress import Progress

    with Progress(console, len(clips), 0.0, doing="scoring", unit="clips") as progress:
        seen: set[str] = set()

        def session() -> Any:
            return ray_session.session(config.num_workers, config.address)

        for scored in scoring_job.score_all(clips, job, session):
            board.add(scored)
            if scored.clip not in seen:
                seen.add(scored.clip)
                progress.advance(0.0, finished=True, failed=bool(scored.problem))
    if said:
        add_captions(board, {name: said}, true, reader)
    if config.export:
        export(config.export, name, clips, board)
    summary = summarise(board, missing, command(config), notes)
    write(config.out, board, summary, clips)
    tell(summary, board, name, console)
    console.print(
        f"{storage.join(config.out, 'table.md')}, in {time.perf_counter() - started:.0f} s.", markup=False
    )
    return SOME_FAILED if any(totals.failures for totals in board.systems.values()) else DONE


def preflight(config: EvaluateConfig) -> None:
    """Raises WrongUsage, with the fix, for what cannot work."""
    from pipelines import storage
    from v2a_models.checkpoint_files import find_checkpoint
    from v2a_models.metrics import networks

    unknown = [name for name in config.networks if name not in networks.NETWORKS]
    if unknown:
        raise WrongUsage(f"no network {unknown[0]!r}: choose from {', '.join(networks.NETWORKS)}")
    weights(config.weights)
    if config.num_workers is not None and config.num_workers < 1:
        raise WrongUsage(f"--num-workers must be at least 1, not {config.num_workers}")
    if config.fps < 0:
        raise WrongUsage(f"--fps must be more than 0, not {config.fps:g}")
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


def weights(words: Sequence[str]) -> dict[str, str]:
    """`network=file` as a dictionary. Raises WrongUsage."""
    found = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or not path:
            raise WrongUsage(
                f"--weights takes NETWORK=FILE, for instance vggish=/models/vggish.pth, not {word!r}"
            )
        found[name] = path
    return found


def find_clips(config: EvaluateConfig, name: str) -> tuple[list[Clip], list[str]]:
    """The clips that both folders hold, and what there is to say about the others. Raises WrongUsage."""
    from jobs.evaluate_finish import listed
    from jobs.evaluate_tables import read_events
    from pipelines.scoring import job as scoring_job
    from pipelines.scoring import sound_folder

    try:
        pred, ref = sound_folder.list_sounds(config.pred), sound_folder.list_sounds(config.ref)
    except sound_folder.SoundError as error:
        raise WrongUsage(str(error)) from error
    known = read_events(config.events) if config.events else {}
    common = sorted(pred.keys() & ref.keys())
    notes = []
    for what, lacking in (("PRED lacks", ref.keys() - pred.keys()), ("REF lacks", pred.keys() - ref.keys())):
        if lacking:
            notes.append(f"{what} {len(lacking)} clips: {listed(sorted(lacking))}")
    if not common:
        raise WrongUsage(f"{config.pred} and {config.ref} have no clip in common (files are matched by name)")
    if notes and not config.allow_missing:
        raise WrongUsage("\n".join([*notes, f"--allow-missing scores the {len(common)} that both hold"]))
    facts = [known.get(clip, {}) for clip in common]
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


def add_captions(
    board: Board, said: Mapping[str, Mapping[str, str]], true: Mapping[str, Sequence[str]], reader: Any
) -> None:
    """Scores the captions of systems (by system and clip), and beside them the first true ones, of the same clips and
    of others."""
    scored = [set(board.systems[name].clips) & texts.keys() & true.keys() for name, texts in said.items()]
    clips = sorted(set().union(*scored))
    if not clips:
        return
    first = {clip: true[clip][0] for clip in clips}
    turned = dict(zip(clips, [first[clips[k]] for k in other_clips(list(first.values()))], strict=True))
    for system, captions in {**said, "reference": first, "shuffled": turned}.items():
        if system in board.systems:
            board.systems[system].caption(captions, true, reader)


def export(folder: str, name: str, clips: Sequence[Clip], board: Board) -> None:
    """Writes the scored sounds and the true ones in av-benchmark's layout: FOLDER/SYSTEM/CLIP.wav, mono, of one
    length. Raises WrongUsage if two clips would be one file."""
    from pipelines import storage
    from pipelines.scoring import sound_folder

    scored = set(board.systems[name].clips)
    kept = [clip for clip in clips if clip.name in scored]
    try:
        files = sound_folder.flat_names([clip.name for clip in kept])
    except sound_folder.SoundError as error:
        raise WrongUsage(f"--export: {error}") from error
    for clip in kept:
        n = len(sound_folder.read_sound(clip.reference).samples)
        for system, uri in ((name, clip.systems[name]), ("reference", clip.reference)):
            samples, _ = sound_folder.read_sound(uri).fitted(n)
            storage.write_atomic(
                storage.join(folder, system, f"{files[clip.name]}.wav"), sound_folder.wav_bytes(samples)
            )


def other_clips(labels: Sequence[str]) -> list[int]:
    """For each clip another one, of another class where there is one; itself if it is alone."""
    from v2a_models.metrics.baselines import shuffled

    return [int(k) for k in shuffled(labels, 0)] if len(labels) > 1 else [0] * len(labels)


if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["evaluate", *sys.argv[1:]]))
