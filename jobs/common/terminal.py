"""Text for a terminal."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def hours(seconds: float) -> str:
    """A length in hours, with minutes and seconds where that says more."""
    if seconds < 3600:
        return f"{seconds / 3600:.2f} h ({int(seconds // 60)} min {seconds % 60:.0f} s)"
    return f"{seconds / 3600:,.1f} h"


def printable(text: str) -> str:
    """Text for a terminal: control characters, which a file name may hold, are spelt out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
