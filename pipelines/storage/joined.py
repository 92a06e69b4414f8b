"""Several files as one, whose bytes follow each other: a film that a recorder cut into parts.

Its URI holds those of its parts, so it can be sent to another machine like any other.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, BinaryIO, cast

from pipelines.storage.rates import rate_of, rated, unrated
from pipelines.storage.uri import FileInfo
from pipelines.storage.virtual_file import VirtualFile

_PREFIX = "joined:"
"""Begins the URI, before a list in JSON."""

_BUFFER = 1 << 20


def joined_uri(uris: Sequence[str]) -> str:
    """URI of the files as one; that of the file itself if there is one only."""
    return uris[0] if len(uris) == 1 else _PREFIX + json.dumps(list(uris))


def is_joined(uri: str) -> bool:
    """True for the URI of several files as one, with or without a rate."""
    return unrated(uri).startswith(f'{_PREFIX}["')


def parts_of(uri: str) -> list[str]:
    """URIs of the files that a URI stands for, in order, each with its rate: itself for that of one file."""
    if not is_joined(uri):
        return [uri]
    rate, parts = rate_of(uri), json.loads(unrated(uri)[len(_PREFIX) :])
    return [part if rate is None else rated(part, rate) for part in parts]


def joined_info(parts: Sequence[FileInfo]) -> FileInfo:
    """Entry of several files as one: at the path of the first, with a version that changes if a part or their order
    does."""
    if len(parts) == 1:
        return parts[0]
    facts = [(part.uri.rpartition("/")[2], part.size, part.version) for part in parts]
    version = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    return replace(
        parts[0],
        uri=joined_uri([part.uri for part in parts]),
        size=sum(part.size for part in parts),
        version=version,
        parts=tuple(part.path for part in parts),
    )


def open_joined(parts: Sequence[tuple[str, int]], open_part: Callable[[str], BinaryIO]) -> BinaryIO:
    """The files as one, for reading. parts: URI and bytes of each; open_part: opens one of them."""
    return cast(BinaryIO, io.BufferedReader(_JoinedFile(parts, open_part), _BUFFER))


class _JoinedFile(VirtualFile):
    """The parts one after another, of which one at a time is open."""

    def __init__(self, parts: Sequence[tuple[str, int]], open_part: Callable[[str], BinaryIO]) -> None:
        self._parts, self._open_part, self._number = parts, open_part, -1
        self._ends = list(accumulate(size for _, size in parts))
        super().__init__(self._ends[-1])
        self._part: BinaryIO | None = None

    def readinto(self, buffer: Any) -> int:
        number = next((k for k, end in enumerate(self._ends) if self._at < end), None)
        if number is None:
            return 0
        begin = self._ends[number] - self._parts[number][1]
        wanted = min(len(buffer), self._ends[number] - self._at)
        part = self._opened(number)
        part.seek(self._at - begin)
        data = part.read(wanted)
        if not data:  # it is shorter than when it was opened
            raise OSError(f"{self._parts[number][0]} ends early: something has changed it")
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _opened(self, number: int) -> BinaryIO:
        if self._part is None or number != self._number:
            if self._part is not None:
                self._part.close()
            self._part, self._number = self._open_part(self._parts[number][0]), number
        return self._part

    def close(self) -> None:
        if self._part is not None:
            self._part.close()
        super().close()
