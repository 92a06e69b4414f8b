"""Films of several files: whether these can follow each other, and what is missing between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

from pipelines import storage
from pipelines.archive import wall_clock
from pipelines.media.errors import DecodeFailed
from pipelines.media.video import Probe
from pipelines.storage import FileInfo

JOINABLE = {
    "mpegts": "transport streams (ts, mts, m2ts)",
    "mpeg": "program streams (mpg, vob)",
    "dhav": "dav",
    "h264": "streams of H.264",
    "hevc": "streams of H.265",
    "mpegvideo": "streams of MPEG video",
    "m4v": "streams of MPEG-4 video",
    "mjpeg": "streams of JPEG pictures",
    "dv": "dv",
    "mov,mp4,m4a,3gp,3g2,mj2": "mp4 and mov",
}
"""FFmpeg's demuxers of formats whose files can follow each other, with words for them."""

GAP_S = 2.0
"""Seconds from which on time between two parts is missing: names have whole ones, and recorders cut at key pictures."""

_MOST_NOTED = 5

_TIME = re.compile(r"(?<!\d)([01]\d|2[0-3])([0-5]\d)([0-5]\d)(?!\d)")
"""Hour, minute and second in a name without a date."""


@dataclass(frozen=True)
class Part:
    """One file of a film."""

    name: str
    """Without its folder."""
    duration_s: float
    begins: str | None
    """By the wall clock, in ISO 8601."""


def examine(info: FileInfo, probe: Callable[[str], Probe]) -> str:
    """The note on a film of several files: what was joined, and what is missing between the parts.

    probe: facts of the file at a URI. Raises DecodeFailed (`PartUnreadable`, `CannotJoin`) with what to do.
    """
    facts: list[Probe] = []
    names = [path.rpartition("/")[2] for path in info.parts]
    for name, uri in zip(names, storage.parts_of(info.uri), strict=True):
        try:
            facts.append(probe(uri))
        except DecodeFailed as error:
            why = f"its part {name} cannot be read ({error.error_class}: {error.message}); leave it out with --exclude"
            raise DecodeFailed("PartUnreadable", why, error.stage) from error
        check_fits(names[0], facts[0], name, facts[-1])
    parts = [
        Part(name, fact.duration_s, wall_clock.recorded(fact.recorded_at, name)[0])
        for name, fact in zip(names, facts, strict=True)
    ]
    return "; ".join(
        [f"{len(parts)} files as one film, to {names[-1]}", *missing_numbers(names), *gaps(parts)]
    )


def check_fits(first_name: str, first: Probe, name: str, other: Probe) -> None:
    """Raises DecodeFailed (`CannotJoin`) for a part that cannot follow the first one."""
    if first.container not in JOINABLE:
        able = ", ".join(JOINABLE.values())
        raise DecodeFailed(
            "CannotJoin",
            f"files of {first.container} cannot follow each other as they are, only {able}: leave them out of "
            "--join-by and of the manifest's column film, so that each is a film, or join them first",
            "scan",
        )
    for what in ("container", "video_codec", "width", "height", "rotation", "n_audio_tracks"):
        before, after = getattr(first, what), getattr(other, what)
        if before != after:
            raise DecodeFailed(
                "CannotJoin",
                f"{name} is no part of the film of {first_name}: its {what.replace('_', ' ')} is {after}, not "
                f"{before}; leave it out with --exclude, or make the rule of --join-by narrower",
                "scan",
            )


def missing_numbers(names: Sequence[str]) -> list[str]:
    """A note on numbers that are left out in the names of consecutive parts: 3 in cam_1, cam_2, cam_4.

    Only if exactly one number differs, and counts by 1 somewhere.
    """
    numbers = _counted(names)
    steps = [after - before for before, after in pairwise(numbers)]
    if not steps or min(steps) != 1:
        return []
    gone = [range(before + 1, after) for before, after in pairwise(numbers) if after - before > 1]
    if not gone:
        return []
    words = [f"{span[0]}" if len(span) == 1 else f"{span[0]} to {span[-1]}" for span in gone]
    return [f"missing between its parts: {_listed(words)}"]


def gaps(parts: Sequence[Part]) -> list[str]:
    """Notes on the seconds that are missing between consecutive parts by the wall clock, or that both have."""
    begins = [part.begins for part in parts]
    if None in begins:
        begins = [*_times_of_day(parts)] or begins
    notes = []
    for (before, after), (first, second) in zip(pairwise(parts), pairwise(begins), strict=True):
        passed_s = None if first is None or second is None else wall_clock.passed_s(first, second)
        gap_s = 0.0 if passed_s is None else passed_s - before.duration_s
        between = f"{before.name} and {after.name}"
        if gap_s >= GAP_S:
            notes.append(f"{_length(gap_s)} missing between {between}")
        elif gap_s <= -GAP_S:
            notes.append(f"{between} overlap by {timedelta(seconds=round(-gap_s))}")
    return [_listed(notes)] if notes else []


def _length(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s are" if whole < 60 else f"{timedelta(seconds=whole)} h are"


def _listed(words: Sequence[str]) -> str:
    more = f", ... and {len(words) - _MOST_NOTED} more" if len(words) > _MOST_NOTED else ""
    return ", ".join(words[:_MOST_NOTED]) + more


def _counted(names: Sequence[str]) -> list[int]:
    """The one number in which the names differ; empty if they differ in something else."""
    texts, numbers = (
        {re.sub(r"\d+", "#", name) for name in names},
        [re.findall(r"\d+", name) for name in names],
    )
    if len(texts) > 1:
        return []
    differing = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1]
    return [int(number) for number in differing[0]] if len(differing) == 1 else []


def _times_of_day(parts: Sequence[Part]) -> Iterator[str]:
    """Times on one day, if the names have six digits that go on at least as fast as the parts last; else nothing."""
    found = [_TIME.search(part.name) for part in parts]
    times = [f"2000-01-01T{':'.join(each.groups())}" for each in found if each is not None]
    if len(times) < len(parts):
        return
    passed = [wall_clock.passed_s(first, second) or 0.0 for first, second in pairwise(times)]
    if all(s > part.duration_s - GAP_S for s, part in zip(passed, parts[:-1], strict=True)):
        yield from times
