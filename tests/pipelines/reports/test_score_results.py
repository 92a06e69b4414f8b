"""Files of an evaluation hold the same figures, whoever reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from pipelines.reports.score_results import summarise, write_scores
from pipelines.scoring.job import Clip, Scored
from pipelines.scoring.summary import Board


def board() -> Board:
    scored = Board()
    for k in range(3):
        for system, error in (("silence", 1.0), ("ours", 0.25), ("reference", 0.0)):
            scored.add(Scored(system, f"clip {k}", metrics={"mse": error * (k + 1)}))
    scored.systems["ours"].failures["clip 3"] = "the sound holds NaN"
    scored.systems["ours"].aligned |= {"clip 1": "cut", "clip 0": "cut"}
    return scored


def test_systems_come_before_baselines_with_their_failures() -> None:
    summary = summarise(board(), {}, command="v2a evaluate", version="1", notes=["PRED lacks 1 clip"])
    assert [system["name"] for system in summary["systems"]] == ["ours", "reference", "silence"]
    ours = summary["systems"][0]
    assert (ours["kind"], ours["clips"], ours["failed"]) == ("model", 3, 1)
    assert ours["failures"] == [{"clip": "clip 3", "reason": "the sound holds NaN"}]
    assert ours["aligned"] == {"cut": ["clip 0", "clip 1"]}
    assert summary["clips"] == 3 and summary["notes"] == ["PRED lacks 1 clip"]
    assert (summary["command"], summary["version"]) == ("v2a evaluate", "1")


def test_every_file_has_the_figures(tmp_path: Path) -> None:
    scored = board()
    summary = summarise(scored, {}, command="v2a evaluate", version="1")
    clips = [Clip(f"clip {k}", "ref.wav", {}, "other.wav", label="drum") for k in range(3)]
    write_scores(str(tmp_path), scored, summary, clips)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert {(row["system"], row["clip"]): row["mse"] for row in rows}["ours", "clip 2"] == 0.75
    assert {row["label"] for row in rows} == {"drum"}
    for name in ("table.md", "table.tex"):
        assert "ours" in (tmp_path / name).read_text()
