"""Table of metrics on the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from jobs.common.score_table import LISTED, listed, print_summary
from pipelines.reports.score_results import summarise
from pipelines.scoring.job import Scored
from pipelines.scoring.summary import Board


@pytest.mark.parametrize(("n", "words"), [(LISTED, ""), (LISTED + 3, " and 3 more")])
def test_long_lists_are_cut(n: int, words: str) -> None:
    names = [str(k) for k in range(n)]
    assert listed(names) == ", ".join(names[:LISTED]) + words


def test_figures_of_all_systems_and_what_was_left_out() -> None:
    scored, out = Board(), io.StringIO()
    for k in range(3):
        scored.add(Scored("ours [b]", f"clip {k}", metrics={"mse": 0.25}))
        scored.add(Scored("reference", f"clip {k}", metrics={"mse": 0.0}))
    scored.systems["ours [b]"].failures["clip 3"] = "the sound holds NaN"
    scored.systems["ours [b]"].failures["clip \x1b[2J"] = "gone"
    summary = summarise(scored, {}, command="v2a evaluate", version="1", notes=["REF lacks 1 clip"])
    print_summary(summary, scored, "ours [b]", Console(file=out, width=100))
    lines = out.getvalue().splitlines()
    assert "ours [b]" in lines[0] and "reference" in lines[0]
    [row] = [line for line in lines if "0.25" in line]
    assert row.split()[-2:] == ["0.25", "0"] and "↓" in row
    assert "\x1b" not in out.getvalue() and "not scored: clip \\x1b[2J: gone" in lines
    assert "not scored: clip 3: the sound holds NaN" in lines and "REF lacks 1 clip" in lines
