"""Jinja environment of all pages, and the filters that print figures for people."""

from __future__ import annotations

import functools
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from pipelines.reports.costs import money
from pipelines.reports.policy import Policy, script, style


def render(template: str | Path, **values: Any) -> str:
    """HTML of a file in `templates/`, or elsewhere, with its Content-Security-Policy.

    Values are escaped wherever the template prints them.
    """
    policy = Policy()
    if isinstance(template, Path):
        found = environment().from_string(template.read_text(encoding="utf-8"))
    else:
        found = environment().get_template(template)
    return policy.finish(found.render(policy=policy, **values))


@functools.cache
def environment() -> jinja2.Environment:
    """Shared environment. Pages extend `base.html.j2`, which has their style sheet, and import `macros.html.j2`."""
    shared = jinja2.Environment(
        loader=jinja2.PackageLoader("pipelines.reports", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,  # so that an included style sheet ends its line
    )
    for show in (clock, date, footage, money, plain, plural, script, style, thousands):
        shared.filters[show.__name__] = show
    return shared


def clock(seconds: float | None) -> str:
    """`0:07`, `12:30`, `1:02:03`; a dash for None."""
    if seconds is None:
        return "-"
    total = round(seconds)
    hours, minutes = divmod(total // 60, 60)
    return f"{hours}:{minutes:02}:{total % 60:02}" if hours else f"{minutes}:{total % 60:02}"


def date(iso: str) -> str:
    """`21 November 2026, 08:33` from an ISO 8601 time; any other text unchanged."""
    try:
        return datetime.fromisoformat(iso).strftime("%-d %B %Y, %H:%M")
    except ValueError:
        return iso


def footage(seconds: float) -> tuple[str, str]:
    """Length of footage as (figure, unit), in the largest unit of which there is at least one."""
    for size, unit in ((3600.0, "hours"), (60.0, "minutes")):
        if seconds >= size:
            return f"{seconds / size:,.{0 if seconds >= 100 * size else 1}f}", unit
    return f"{seconds:.{0 if seconds >= 10 or seconds == int(seconds) else 1}f}", "seconds"


def plain(value: Any) -> str:
    """Text of any value; floats with six significant digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def plural(count: int, noun: str) -> str:
    """`1 clip`, `1,200 clips`."""
    return f"{thousands(count)} {noun}{'s' if count != 1 else ''}"


def thousands(count: int) -> str:
    """`1,200`."""
    return f"{count:,}"
