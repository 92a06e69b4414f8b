"""Runs of numbered pictures in a listing, folded into one entry each: a film, as scanners and restorers deliver it.

The pictures of photographers have numbers too. A run is a film if it is long enough, and if its first pictures have one
size and no EXIF data of a camera; else its files are entries by themselves, as all others are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from pipelines import storage
from pipelines.archive.picture_headers import PictureFacts, picture_facts
from pipelines.storage import FileInfo

FEWEST, FEWEST_WITHOUT_RATE = 24, 240
"""Pictures of the shortest film that has a rate, and of one that has none: a second and ten seconds, at 24 fps."""

SAMPLES = 5
"""Pictures of a run whose headers are looked at."""

FILM_CODINGS = (b"dpx ", b"exr ")
"""Codings that no camera for photos has: a run of these is a film, too, if its rate is unknown."""


@dataclass
class Rates:
    """Pictures per second that the user states: for sequences and streams without a container, and by the path of
    one."""

    default: Fraction | None = None
    by_path: Mapping[str, Fraction] = field(default_factory=dict)

    def of(self, path: str) -> Fraction | None:
        return self.by_path.get(path, self.default)


def folded(infos: Iterable[FileInfo], rates: Rates) -> Iterator[FileInfo]:
    """The entries of a listing with each sequence of pictures as one, which comes after its last picture.

    infos: sorted by the bytes of their paths, so that the pictures of one run stand near each other. Holds
    FEWEST_WITHOUT_RATE entries per open run, however long it is.
    """
    runs: dict[tuple[str, str], _Run] = {}
    for info in infos:
        for begins in [begins for begins in runs if not info.path.startswith(begins[0])]:
            yield from runs.pop(begins).close()
        name = None if info.problem else storage.numbered_name(info.path)
        if name is None:
            yield info
            continue
        run = runs.setdefault((name.before, name.suffix), _Run(name.before, name.suffix, rates))
        yield from run.add(info, name.digits)
    for run in runs.values():
        yield from run.close()


class _Run:
    """A run that goes on, with its first entries until it is decided what they are."""

    def __init__(self, before: str, suffix: str, rates: Rates) -> None:
        self._before, self._suffix, self._rates = before, suffix, rates
        self._version = storage.RunVersion()
        self._size, self._n = 0, 0
        self._ends: list[tuple[int, str]] = []
        """The lowest and the highest number, each with its digits."""
        self._held: list[FileInfo] = []
        self._film: FileInfo | None = None
        """The first entry, once this is known to be a film."""
        self._facts = PictureFacts()
        self._loose = False
        """True once its files are known to be entries by themselves."""

    def add(self, info: FileInfo, digits: str) -> Iterator[FileInfo]:
        """Take a further picture; yields the entries that are known to be no part of a film."""
        if self._loose:
            yield info
            return
        self._version.add(digits, info)
        self._n, self._size = self._n + 1, self._size + info.size
        ends = [*self._ends, (int(digits), digits)]
        self._ends = [min(ends), max(ends)]
        if self._film is None:
            self._held.append(info)
            if len(self._held) == FEWEST_WITHOUT_RATE:
                yield from self._decide()

    def close(self) -> Iterator[FileInfo]:
        """The entry of the film, or those that are still held."""
        if self._film is None and not self._loose:
            yield from self._decide()
        if self._film is None:
            return
        (_, first), (_, last) = self._ends
        # The path and the URI of a picture end alike.
        end = len(storage.numbered_name(self._film.path).digits) + len(self._suffix)  # type: ignore[union-attr]
        name = storage.run_name("", first, last, self._suffix)
        uri = storage.sequence_uri(self._version.text, self._film.uri[:-end] + name)
        info = FileInfo(self._before + name, uri, self._size, self._version.text, self._film.problem)
        yield sequence_entry(info, self._n, self._facts, self._rates)

    def _decide(self) -> Iterator[FileInfo]:
        held, self._held = self._held, []
        if self._n >= FEWEST and self._is_film(held):
            self._film = self._film or held[0]
        else:
            self._loose = True
            yield from held

    def _is_film(self, held: list[FileInfo]) -> bool:
        last = len(held) - 1
        samples = [held[last * k // (SAMPLES - 1)] for k in range(SAMPLES)]
        try:
            facts = [_facts_of(info) for info in samples]
        except storage.StorageError as error:
            self._film = replace(held[0], problem=str(error))
            return True
        # A broken picture does not make photos of a film.
        coding = storage.FORMATS[self._suffix.lower()]
        whole = [each for each in facts if each.coding == coding]
        if 2 * len(whole) <= len(facts):
            return False
        self._facts = whole[0]
        (_, low), (_, high) = self._ends
        path = storage.run_name(self._before, low, high, self._suffix)
        has_rate = self._rates.of(path) or self._facts.rate or coding in FILM_CODINGS
        if self._n < FEWEST_WITHOUT_RATE and not has_rate:
            return False
        return len({each.size for each in whole}) == 1 and not any(each.camera for each in whole)


def sequence_entry(info: FileInfo, n: int, facts: PictureFacts, rates: Rates) -> FileInfo:
    """The entry of a sequence of `n` pictures with its rate: the user's, else that of its first picture (`facts`). One
    without a rate has a problem."""
    if info.problem:
        return replace(info, lost=True)
    rate = rates.of(info.path) or facts.rate
    if rate is None:
        problem = (
            f"a sequence of {n} pictures that states no rate: give --fps, such as --fps 24, or its rate in the column "
            "fps of a manifest"
        )
        return replace(info, problem=problem, lost=True)
    return at_rate(info, rate)


def at_rate(info: FileInfo, rate: Fraction | None) -> FileInfo:
    """The entry of a file that is read at a rate; the same entry without one."""
    if rate is None or info.problem:
        return info
    return replace(info, uri=storage.rated(info.uri, rate), version=storage.rated_version(info.version, rate))


def without_rate(info: FileInfo) -> FileInfo:
    """The entry of a file without the rate that `at_rate` gave it."""
    return replace(info, uri=storage.unrated(info.uri), version=storage.unrated_version(info.version))


def look_up_sequence(root: str, name: str, rates: Rates) -> FileInfo | None:
    """The entry of the sequence with the relative path `name` in an archive; None if there is none."""
    if not storage.is_run_name(name):
        return None
    # The URI of a name that is not UTF-8 is quoted.
    place = storage.uri_of(root, storage.printable(name)).replace("%7B", "{").replace("%7D", "}")
    try:
        run = storage.list_run(place)
        if run.place != place:
            return None
        facts = _facts_of(FileInfo("", run.uri(0), 0, ""))
    except storage.StorageNotFound:
        return None
    info = FileInfo(
        storage.printable(name), storage.sequence_uri(run.version, place), sum(run.sizes), run.version
    )
    return sequence_entry(info, len(run.digits), facts, rates)


def _facts_of(info: FileInfo) -> PictureFacts:
    with storage.reading(info.uri) as file:
        return picture_facts(file)
