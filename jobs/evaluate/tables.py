"""Tables of events with their onsets, and of captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs.common.verb import WrongUsage

if TYPE_CHECKING:
    from jobs.evaluate.config import EvaluateConfig
    from pipelines.scoring.summary import Board


def event_rows(path: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of a table of events (.csv or Parquet) by the clip's name, each clip's by onset.

    Raises WrongUsage for a table without `clip` and `onset_s`, StorageError.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    try:
        for row in sorted(
            _table(path).to_pylist(), key=lambda row: (str(row["clip"]), row["onset_s"] or 0.0)
        ):
            rows.setdefault(str(row["clip"]), []).append(row)
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise WrongUsage(
            f"{path} is no table of events (columns clip, onset_s; optionally class, strength): {error}"
        ) from error
    return rows


def read_events(path: str) -> dict[str, dict[str, Any]]:
    """Label, caption, onsets and strengths of each clip in a table of events, by the clip's name without extension.

    Sounds that go on all the time have no onsets. Raises WrongUsage, StorageError.
    """
    facts: dict[str, dict[str, Any]] = {}
    try:
        for clip, rows in event_rows(path).items():
            fact = facts.setdefault(
                _clip_name(clip),
                {"label": str(rows[0].get("class") or ""), "text": str(rows[0].get("caption") or "")},
            )
            for row in rows:
                if row["onset_s"] is not None:
                    fact["events"] = (*fact.get("events", ()), float(row["onset_s"]))
                    if row.get("strength") is not None:
                        fact["strengths"] = (*fact.get("strengths", ()), float(row["strength"]))
    except (ValueError, TypeError) as error:
        raise WrongUsage(f"{path} is no table of events: {error}") from error
    return {clip: _sounding(fact) for clip, fact in facts.items()}


def _table(path: str) -> Any:
    """Table of a .csv or Parquet file. Raises ValueError or OSError for another file, StorageError."""
    import io

    import pyarrow.csv
    import pyarrow.parquet as pq

    from pipelines import storage

    content = io.BytesIO(storage.read_bytes(path))
    return pyarrow.csv.read_csv(content) if path.endswith(".csv") else pq.read_table(content)


def _clip_name(value: Any) -> str:
    """Name of a clip: a film's file name without extension."""
    return str(value).rpartition(".")[0] or str(value)


def _sounding(fact: dict[str, Any]) -> dict[str, Any]:
    """Drop the onsets of continuous sounds: SynthFoley's machines and weather."""
    from pipelines import synthfoley

    if fact["label"] in synthfoley.CLASSES and fact["label"] not in synthfoley.IMPACTS:
        return {name: value for name, value in fact.items() if name not in ("events", "strengths")}
    return fact


def find_captions(
    config: EvaluateConfig, texts: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Captions of the system by clip, and the true captions. Raises WrongUsage, StorageError."""
    if not config.captions:
        if config.true_captions:
            raise WrongUsage("--true-captions needs --captions, those of the system")
        return {}, {}
    captions = {clip: texts_of_clip[0] for clip, texts_of_clip in read_captions(config.captions).items()}
    if config.true_captions:
        true = read_captions(config.true_captions)
    else:
        true = {clip: [text] for clip, text in texts.items() if text}
    if not captions.keys() & true.keys() & texts.keys():
        raise WrongUsage(
            f"no clip has a caption both in {config.captions} and in "
            f"{config.true_captions or 'the table of events'}: name the true ones with --true-captions"
        )
    return captions, true


def read_captions(path: str) -> dict[str, list[str]]:
    """Captions by the clip's name. Raises WrongUsage for a table without the columns clip and caption, StorageError."""
    try:
        captions: dict[str, list[str]] = {}
        for row in _table(path).to_pylist():
            if row["caption"]:
                captions.setdefault(_clip_name(row["clip"]), []).append(str(row["caption"]))
        return captions
    except (KeyError, ValueError, OSError) as error:
        raise WrongUsage(f"{path} is no table of captions (clip, caption): {error}") from error


def add_captions(
    board: Board, written: Mapping[str, Mapping[str, str]], true: Mapping[str, Sequence[str]], reader: Any
) -> None:
    """Score the captions of systems (by system and clip).

    Two baselines are scored as well: the first true caption of the same clip, and that of another clip.
    """
    scored = [set(board.systems[name].clips) & texts.keys() & true.keys() for name, texts in written.items()]
    clips = sorted(set().union(*scored))
    if not clips:
        return
    first = {clip: true[clip][0] for clip in clips}
    shuffled = dict(zip(clips, [first[clips[k]] for k in other_clips(list(first.values()))], strict=True))
    for system, captions in {**written, "reference": first, "shuffled": shuffled}.items():
        if system in board.systems:
            board.systems[system].caption(captions, true, reader)


def other_clips(labels: Sequence[str]) -> list[int]:
    """Index of another clip for each clip, of another class where there is one; its own index if it is alone."""
    from v2a_models.metrics.baselines import shuffled

    return [int(k) for k in shuffled(labels, 0)] if len(labels) > 1 else [0] * len(labels)
