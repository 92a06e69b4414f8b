"""Wall clock of films: when each was recorded, by its metadata or else by the name that a camera gave it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from pipelines.media.recorded import text_of

METADATA, NAME = "metadata", "name"
"""Origins of a time."""

_DATED = re.compile(
    r"(?<!\d)((?:19|20)\d\d)([-_.]?)(\d\d)\2(\d\d)(?:[-_T.@ ]{0,3}| at )"
    r"(\d\d)([-_.:h ]?)(\d\d)\6(\d\d)(?:\d{3})?(Z?)(?!\d)"
)
"""Year, month, day, hour, minute and second with one kind of separator, or none, perhaps with milliseconds."""

_EPOCH = re.compile(r"(1\d{9})(?:\d{3})?")
"""Seconds or milliseconds since 1970, until 2033."""


def times_in_name(path: str) -> list[str]:
    """The times in the name of a file, in ISO 8601: of its beginning, and perhaps of its end.

    A number alone counts as seconds since 1970 only if it cannot be month, day and time, or year and day.
    """
    stem = path.rpartition("/")[2].rpartition(".")[0]
    found = [_dated(*match.groups()) for match in _DATED.finditer(stem)]
    if any(found):
        return [time for time in found if time]
    if (number := _EPOCH.fullmatch(stem)) and not _is_dated(number[1]):
        return [text_of(datetime.fromtimestamp(int(number[1]), UTC))]
    return []


def recorded(metadata: str, path: str) -> tuple[str | None, str | None]:
    """Time at which a film begins and its origin, METADATA or NAME; None for both if nothing says it.

    metadata: what `media.recorded` found in the file; path: that in the archive.
    """
    if metadata:
        return metadata, METADATA
    times = times_in_name(path)
    return (times[0], NAME) if times else (None, None)


def passed_s(earlier: str, later: str) -> float | None:
    """Seconds from one time to another; None if only one of them has a zone."""
    before, after = datetime.fromisoformat(earlier), datetime.fromisoformat(later)
    if (before.tzinfo is None) != (after.tzinfo is None):
        return None
    return (after - before).total_seconds()


def _dated(
    year: str, _: str, month: str, day: str, hour: str, __: str, minute: str, second: str, zone: str
) -> str:
    try:
        time = datetime(*map(int, (year, month, day, hour, minute, second)), tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        return ""
    return text_of(time, zone=bool(zone))


def _is_dated(digits: str) -> bool:
    """True if ten digits may be month, day, hour, minute and second, or year to minute."""
    for form in ("%m%d%H%M%S", "%y%m%d%H%M"):
        try:
            datetime.strptime(digits, form)
            return True
        except ValueError:
            continue
    return False
