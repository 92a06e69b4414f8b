"""Selection of files of an archive: all of them, those of patterns, or those of a list.

The verbs that read an archive take their files from here. A selection only narrows the listing: each file has the same
path and `video_id` as in a run over the whole archive, so runs with other selections continue each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from pipelines import storage
from pipelines.archive import picture_runs
from pipelines.archive.file_list import resolve_list
from pipelines.archive.join_rules import Joins, Place, by_rule, joined
from pipelines.archive.patterns import Patterns, listed_patterns
from pipelines.archive.picture_runs import Rates
from pipelines.archive.scan import named_media
from pipelines.storage import FileInfo

if TYPE_CHECKING:
    import pyarrow as pa

FILMS = ("ok", "failed")
"""Values of `status` of the rows that a limit counts."""

LARGEST_ROUND = 4096
"""Most files that are read in one go while a limit is not reached."""


class Selection:
    """Files of the archive `root` that are taken.

    include, exclude: patterns; without any to include, all files are. lines: paths of a list (`parse_list`), or None
    for all files. limit: number of films at most, or None. aside: folder or prefix in which no file is taken, such as
    an output folder inside of the archive. join_by: rule for which files are one film (`join_rules.by_rule`); empty for
    none. rates: of films that state none. Raises ValueError for a text that is no pattern or rule, StorageError.
    """

    def __init__(
        self,
        root: str,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        lines: Sequence[str] | None = None,
        limit: int | None = None,
        aside: str = "",
        join_by: str = "",
        rates: Rates | None = None,
    ) -> None:
        self.root, self.limit = root, limit
        self.rates = rates or Rates()
        self._pictures = False
        """True if numbered pictures were named one by one."""
        self.include, self.exclude = Patterns(include), Patterns(exclude)
        self.listed = None if lines is None else resolve_list(root, lines, self.rates)
        self.joins: list[Joins] = [by_rule(join_by)] if join_by else []
        """Rules for which files are one film; the first that names a file decides."""
        self.aside = _relative(root, aside) if aside and storage.is_within(root, aside) else ""

    @property
    def whole(self) -> bool:
        """True if every file of the archive is taken."""
        return not self.include and not self.exclude and self.listed is None and self.limit is None

    def chooses(self, path: str) -> bool:
        """True if the patterns choose a path in the form of `FileInfo.path`."""
        name = storage.raw_name(path)
        return (not self.include or self.include.match(name)) and not self.exclude.match(name)

    def is_aside(self, path: str) -> bool:
        """True for a path in the folder that is left out."""
        return bool(self.aside) and storage.raw_name(path).startswith(f"{self.aside}/")

    def names_all(self, path: str) -> bool:
        """True if a file of this path is certain to be taken if it is in the archive."""
        return self.listed is None and self.limit is None and self.chooses(path) and not self.is_aside(path)

    def __iter__(self) -> Iterator[FileInfo]:
        """The files, as `storage.list_tree` yields everything, but for films of several files, which are one entry
        each: those of a rule (`join_rules.joined`) and sequences of pictures (`picture_runs.folded`). Raises
        StorageError."""
        self._pictures = False
        for info in joined(self._chosen(), self._place) if self.joins else self._chosen():
            known = storage.is_sequence(info.uri)
            yield info if known else picture_runs.at_rate(info, self.rates.of(info.path))

    def _place(self, path: str) -> Place | None:
        return next(filter(None, (joins(path) for joins in self.joins)), None)

    def _chosen(self) -> Iterator[FileInfo]:
        for info in self._candidates():
            if not self.chooses(info.path):
                continue
            if not self.is_aside(info.path):
                known = storage.is_sequence(info.uri)
                yield info if known else picture_runs.at_rate(info, self.rates.of(info.path))
            elif self.listed is not None:
                yield replace(info, problem="listed, but in the output folder", lost=True)

    def _candidates(self) -> Iterator[FileInfo]:
        entries: Iterable[FileInfo | str | None] = [""]
        if self.listed is not None:
            entries = self.listed
        elif self.include:
            entries = (
                start and (storage.look_up(self.root, start) or self._sequence(start))
                for start in self.include.starts()
            )
        for entry in entries:
            if isinstance(entry, str):
                listed = storage.list_tree(self.root, everything=True, below=entry)
                yield from picture_runs.folded(listed, self.rates)
            elif entry is not None:
                self._pictures = self._pictures or storage.numbered_name(entry.path) is not None
                yield entry

    def _sequence(self, name: str) -> FileInfo | None:
        return picture_runs.look_up_sequence(self.root, name, self.rates)

    def nothing(self) -> str:
        """The reason why the selection has no file; empty if it has one, or if it is the whole archive."""
        if self.whole or any(True for _ in self):
            return ""
        if self.listed is not None and not self.listed:
            return "the list of --files names no file"
        patterns = [
            f"{flag} {listed_patterns(given.texts)}"
            for flag, given in (("--include", self.include), ("--exclude", self.exclude))
            if given
        ]
        if not patterns:
            return ""
        paths = [info.path for info in islice(storage.list_tree(self.root), 1000)]
        like = next(filter(named_media, paths), next(iter(paths), ""))
        like = f"; paths there are like {like}" if like else ", which holds no files"
        return (
            f"{' '.join(patterns)} leaves no file of {self.root}{like}. A pattern with a slash is a path from ARCHIVE, "
            "one without is a name in any folder; upper and lower case differ"
        )

    def notes(self) -> list[str]:
        """Lines about patterns that matched nothing, once all files were taken."""
        idle = [text for text in self.include.texts if text in self.include.idle]
        notes = [f"Nothing matches --include {listed_patterns(idle)}."] if idle and self.limit is None else []
        if self._pictures:
            notes.append(
                "Numbered pictures that are named one by one are no film: for a sequence, name its folder, or the path "
                "that its row has."
            )
        return notes

    def films(
        self, names: Iterable[FileInfo], read: Callable[[Iterable[FileInfo]], Iterator[pa.Table]]
    ) -> Iterator[pa.Table]:
        """Tables of the scan rows of `names` in their order, up to the last film of the limit.

        read: reads files and yields their rows in order.
        """
        if self.limit is None:
            yield from read(names)
            return
        names, left, n = iter(names), self.limit, 0
        # Reading a film takes long, so as few as possible are read in vain: in rounds, larger only where no films are.
        while left > 0 and (files := list(islice(names, min(max(left, 2 * n), LARGEST_ROUND)))):
            before = left
            for table in read(files):
                statuses = table["status"].to_pylist()
                ends = [number for number, status in enumerate(statuses, 1) if status in FILMS]
                if left > 0:
                    yield table.slice(0, ends[left - 1]) if len(ends) >= left else table
                left -= len(ends)
            n = len(files) if left == before else 0


def _relative(root: str, place: str) -> str:
    """Path of a folder from the root that it lies in."""
    if storage.is_remote(root):
        return place.rstrip("/")[len(root.rstrip("/")) + 1 :]
    return os.path.relpath(*(os.path.realpath(storage.local_path(uri)) for uri in (place, root)))
