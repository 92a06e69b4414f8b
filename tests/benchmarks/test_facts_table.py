"""The table of docs/facts.md is what `python -m benchmarks.facts_table` prints, and no fact is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import facts_table
from benchmarks.facts_table import COLUMNS, FACTS
from tests.support import REPOSITORY

FAST = ("mp4 → mkv", "webm")


def documented() -> dict[str, dict[str, str]]:
    """Words of the table in docs/facts.md by fact and column."""
    lines = (REPOSITORY / "docs" / "facts.md").read_text(encoding="utf-8").splitlines()
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in lines if line.startswith("|")]
    start = next(k for k, row in enumerate(rows) if row[0] == "fact")
    names = rows[start][1:]
    full = [row + [""] * (len(names) + 1 - len(row)) for row in rows[start + 2 :]]
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in full}


@pytest.mark.parametrize(
    "column", [c if c in FAST else pytest.param(c, marks=pytest.mark.slow) for c in COLUMNS]
)
def test_the_page_shows_what_is_printed(column: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert facts_table.main(["--column", column]) == 0
    printed = [
        line.strip("| ").split(" |") for line in capsys.readouterr().out.splitlines() if line[:1] == "|"
    ]
    words = {row[0]: row[1].strip() if len(row) > 1 else "" for row in printed[2:]}
    assert words == {name: row[column] for name, row in documented().items()}
    assert set(words.values()) <= {"", "kept", "moved", "told"}


def test_every_fact_is_there_in_some_container() -> None:
    table = documented()
    assert list(table) == [fact.name for fact in FACTS]
    assert all(set(row) == set(COLUMNS) and any(row.values()) for row in table.values())


def test_a_fact_that_is_neither_kept_nor_told_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [fact] = [fact for fact in FACTS if fact.name == "an unknown box"]
    assert facts_table.cell(fact, "mp4 → mkv", tmp_path)[0] == "told"
    monkeypatch.setattr("pipelines.mux.remux._lost_facts", lambda *_: [])
    (tmp_path / "copy.mkv").unlink()
    assert facts_table.cell(fact, "mp4 → mkv", tmp_path)[0] == "lost"
