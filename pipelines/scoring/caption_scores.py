"""Scores of generated captions, next to those of two baselines."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pipelines.scoring.summary import Board
from v2a_models.metrics.baselines import other_clips


def bertscore_reader(networks: Collection[str], files: Mapping[str, str]) -> Any:
    """Network of BertScore, from the weights `files` by network; None if it is not among `networks`."""
    if "bertscore" not in networks:
        return None
    from v2a_models.metrics.networks.load import load_bertscore

    return load_bertscore(files)


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
