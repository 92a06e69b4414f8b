"""Numbered pictures in a folder that are read as one film.

    scan_0086400.dpx ... scan_0087400.dpx      files of a folder
    scan_{0086400-0087400}.dpx                 the name of the film that they are
    sequence://VERSION:/archive/reel1/scan_{0086400-0087400}.dpx    its URI, which also holds its rate

The film is a QuickTime file that exists only while it is read: a header, which is made from the listing of the folder,
and the bytes of the pictures as they are. So whatever reads a film reads a sequence. A picture stays until the next one
in the order of numbers, also where some are missing.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

from pipelines.storage import uri as uris
from pipelines.storage.listing import S3_PAGE, local_info, s3_info
from pipelines.storage.quicktime import header
from pipelines.storage.rates import rate_of, rated_version, unrated
from pipelines.storage.uri import FileInfo, StorageRefused, is_remote, key, local_path, translated
from pipelines.storage.virtual_file import VirtualFile

_SEQUENCE = "sequence://"

FORMATS = {
    ".dpx": b"dpx ",
    ".exr": b"exr ",
    ".tif": b"tiff",
    ".tiff": b"tiff",
    ".jp2": b"mjp2",
    ".j2k": b"mjp2",
    ".j2c": b"mjp2",
    ".png": b"png ",
    ".jpg": b"jpeg",
    ".jpeg": b"jpeg",
}
"""QuickTime's name of the coding of pictures, by their suffix in lower case."""

_SUFFIX = "|".join(re.escape(suffix) for suffix in FORMATS)
_PICTURE = re.compile(rf"(.*?)([0-9]+)({_SUFFIX})", re.IGNORECASE | re.DOTALL)
_RUN = re.compile(rf"(.*)\{{([0-9]+)-([0-9]+)\}}({_SUFFIX})", re.IGNORECASE | re.DOTALL)

MOST_DIGITS = 12
"""Digits of the longest number of a picture."""


@dataclass(frozen=True)
class NumberedName:
    """Path or URI of a picture of a sequence, in parts."""

    before: str
    digits: str
    suffix: str


def numbered_name(path: str) -> NumberedName | None:
    """The parts of the path of a numbered picture; None for any other path."""
    found = _PICTURE.fullmatch(path)
    if found is None or len(found[2]) > MOST_DIGITS:
        return None
    return NumberedName(found[1], found[2], found[3])


def run_name(before: str, first: str, last: str, suffix: str) -> str:
    """Path of the film that the numbered pictures `first` to `last` are."""
    return f"{before}{{{first}-{last}}}{suffix}"


def is_run_name(path: str) -> bool:
    """True for a path as `run_name` gives it, whether or not there are such pictures."""
    return _RUN.fullmatch(path) is not None


def first_number(path: str) -> int:
    """Number of the first picture of a sequence, by its name `run_name`."""
    found = _RUN.fullmatch(path)
    assert found is not None
    return int(found[2])


class RunVersion:
    """Version of a sequence: a hash over the names, sizes and versions of its pictures in the order of a listing."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, digits: str, info: FileInfo) -> None:
        self._hash.update(f"{digits}\0{info.size}\0{info.version}\n".encode())

    @property
    def text(self) -> str:
        return self._hash.hexdigest()[:32]


def sequence_uri(version: str, place: str) -> str:
    """URI of the sequence with the version `RunVersion.text` and the name `run_name` at the URI `place`."""
    return f"{_SEQUENCE}{version}:{place}"


def is_sequence(uri: str) -> bool:
    """True for the URI of a sequence, with or without a rate."""
    return unrated(uri).startswith(_SEQUENCE)


@dataclass(frozen=True)
class PictureRun:
    """The pictures of a sequence, in the order of their numbers."""

    before: str
    """URI of each picture up to its number."""
    digits: Sequence[str]
    suffix: str
    sizes: Sequence[int]
    version: str

    @property
    def place(self) -> str:
        """The name that the sequence has as one film."""
        return run_name(self.before, self.digits[0], self.digits[-1], self.suffix)

    @functools.cached_property
    def numbers(self) -> list[int]:
        return [int(digits) for digits in self.digits]

    @property
    def n_frames(self) -> int:
        """Pictures of the film, those that are missing included."""
        return self.numbers[-1] - self.numbers[0] + 1

    def missing(self) -> list[tuple[int, int]]:
        """First and last number of each gap, where the picture before is held; a picture without a byte is missing."""
        present = [number for number, size in zip(self.numbers, self.sizes, strict=True) if size]
        ends = [self.numbers[0] - 1, *present, self.numbers[-1] + 1]
        return [(a + 1, b - 1) for a, b in itertools.pairwise(ends) if b - a > 1]

    def uri(self, index: int) -> str:
        return f"{self.before}{self.digits[index]}{self.suffix}"


def picture_run(uri: str) -> PictureRun:
    """The pictures of the sequence at `uri`, listed once per process.

    Raises StorageRefused if they are no longer those that were listed, or are no film.
    """
    version, _, place = unrated(uri).removeprefix(_SEQUENCE).partition(":")
    run = _kept_run(version, place)
    if run.version != version:
        raise StorageRefused(
            f"the pictures of {place} changed after they were listed; run the command again once nothing writes to them"
        )
    return run


@functools.lru_cache(maxsize=2)
def _kept_run(version: str, place: str) -> PictureRun:
    return list_run(place)


def list_run(place: str) -> PictureRun:
    """The pictures of the sequence with the name `run_name` at the URI `place`, as they are now.

    Raises StorageError.
    """
    found = _RUN.fullmatch(place)
    if found is None:
        raise StorageRefused(f"not the name of a sequence of pictures: {place}")
    before, suffix = found[1], found[4]
    version, members = RunVersion(), list[tuple[int, str, int]]()
    with translated(place):
        for digits, info in _members(before, suffix):
            version.add(digits, info)
            members.append((int(digits), digits, info.size))
    members.sort()
    if not members:
        raise uris.StorageNotFound(f"nothing at {place}")
    for (number, a, _), (other, b, _) in itertools.pairwise(members):
        if number == other:
            raise StorageRefused(
                f"{place}: two pictures have the number {number} ({a} and {b}); remove one of them"
            )
    numbers, digits_, sizes = zip(*members, strict=True)
    run = PictureRun(before, digits_, suffix, sizes, version.text)
    if 2 * sum(map(bool, sizes)) < run.n_frames:
        raise StorageRefused(
            f"more pictures are missing between {numbers[0]} and {numbers[-1]} than are there; if these are several "
            "films, give each a folder"
        )
    return run


def _members(before: str, suffix: str) -> Iterator[tuple[str, FileInfo]]:
    """Number and facts of each picture, in the order of a listing."""

    def digits_of(name: str, start: str) -> str:
        digits = name[len(start) : len(name) - len(suffix)]
        is_one = name.startswith(start) and name.endswith(suffix) and digits.isdecimal() and digits.isascii()
        return digits if is_one and len(digits) <= MOST_DIGITS else ""

    if is_remote(before):
        bucket, _, start = key(before).partition("/")
        where: dict[str, str] | None = {}
        while where is not None:
            page = uris.s3_page(bucket, start, S3_PAGE, **where)
            where = {"ContinuationToken": page["NextContinuationToken"]} if page.get("IsTruncated") else None
            for entry in page.get("Contents", ()):
                info = s3_info(entry["Key"], "", entry["Size"], str(entry.get("ETag", "")))
                if (digits := digits_of(entry["Key"], start)) and not info.problem:
                    yield digits, info
        return
    # A picture of no number stands for the names of all: the prefix may be empty, or not be UTF-8.
    folder, start = os.path.split(local_path(f"{before}0"))
    start = start[:-1]
    with os.scandir(folder) as entries:
        names = sorted((entry.name for entry in entries if digits_of(entry.name, start)), key=os.fsencode)
    for name in names:
        facts = os.stat(os.path.join(folder, name))
        if stat.S_ISREG(facts.st_mode):
            yield digits_of(name, start), local_info(name, name, facts)


def sequence_info(uri: str, path: str) -> FileInfo:
    """FileInfo of a sequence as it is now, as `stat_file` gives it for a file."""
    _, _, place = unrated(uri).removeprefix(_SEQUENCE).partition(":")
    run = list_run(place)
    rate = rate_of(uri)
    return FileInfo(path, uri, sum(run.sizes), rated_version(run.version, rate))


class SequenceFile(VirtualFile):
    """The film that a sequence is, open for reading; pictures are opened one by one.

    rate: pictures per second. open_picture: opens the file at a URI.
    """

    def __init__(self, run: PictureRun, rate: Fraction, open_picture: Callable[[str], BinaryIO]) -> None:
        self._run, self._open = run, open_picture
        present = [index for index, size in enumerate(run.sizes) if size]
        numbers = [run.numbers[index] for index in present]
        # The first picture also stands for those before it, which have no byte.
        ends = [run.numbers[0], *numbers[1:], run.numbers[-1] + 1]
        lasts = [b - a for a, b in itertools.pairwise(ends)]
        sizes = [run.sizes[index] for index in present]
        self._header = header(FORMATS[run.suffix.lower()], sizes, lasts, rate)
        self._indexes = present
        self._starts = list(itertools.accumulate(sizes, initial=len(self._header)))
        super().__init__(self._starts[-1])
        self._picture: tuple[int, BinaryIO] | None = None

    def read(self, n: int | None = -1) -> bytes:
        """The next bytes. Raises StorageError if a picture cannot be read, or is shorter than it was."""
        left = self._starts[-1] - self._at if n is None or n < 0 else min(n, self._starts[-1] - self._at)
        parts = []
        while left > 0:
            part = self._part(left)
            parts.append(part)
            self._at += len(part)
            left -= len(part)
        return b"".join(parts)

    def _part(self, most: int) -> bytes:
        if self._at < len(self._header):
            return self._header[self._at : self._at + most]
        number = bisect.bisect_right(self._starts, self._at) - 1
        uri = self._run.uri(self._indexes[number])
        with translated(uri):
            if self._picture is None or self._picture[0] != number:
                self._close_picture()
                self._picture = number, self._open(uri)
            file = self._picture[1]
            file.seek(self._at - self._starts[number])
            data = file.read(min(most, self._starts[number + 1] - self._at))
        if not data:
            raise StorageRefused(f"{uri} is shorter than it was when it was listed; run the command again")
        return data

    def _close_picture(self) -> None:
        if self._picture is not None:
            self._picture[1].close()
            self._picture = None

    def close(self) -> None:
        self._close_picture()
        super().close()


def open_sequence(uri: str, open_picture: Callable[[str], BinaryIO]) -> SequenceFile:
    """The sequence at `uri`, which has a rate, open for reading. Raises StorageError."""
    rate = rate_of(uri)
    if rate is None:
        raise StorageRefused(f"no rate for {uri}: give --fps")
    return SequenceFile(picture_run(uri), rate, open_picture)
