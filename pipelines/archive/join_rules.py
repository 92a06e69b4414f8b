"""Rules for which files of an archive are one film: recorders cut long recordings into several files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pipelines import storage
from pipelines.archive.scan import VIDEO_SUFFIXES, suffix
from pipelines.storage import FileInfo

PRESETS = {
    "avchd": r"\d{5}\.(?:mts|m2ts)",
    "dvd": r"(VTS_\d\d)_[1-9]\.vob",
    "gopro": r"g(?:([hxl])\d\d|opr|p\d\d)(\d{4})\.mp4",
    "folder": r".*",
}
"""Rules by name: clips of AVCHD cameras, titles of DVDs, chapters of GoPro cameras, all films of a folder."""

Place = tuple[tuple[str, ...], Any]
"""The film that a file is a part of, and the file's place in it. The first of the film's names is the folder that all
of its parts lie in; ANYWHERE if they may lie in several."""

ANYWHERE = "/"

Joins = Callable[[str], Place | None]
"""Gives the place of the file with a path, in the form of `FileInfo.path`; None for a film of its own."""


def by_rule(rule: str) -> Joins:
    """Joins by the names of files: video files of one folder and suffix that agree in the groups of the rule are one
    film, in the order of their names, in which 2 comes before 10.

    rule: a regular expression that matches whole names, upper or lower case, or one of PRESETS. Raises ValueError.
    """
    choices = (
        f"one of {', '.join(PRESETS)}, or a regular expression for whole names, such as '(cam[0-9]+)_.*'"
    )
    if rule.isalpha() and rule not in PRESETS:
        raise ValueError(f"--join-by takes {choices}, not {rule!r}")
    try:
        pattern = re.compile(PRESETS.get(rule, rule), re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"--join-by takes {choices}, not {rule!r}: {error}") from error

    def place(path: str) -> Place | None:
        folder, _, name = storage.raw_name(path).rpartition("/")
        found = pattern.fullmatch(name) if suffix(name) in VIDEO_SUFFIXES else None
        if found is None:
            return None
        film = (folder, suffix(name), *(group.casefold() if group else "" for group in found.groups()))
        return film, natural(name)

    return place


def by_list(films: Mapping[str, tuple[str, int]]) -> Joins:
    """Joins by a list: path -> name of the film, and the file's place in it."""

    def place(path: str) -> Place | None:
        named = films.get(path)
        return None if named is None else ((ANYWHERE, named[0]), named[1])

    return place


def natural(name: str) -> list[Any]:
    """Sort key of a name, in which numbers count by their value."""
    pieces = re.split(r"(\d+)", name)
    return [
        *(
            (piece.casefold(), int(number))
            for piece, number in zip(pieces[::2], [*pieces[1::2], "0"], strict=True)
        ),
        name,
    ]


def joined(infos: Iterable[FileInfo], joins: Joins) -> Iterator[FileInfo]:
    """The files of a listing, with the parts of each film as one.

    A film comes when its folder has been listed, or at the end if its parts may lie anywhere: only parts are held. An
    entry with a problem is no part.
    """
    held: dict[tuple[str, ...], list[tuple[Any, FileInfo]]] = {}
    here = ""
    for info in infos:
        folder = storage.raw_name(info.path).rpartition("/")[0]
        if folder != here:
            here = folder
            yield from _films(held, [film for film in held if _is_listed(film[0], here)])
        place = None if info.problem else joins(info.path)
        if place is None:
            yield info
        else:
            held.setdefault(place[0], []).append((place[1], info))
    yield from _films(held, list(held))


def _is_listed(folder: str, here: str) -> bool:
    """True if nothing of a folder is to come after something of `here`."""
    return folder not in ("", ANYWHERE) and not f"{here}/".startswith(f"{folder}/")


def _films(
    held: dict[tuple[str, ...], list[tuple[Any, FileInfo]]], names: list[tuple[str, ...]]
) -> Iterator[FileInfo]:
    """Take the films of these names, by path."""
    parts = [[info for _, info in sorted(held.pop(name), key=lambda part: part[0])] for name in names]
    yield from sorted(map(storage.joined_info, parts), key=lambda info: info.path)
