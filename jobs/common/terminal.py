"""Formats of text for a terminal."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def hours(seconds: float) -> str:
    """Seconds as hours; below one hour, also as minutes and seconds."""
    if seconds < 3600:
        return f"{seconds / 3600:.2f} h ({int(seconds // 60)} min {seconds % 60:.0f} s)"
    return f"{seconds / 3600:,.1f} h"


def printable(text: str) -> str:
    """The text with control characters, which file names may contain, as escape sequences."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
