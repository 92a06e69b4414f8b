"""The jinja environment of all pages and its filters."""

from __future__ import annotations

import pytest

from pipelines.reports import pages


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


def test_values_are_escaped_and_the_style_sheet_is_not() -> None:
    page = pages.environment().from_string('{{ name }} {% include "page.css" %}').render(name="<b>")
    assert page.startswith("&lt;b&gt; :root {") and ".stack > *" in page
