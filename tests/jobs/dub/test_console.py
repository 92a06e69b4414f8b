"""The last lines of a dub."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from jobs.dub.config import DubConfig
from jobs.dub.console import FAILURES_SHOWN, print_result
from pipelines.reports import costs


def last_lines(rows: list[dict[str, Any]]) -> str:
    rows = [{"reason": "", "duration_s": 1.0, "status": "dubbed", **row} for row in rows]
    states = [row["status"] for row in rows]
    figures = {f"files_{name}": states.count(name) for name in ("dubbed", "skipped", "failed")}
    written = io.StringIO()
    print_result(
        Console(file=written, width=200),
        DubConfig("films", "out"),
        rows,
        figures | {"files": len(rows), "x_realtime": None, "passed_over": {"photo": 2}},
        costs.costs(rows, costs.Prices()),
        1.0,
    )
    return written.getvalue()


def test_the_last_lines_name_what_is_left_out() -> None:
    text = last_lines([{"path": "a.ts", "left_out": ["subtitle stream 3 (deu)", "data stream 4 (klv)"]}])
    assert "  not in the copy of a.ts: subtitle stream 3 (deu)\n" in text
    assert "  not in the copy of a.ts: data stream 4 (klv)\n" in text
    assert "2 photos" in text
    assert "not in the copy" not in last_lines([{"path": "b.ts", "left_out": []}, {"path": "c.ts"}])


def test_many_names_are_counted() -> None:
    text = last_lines([{"path": f"{k}.ts", "left_out": ["data stream 1"]} for k in range(FAILURES_SHOWN + 3)])
    assert text.count("not in the copy of") == FAILURES_SHOWN and "... and 3 more" in text
