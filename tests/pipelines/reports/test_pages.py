"""The jinja environment of all pages and its filters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipelines.reports import pages

TEMPLATES = Path(pages.__file__).with_name("templates")
PAGES = [
    *sorted(path for path in TEMPLATES.glob("*.html.j2") if path.stem not in ("base.html", "macros.html")),
    Path(__file__).parents[3] / "benchmarks" / "steering.html.j2",
]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, ("0", "seconds")),
        (2.5, ("2.5", "seconds")),
        (59.4, ("59", "seconds")),
        (90.0, ("1.5", "minutes")),
        (5400.0, ("1.5", "hours")),
    ],
)
def test_footage(seconds: float, expected: tuple[str, str]) -> None:
    assert pages.footage(seconds) == expected
    assert pages.footage(3600.0 * 12_345) == ("12,345", "hours")


def test_clock() -> None:
    assert [pages.clock(s) for s in (None, 0.4, 75.2, 3723.0)] == ["-", "0:00", "1:15", "1:02:03"]


def test_dates_and_plain_values() -> None:
    assert pages.date("2026-11-21T08:33:00+00:00") == "21 November 2026, 08:33"
    assert pages.date("yesterday") == "yesterday"
    assert [pages.plain(v) for v in (1 / 3, 7, "x")] == ["0.333333", "7", "x"]


def test_plural() -> None:
    assert [pages.plural(n, "clip") for n in (0, 1, 1200)] == ["0 clips", "1 clip", "1,200 clips"]


def test_thousands() -> None:
    assert [pages.thousands(n) for n in (0, 999, 1200, 1_000_000)] == ["0", "999", "1,200", "1,000,000"]


def test_values_are_escaped_and_the_style_sheet_is_not(tmp_path: Path) -> None:
    (tmp_path / "page.j2").write_text(
        '{% extends "base.html.j2" %}{% block heading %}{{ name }}{% endblock %}'
    )
    text = pages.render(tmp_path / "page.j2", name="<b>")
    assert text.startswith("<!doctype html>\n") and text.endswith("</html>\n")
    assert "<h1>&lt;b&gt;</h1>" in text and ".stack > *" in text


@pytest.mark.parametrize("template", PAGES, ids=lambda path: path.name)
def test_every_page_extends_the_base_and_has_no_colours_of_its_own(template: Path) -> None:
    source = template.read_text()
    assert source.startswith('{% extends "base.html.j2" %}\n')
    shared = set(re.findall(r"(--[a-z-]+):", (TEMPLATES / "page.css").read_text()))
    assert not shared & set(re.findall(r"(--[a-z-]+):", source))


@pytest.mark.parametrize("template", [*PAGES, TEMPLATES / "page.css"], ids=lambda path: path.name)
def test_every_colour_of_a_page_is_known(template: Path) -> None:
    source = template.read_text()
    known = set(re.findall(r"(--[a-z-]+):", (TEMPLATES / "page.css").read_text() + source))
    assert set(re.findall(r"var\((--[a-z-]+)", source)) <= known | {"--columns"}
