"""The report's page in a browser: filters, orders, and places in films. Left out where there is no browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pipelines.reports import dub_page

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)

pytestmark = [pytest.mark.skipif(not BROWSER, reason="no browser"), pytest.mark.timeout(300)]


def row(path: str, status: str = "dubbed", **more: Any) -> dict[str, Any]:
    known = {"video_id": path, "path": path, "status": status, "container": path[-3:], "duration_s": 600.0}
    return known | ({"output": path} if status == "dubbed" else {"reason": "not a video"}) | more


def flag(what: str) -> dict[str, Any]:
    return {"start_s": 61.0, "end_s": 64.25, "what": what}


STILL = "ambience: 1.0 to 10.0 s"
ROWS = [
    row("clipped.mp4", flags=[flag("clipping")], n_flags=1, prompt="a drum"),
    row("both.mkv", flags=[flag("clipping"), flag("near silence")], n_flags=23, static_s=9.0, static=STILL),
    row("torn.avi", reason="damaged, last good frame held: 1.0 to 2.0 s", caption="a Bell", left_out=["teletext <b>"]),
    row("joins.mkv", seams=[{"at_s": 64.2, "jump": 3.21}], contact_sheet="_v2a/cards/x.sheet.webp"),
    row("<b>notes.txt", "skipped"),
    row("broken.mp4", "failed", error_class="InvalidData"),
]  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    dub_page.write(str(out), ROWS, {"price_core_hour": 1.0})
    return out / "_v2a" / "report.html"


def shown(page: Path, profile: Path, **state: str) -> str:
    """The list of films as the browser has built it."""
    words = "&".join(f"{name}={quote(value)}" for name, value in state.items())
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={profile}",
        "--dump-dom",
    ]
    done = subprocess.run(
        [*command, f"{page.as_uri()}#{words}"], capture_output=True, text=True, check=True, timeout=120
    )
    found = re.search(r'<ul class="stack files" id="files">(.*?)<nav class="pages', done.stdout, re.DOTALL)
    assert found is not None
    return found[1]


def names(listed: str) -> list[str]:
    return re.findall(r'<h3 class="path"[^>]*>(.*?)</h3>', listed)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, ["&lt;b&gt;notes.txt", "both.mkv", "broken.mp4", "clipped.mp4", "joins.mkv", "torn.avi"]),
        ({"has": "flagged"}, ["both.mkv", "clipped.mp4"]),
        ({"has": "clipping,quiet"}, ["both.mkv"]),
        ({"has": "still"}, ["both.mkv"]),
        ({"has": "damage"}, ["torn.avi"]),
        ({"has": "nonsense"}, ["&lt;b&gt;notes.txt", "both.mkv", "broken.mp4", "clipped.mp4", "joins.mkv", "torn.avi"]),
        ({"container": "mkv", "status": "dubbed"}, ["both.mkv", "joins.mkv"]),
        ({"query": "BELL"}, ["torn.avi"]),
        ({"has": "leftOut", "query": "teletext"}, ["torn.avi"]),
        ({"query": "drum clipping"}, ["clipped.mp4"]),
        ({"status": "dubbed", "sort": "flags"}, ["both.mkv", "clipped.mp4", "joins.mkv", "torn.avi"]),
        ({"sort": "seams", "container": "mkv"}, ["joins.mkv", "both.mkv"]),
        ({"has": "damage", "status": "failed"}, []),
    ],
)  # fmt: skip
def test_films_are_found(page: Path, tmp_path: Path, state: dict[str, str], expected: list[str]) -> None:
    assert names(shown(page, tmp_path, **state)) == expected


def test_places_in_a_film_are_buttons(page: Path, tmp_path: Path) -> None:
    listed = shown(page, tmp_path, status="dubbed")
    buttons = re.findall(r'<button type="button" class="at[^"]*"[^>]*>(.*?)</button>', listed)
    text = [re.sub("<[^>]+>", "", button) for button in buttons]
    assert text == [
        "clipping 1:01.0 to 1:04.3",
        "near silence 1:01.0 to 1:04.3",
        "clipping 1:01.0 to 1:04.3",
        "1:04.2 3.2 \N{MULTIPLICATION SIGN}",
    ]
    assert "Not in the copy" in listed and "teletext &lt;b&gt;" in listed
    assert "and 21 more, which are shorter" in listed and STILL in listed
    assert "Contact sheet" in listed and "sheet.webp" not in listed  # loaded when it is opened
