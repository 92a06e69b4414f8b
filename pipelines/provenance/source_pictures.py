"""Comparison of a copy with its source: the pictures that are shown, and when.

Both are descriptions of `pipelines.mux.presented`, that of the copy with the clocks of the source. A container without
edit lists has no hidden packets, so only what is shown counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

Agreement = Literal["same", "unclear", "other times", "other pictures"]
"""`unclear`: the same pictures, at times of no regular step, which the two containers may have rounded differently."""

_MS = "ms"


def compare_pictures(source: Mapping[str, Any], copy: Mapping[str, Any]) -> Agreement:
    """Agreement of two films about the pictures that they show; the worst one, if there are several tracks."""
    before, after = ([_shown(track) for track in film.get("video", [])] for film in (source, copy))
    if sorted(name for name, _ in before) != sorted(name for name, _ in after):
        return "other pictures"
    worst: tuple[Agreement, ...] = ("other times", "unclear", "same")
    # Tracks of the same content may differ in their times: each is as good as the best one that it could be.
    found = [
        max((_times_agree(times, other) for same, other in after if same == name), key=worst.index)
        for name, times in before
    ]
    return min(found, key=worst.index) if found else "same"


def _shown(track: Mapping[str, Any]) -> tuple[tuple[str, str], dict[str, str]]:
    """Identity of the pictures that a track shows, and the digests of their times by step."""
    content, config = track.get("shown", track.get("content", "")), track.get("config", "")
    times = dict(_by_step(track["shownTimes"])) if "shownTimes" in track else dict(track.get("times", {}))
    return (str(content), str(config)), times


def _by_step(text: Any) -> Iterator[tuple[str, str]]:
    for pair in str(text).split():
        name, _, value = pair.partition("=")
        yield name, value


def _times_agree(source: Mapping[str, str], copy: Mapping[str, str]) -> Agreement:
    steps = [name for name in source if name != _MS]
    if any(source[name] == copy.get(name) for name in steps) or source.get(_MS) == copy.get(_MS):
        return "same"
    return "other times" if steps else "unclear"
