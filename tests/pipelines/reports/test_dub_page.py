"""The report: every row once, and nothing that the name of a file can break."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin, urlparse

import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.reports import dub_page, dub_rows
from tests.support import media_files

HOSTILE = """x/<img src=x onerror=alert(1)>'"&amp;</script><script>alert(2)</script><!-- #?%20.mp4"""


def row(path: str, status: str = "dubbed", **more: Any) -> dict[str, Any]:
    known: dict[str, Any] = {"video_id": f"{abs(hash(path)):016x}"[:16], "path": path, "status": status}
    if status == "dubbed":
        known |= {"output": path, "card": "_v2a/cards/0.png", "duration_s": 10.0, "width": 640, "height": 360}
        known |= {
            "fps": 25.0,
            "x_realtime": 3.0,
            "core_seconds": 3.3,
            "n_windows": 3,
            "model": "mini",
            "seed": 0,
        }
    if status == "failed":
        known |= {"stage": "decode", "error_class": "InvalidData", "message": "no pictures"}
    return known | more


def rows_in(page: str) -> list[dict[str, Any]]:
    """The rows as the page's own script reads them."""
    found = re.search(r'<script type="application/json" id="rows">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_every_file_is_in_both_reports_once(tmp_path: Path) -> None:
    rows = [row("b.mp4"), row("c.txt", "skipped", reason="not a video"), row("a/ü.mov", "failed")]
    dub_page.write(str(tmp_path), iter(rows), {"archive": "/films", "model": "mini", "wall_s": 5.0})
    table = pq.read_table(tmp_path / "_v2a" / "report.parquet")
    assert table.schema.equals(dub_rows.REPORT_SCHEMA)
    assert table["path"].to_pylist() == ["a/ü.mov", "b.mp4", "c.txt"]
    assert table["status"].to_pylist() == ["failed", "dubbed", "skipped"]
    assert table["error_class"].to_pylist() == ["InvalidData", None, None]
    page = (tmp_path / "_v2a" / "report.html").read_text()
    assert [r["path"] for r in rows_in(page)] == ["a/ü.mov", "b.mp4", "c.txt"]
    assert sorted(p.name for p in (tmp_path / "_v2a").iterdir()) == ["report.html", "report.parquet"]


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = dub_page.render_report([row("a.mp4")], {})
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|script|img|iframe)[^>]*\s(src|href)=", page)


def test_the_page_says_what_the_model_knows() -> None:
    run = {"model": "mini", "knows": "bell, <b>dog</b>"}
    assert "It knows the sounds of bell, &lt;b&gt;dog&lt;/b&gt;." in dub_page.render_report(
        [row("a.mp4")], run
    )
    assert "It knows" not in dub_page.render_report([row("a.mp4")], {"model": "mini"})


def test_hostile_names_stay_text() -> None:
    rows = [row(HOSTILE), row(HOSTILE, "failed", message=HOSTILE, error_class="</script>")]
    page = dub_page.render_report(rows, {"archive": HOSTILE, "note": HOSTILE})
    assert "<img" not in page
    assert "<script>alert" not in page
    assert page.count("</script>") == 2  # the data and the page's own
    assert [r["path"] for r in rows_in(page)] == [HOSTILE, HOSTILE]
    assert rows_in(page)[1]["message"] == HOSTILE


@pytest.mark.parametrize("name", [*media_files.ODD_NAMES, HOSTILE, "a/b c/d.mp4", "..hidden/x.mp4"])
def test_links_lead_to_the_file_whatever_its_name(name: str) -> None:
    at = urljoin("file:///srv/out/_v2a/report.html", dub_page.link(name))
    parts = urlparse(at)
    assert (parts.query, parts.fragment) == ("", "")
    assert unquote_to_bytes(parts.path).decode() == f"/srv/out/{name}"


def test_names_that_are_no_text_and_numbers_that_are_none(tmp_path: Path) -> None:
    rows = [row("caf\udce9.mp4", duration_s=math.nan, fps=math.inf, sound_peak_dbfs=-math.inf)]
    dub_page.write(str(tmp_path), rows, {})
    table = pq.read_table(tmp_path / "_v2a" / "report.parquet")
    assert table["path"].to_pylist() == ["caf\\udce9.mp4"]
    assert table["duration_s"].to_pylist() == [None]
    shown = rows_in((tmp_path / "_v2a" / "report.html").read_text())
    assert "fps" not in shown[0] and "duration_s" not in shown[0]


def test_totals() -> None:
    rows = [
        row("a", duration_s=3600.0, core_seconds=1200.0),
        row("b", duration_s=1800.0, core_seconds=600.0),
        row("c", "skipped", duration_s=60.0),
        row("d", "failed"),
    ]
    totals = dub_page.totals(rows, {})
    assert totals["counts"] == {"dubbed": 2, "skipped": 1, "failed": 1}
    assert totals["seconds"]["dubbed"] == 5400 and totals["total_s"] == 5460
    assert totals["x_realtime"] == pytest.approx(3.0) and totals["x_basis"] == "per core"
    assert dub_page.totals(rows, {"wall_s": 2700.0})["x_realtime"] == pytest.approx(2.0)
    assert dub_page.totals(rows, {"wall_s": 2700.0, "x_realtime": 7.5})["x_realtime"] == 7.5
    assert dub_page.totals(rows[2:], {"wall_s": 1.0})["x_realtime"] is None


@pytest.mark.parametrize(
    "rows", [[], [row("a", "failed")], [row("a", "skipped")], [row("a")], [{"path": "a", "status": "dubbed"}]]
)
@pytest.mark.parametrize(
    "run",
    [
        {},
        {"started": 1_795_250_000.5, "wall_s": 3.2, "x_realtime": None, "model": "mini", "nested": {"a": 1}},
        {"started": "yesterday", "archive": "s3://bucket/prefix"},
    ],
)
def test_any_run_has_a_page(rows: list[dict[str, Any]], run: dict[str, Any]) -> None:
    page = dub_page.render_report(rows, run)
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert len(rows_in(page)) == len(rows)


def test_an_unknown_status_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'done' is not one of dubbed, skipped, failed"):
        dub_page.write(str(tmp_path), [row("a.mp4", "done")], {})


def test_an_unwritable_place_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "_v2a").write_text("in the way")
    with pytest.raises(storage.StorageError):
        dub_page.write(str(tmp_path), [row("a.mp4")], {})


def test_many_rows_stay_small() -> None:
    rows = [row(f"camera {k % 40}/{k:06}.mp4", dub_rows.STATUSES[k % 3]) for k in range(3000)]
    page = dub_page.render_report(rows, {})
    assert len(page) < 600 * len(rows)
    assert "<video" not in page  # players are made when asked for


def seen(**more: Any) -> dict[str, Any]:
    """A dubbed row with everything that can be said of one."""
    known: dict[str, Any] = {
        "seams": [
            {"at_s": 64.2001, "jump": 3.2149},
            {"at_s": 1.0, "jump": math.inf},
            {"at_s": 1.5, "jump": 0.9},
            {"at_s": 2.0, "jump": None},
        ],
        "flags": [{"start_s": 3.0, "end_s": 5.5, "what": "near silence"}],
        "n_flags": 24,
        "static_s": 20.0,
        "static": "ambience: 10.0 to 30.0 s",
        "scenes": 2,
        "gpu_seconds": 0.0,
        "contact_sheet": "_v2a/cards/0 #.sheet.webp",
    }
    return row("a.mp4", **(known | more))


def test_seams_flags_and_sheets_go_into_both_reports(tmp_path: Path) -> None:
    dub_page.write(str(tmp_path), [seen(), row("b.mp4", flags=[], seams=[], n_flags=0)], {})
    found, plain = pq.read_table(tmp_path / "_v2a" / "report.parquet").to_pylist()
    assert (
        found["flags"] == [{"start_s": 3.0, "end_s": 5.5, "what": "near silence"}] and found["n_flags"] == 24
    )
    assert found["seams"][0] == {"at_s": 64.2001, "jump": 3.2149} and found["scenes"] == 2
    assert (plain["flags"], plain["seams"], plain["n_flags"]) == ([], [], 0)
    page = (tmp_path / "_v2a" / "report.html").read_text()
    shown, bare = rows_in(page)
    assert shown["seams"] == [
        [64.2, 3.2]
    ]  # not what is no number, which the page could not read, nor what is not heard
    assert shown["flags"] == [[3.0, 5.5, "near silence"]] and shown["n_flags"] == 24
    assert shown["contact_sheet_url"] == "../_v2a/cards/0%20%23.sheet.webp"
    assert not {"flags", "seams", "n_flags", "static_s", "gpu_seconds"} & bare.keys()
    assert 'data-has="flagged">1 with flagged sound<' in page


@pytest.mark.parametrize("column", ["left_out", "converted", "parts"])
def test_left_out_and_converted_streams_go_into_both_reports(tmp_path: Path, column: str) -> None:
    names = ["subtitle stream 3 (deu)", "data stream 4 (klv)"]
    rows = [row("a.ts", **{column: names}), row("b.mp4", **{column: []})]
    dub_page.write(str(tmp_path), rows, {})
    told, plain = pq.read_table(tmp_path / "_v2a" / "report.parquet").to_pylist()
    assert (told[column], plain[column]) == (names, [])
    shown, bare = rows_in((tmp_path / "_v2a" / "report.html").read_text())
    assert shown[column] == names and column not in bare


def test_the_page_says_what_it_cost() -> None:
    rows = [
        row("a.mp4", duration_s=3600.0, core_seconds=7200.0, gpu_seconds=1800.0),
        row("b.mp4", "failed", duration_s=7200.0),
        row("c.mp4", "skipped", duration_s=9999.0),
    ]
    page = dub_page.render_report(rows, {"price_core_hour": 0.05, "price_gpu_hour": 2.0})
    assert "<dt>Cost</dt>" in page and "<dd>1.10</dd>" in page
    assert "2.0 core-hours, 30.0 GPU-minutes" in page
    assert "1.10 an hour of footage" in page and "whole archive 3.30" in page
    assert "(GPUs left out)" in dub_page.render_report(rows, {"price_core_hour": 0.05})
    page = dub_page.render_report(rows, {})
    assert "<dt>Work</dt>" in page and "2.0<small>core-hours" in page and "archive 3.30" not in page
