"""`v2a evaluate PRED REF --out DIR`: scores a folder of sounds against the true ones."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jobs.cli import DONE, SOME_FAILED, command_line, version
from jobs.verb import WrongUsage, run_verb

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.scoresummary import Board
    from pipelines.scoring import Clip

PROBLEMS_SHOWN = 10


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
    allow_missing: bool = False
    """Score what both folders hold, even where clips are missing on one side."""
    codec: str = "mini"
    """Checkpoint whose codec is a baseline and gives the latents of FDD; `none` leaves both out, which is faster."""
    baselines: bool = True
    """Score the baselines too. Without them (--no-baselines) the Fréchet distances have only the true sounds to go by,
    and no metric is checked."""
    networks: tuple[str, ...] = ("foley", "vggish", "panns", "passt", "beats", "clap", "wav2clip")
    """Networks to score with; those that cannot be had are n/a, with the reason."""
    weights: tuple[str, ...] = ()
    """Weights files of the networks, for instance vggish=/models/vggish.pth."""
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
    from jobs import ray_session
    from pipelines import scoring, storage
    from pipelines.scoresummary import Board, reachable

    started = time.perf_counter()
    preflight(config)
    name = config.pred.rstrip("/").rpartition("/")[2] or "pred"
    clips, notes = find_clips(config, name)
    available, missing = reachable(config.networks, weights(config.weights))
    codec = "" if config.codec == "none" else config.codec
    job = scoring.Job(codec, tuple(available), weights(config.weights), config.baselines)
    console.print(
        f"{len(clips)} clips of {name}, scored with {', '.join(available) or 'no network'}; "
        f"not to be had: {', '.join(missing) or 'none'}.",
        markup=False,
    )
    board = Board()
    from jobs.progress import Progress

    with Progress(console, len(clips), 0.0, doing="scoring", unit="clips") as progress:
        seen: set[str] = set()

        def session() -> Any:
            return ray_session.session(config.num_workers, config.address)

        for scored in scoring.score_all(clips, job, session):
            board.add(scored)
            if scored.clip not in seen:
                seen.add(scored.clip)
                progress.advance(0.0, finished=True, failed=bool(scored.problem))
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
    from pipelines import scoring, sounds

    try:
        pred, ref = sounds.list_sounds(config.pred), sounds.list_sounds(config.ref)
    except sounds.SoundError as error:
        raise WrongUsage(str(error)) from error
    known = read_events(config.events) if config.events else {}
    common = sorted(pred.keys() & ref.keys())
    notes = []
    for what, lacking in (("PRED lacks", ref.keys() - pred.keys()), ("REF lacks", pred.keys() - ref.keys())):
        if lacking:
            listed = ", ".join(sorted(lacking)[:PROBLEMS_SHOWN])
            notes.append(f"{what} {len(lacking)} clips: {listed}{' ...' if len(lacking) > 10 else ''}")
    if not common:
        raise WrongUsage(f"{config.pred} and {config.ref} have no clip in common (files are matched by name)")
    if notes and not config.allow_missing:
        raise WrongUsage("\n".join([*notes, f"--allow-missing scores the {len(common)} that both hold"]))
    facts = [known.get(clip, {}) for clip in common]
    others = other_clips([fact.get("label", "") for fact in facts])
    clips = [
        scoring.Clip(clip, ref[clip], {name: pred[clip]}, ref[common[other]], fps=config.fps, **fact)
        for clip, fact, other in zip(common, facts, others, strict=True)
    ]
    return clips, notes


def other_clips(labels: Sequence[str]) -> list[int]:
    """For each clip another one, of another class where there is one; itself if it is alone."""
    from v2a_models.metrics.baselines import shuffled

    return [int(k) for k in shuffled(labels, 0)] if len(labels) > 1 else [0] * len(labels)


def read_events(path: str) -> dict[str, dict[str, Any]]:
    """What a table of events says of each clip, by the clip's name: label, caption, onsets, strengths.

    Raises WrongUsage for a table without `clip` and `onset_s`, StorageError.
    """
    import io

    import pyarrow.csv
    import pyarrow.parquet as pq

    from pipelines import storage

    content = io.BytesIO(storage.read_bytes(path))
    try:
        table = pyarrow.csv.read_csv(content) if path.endswith(".csv") else pq.read_table(content)
        rows = table.to_pylist()
        found: dict[str, dict[str, Any]] = {}
        for row in sorted(rows, key=lambda row: (str(row["clip"]), row["onset_s"] or 0.0)):
            clip = str(row["clip"]).rpartition(".")[0] or str(row["clip"])
            fact = found.setdefault(
                clip, {"label": str(row.get("class") or ""), "text": str(row.get("caption") or "")}
            )
            if row["onset_s"] is not None:
                fact["events"] = (*fact.get("events", ()), float(row["onset_s"]))
                if row.get("strength") is not None:
                    fact["strengths"] = (*fact.get("strengths", ()), float(row["strength"]))
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise WrongUsage(
            f"{path} is no table of events (clip, onset_s, and also class, strength): {error}"
        ) from error
    return {clip: _sounding(fact) for clip, fact in found.items()}


def _sounding(fact: dict[str, Any]) -> dict[str, Any]:
    """Without onsets where a sound goes on all the time: those of SynthFoley's machines and weather."""
    from pipelines import synthfoley

    if fact["label"] in synthfoley.CLASSES and fact["label"] not in synthfoley.IMPACTS:
        return {name: value for name, value in fact.items() if name not in ("events", "strengths")}
    return fact


def summarise(board: Board, missing: Mapping[str, str], command: str, notes: Sequence[str]) -> dict[str, Any]:
    """All figures of an evaluation, as summary.json holds them."""
    from pipelines.scoresummary import entry, is_baseline
    from pipelines.scoring import BASELINES
    from v2a_models.metrics.catalogue import METRICS

    figures = {system: board.figures(system, missing) for system in board.systems}
    shown = [m for m in METRICS if any(m.name in f for f in figures.values())]
    ordered = sorted(
        board.systems, key=lambda s: (is_baseline(s), list(BASELINES).index(s) if is_baseline(s) else 0)
    )
    return {
        "command": command,
        "started": time.time(),
        "version": version(),
        "metrics": [
            {k: getattr(m, k) for k in ("name", "title", "group", "unit", "higher", "about", "per_clip")}
            for m in shown
        ],
        "systems": [
            {
                "name": system,
                "title": system,
                "kind": "baseline" if is_baseline(system) else "model",
                "model": "",
                "about": BASELINES.get(system, ""),
                "clips": len(board.systems[system].clips),
                "failed": len(board.systems[system].failures),
                "failures": [
                    {"clip": c, "reason": r} for c, r in sorted(board.systems[system].failures.items())
                ],
                "aligned": _counted(board.systems[system].aligned),
                "metrics": {name: entry(estimate) for name, estimate in figures[system].items()},
            }
            for system in ordered
        ],
        "clips": len({clip for totals in board.systems.values() for clip in totals.clips}),
        "paired": None,
        "champion": None,
        "votes": None,
        "unfit": board.unfit(figures),
        "notes": list(notes),
    }


def _counted(reasons: Mapping[str, str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reason in reasons.values():
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def write(out: str, board: Board, summary: Mapping[str, Any], clips: Sequence[Clip]) -> None:
    """scores.parquet, summary.json, table.md and table.tex in OUT."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipelines import comparetable, storage
    from v2a_models.metrics.catalogue import METRICS

    facts = {clip.name: clip for clip in clips}
    names = [m.name for m in METRICS if m.per_clip]
    rows = [{"label": facts[row["clip"]].label, **row} for row in board.rows()]
    fields = [(name, pa.string()) for name in ("system", "clip", "label")] + [
        (name, pa.float64()) for name in names
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), sink)
    storage.write_atomic(storage.join(out, "scores.parquet"), sink.getvalue())
    storage.write_atomic(storage.join(out, "table.md"), comparetable.markdown(summary).encode())
    storage.write_atomic(storage.join(out, "table.tex"), comparetable.latex(summary).encode())
    storage.write_atomic(storage.join(out, "summary.json"), json.dumps(summary, indent=2).encode())


def tell(summary: Mapping[str, Any], board: Board, name: str, console: Console) -> None:
    """Prints the figures, and what there was to say about the sounds."""
    from rich.console import Console
    from rich.table import Table

    from jobs.scan import printable

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("† unfit here" if summary["unfit"] else "", no_wrap=True)
    for system in summary["systems"]:
        table.add_column(printable(system["title"]), justify="right", no_wrap=True)
    for metric in summary["metrics"]:
        cells = [_cell(system["metrics"].get(metric["name"])) for system in summary["systems"]]
        if any(cell != "n/a" for cell in cells):
            mark = " †" if metric["name"] in summary["unfit"] else ""
            unit = f" ({metric['unit']})" if metric["unit"] else ""
            arrow = {True: " ↑", False: " ↓", None: ""}[metric["higher"]]
            table.add_row(f"{metric['title']}{unit}{arrow}{mark}", *cells)
    # Piped into a file there is no screen to fit on.
    wide = console if console.is_terminal else Console(highlight=False, width=200)
    wide.print(table, soft_wrap=False)
    for system in summary["systems"]:
        for reason, n in system["aligned"].items():
            console.print(f"{system['name']}: {n} clips: {reason}", markup=False)
    for clip, reason in list(board.systems[name].failures.items())[:PROBLEMS_SHOWN]:
        console.print(f"not scored: {clip}: {reason}", markup=False)
    for metric, reason in summary["unfit"].items():
        console.print(f"unfit here: {metric}: {reason}", markup=False)
    for note in summary["notes"]:
        console.print(note, markup=False)


def _cell(estimate: Mapping[str, Any] | None) -> str:
    return "n/a" if estimate is None or estimate["value"] is None else f"{estimate['value']:.3g}"


if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["evaluate", *sys.argv[1:]]))
