"""Scores of captions stand between those of the true and of wrong captions."""

from __future__ import annotations

from pipelines.scoring.caption_scores import add_captions
from pipelines.scoring.job import Scored
from pipelines.scoring.summary import Board

TRUE = {
    "a": ["a dog barks at the gate"],
    "b": ["rain falls on a tin roof"],
    "c": ["a bell rings twice"],
}


def board(clips: str) -> Board:
    scored = Board()
    for clip in clips:
        for system in ("ours", "reference", "shuffled"):
            scored.add(Scored(system, clip, metrics={"mse": 0.0}))
    return scored


def test_between_the_true_ones_and_those_of_other_clips() -> None:
    scored = board("abc")
    add_captions(
        scored, {"ours": {**{c: t[0] for c, t in TRUE.items()}, "b": "rain falls on a roof"}}, TRUE, None
    )
    figures = [scored.figures(system, {})["rouge_l"].value for system in ("shuffled", "ours", "reference")]
    assert figures[0] < figures[1] < figures[2] == 1


def test_only_clips_that_have_all_three() -> None:
    scored = board("ab")
    add_captions(scored, {"ours": {"a": "a dog", "c": "a bell", "d": "wind"}}, TRUE, None)
    assert scored.systems["ours"].captions.keys() == {"a"}
    without = board("ab")
    add_captions(without, {"ours": {"d": "wind"}}, TRUE, None)
    assert not without.systems["ours"].captions
