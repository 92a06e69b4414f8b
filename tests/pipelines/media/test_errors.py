"""The one line of an error that a report has room for."""

from __future__ import annotations

import pytest

from pipelines.media.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  one\ntwo"), "one"),
        (ValueError(), "ValueError"),
        (ValueError(" \n "), "ValueError"),
        ("text\nmore", "text"),
    ],
)
def test_the_first_line_that_says_something(error: object, line: str) -> None:
    assert first_line(error) == line


def test_long_lines_are_cut() -> None:
    assert first_line("a" * 200) == "a" * 200
    assert first_line("a" * 201) == "a" * 199 + "…"
