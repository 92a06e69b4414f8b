"""Labels, texts and splits of the files of an archive, from a separate table.

`pipelines.extract.label_tables` reads the table: VGGSound's csv, or any table with a header that names files, such as
SynthFoley's events.parquet, which has several rows per file. This module looks up its rows by path. The table may name
files that the archive lacks, and vice versa.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pipelines.archive import scan
from pipelines.extract import label_tables
from pipelines.extract.label_tables import COLUMNS, LabelsError, VggsoundRow
from pipelines.store.store import SPLITS

__all__ = ["COLUMNS", "SPLITS", "Label", "Labels", "LabelsError", "read", "split_of"]


_SPLIT_NAMES = {
    "": "",
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
_MEDIA_SUFFIXES = scan.VIDEO_SUFFIXES | scan.AUDIO_SUFFIXES
_CLIP_MS = 10_000
_AMBIGUOUS = -1
_NAMES_LISTED = 10

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Label:
    """Label, text and split of one file; empty if the table has none. `split` is one of SPLITS."""

    label: str = ""
    text: str = ""
    split: str = ""


@dataclass(frozen=True, eq=False)
class Labels:
    """Entries of a table by path. Several rows of one file are merged into one entry.

    conflicts: number of files whose rows have different labels (the first is kept).
    """

    source: str
    entries: tuple[Label, ...] = field(repr=False)
    conflicts: int
    # Pairs of a key (see `_keys`) and its index, in the order of lookup.
    _indexes: tuple[tuple[str, dict[str, int]], ...] = field(repr=False)

    def of(self, path: str) -> Label | None:
        """Entry of a file, or None. `path` is relative to the archive and uses `/`.

        None also if several rows match equally well, since a wrong label is worse than none.
        """
        number = self._find(path)
        return None if number is None else self.entries[number]

    def unmatched(self, paths: Iterable[str]) -> int:
        """Number of entries that match none of the paths."""
        return self.size - len({self._find(path) for path in paths} - {None})

    @property
    def size(self) -> int:
        """Number of files that the table names."""
        return len(self.entries)

    @property
    def splits(self) -> dict[str, int]:
        """Number of entries in each split that occurs, in the order of SPLITS."""
        counts = Counter(entry.split for entry in self.entries)
        return {name: counts[name] for name in SPLITS if counts[name]}

    @property
    def classes(self) -> tuple[str, ...]:
        """Distinct labels, sorted."""
        return tuple(sorted({entry.label for entry in self.entries} - {""}))

    def _find(self, path: str) -> int | None:
        keys = _keys(path)
        for kind, rows in self._indexes:
            number = rows.get(keys[kind])
            if number is not None:
                return None if number == _AMBIGUOUS else number
        return None


def read(uri: str) -> Labels:
    """Read labels from a .csv, .tsv or .parquet file, local or s3://.

    Raises LabelsError for unsupported content, StorageError if the file cannot be read.
    """
    table = label_tables.read_table(uri)
    return _vggsound(uri, table) if isinstance(table, list) else _with_header(uri, table)


def split_of(path: str, fractions: tuple[float, float, float], seed: int = 0) -> str:
    """Split of a file by a hash of its path, independent of all other files.

    fractions: of train, val and test. Raises ValueError unless they are >= 0 and add up to 1.
    """
    if not all(fraction >= 0 for fraction in fractions) or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise ValueError(f"fractions of train, val and test must be >= 0 and add up to 1, not {fractions}")
    digest = hashlib.sha256(f"{seed}\0{path}".encode("utf-8", "backslashreplace")).digest()
    position = (int.from_bytes(digest[:8], "big") >> 11) / 2**53  # in [0, 1)
    nonzero = [(name, fraction) for name, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0]
    for name, fraction in nonzero:
        if position < fraction:
            return name
        position -= fraction
    return nonzero[-1][0]  # rounding: the fractions add up to slightly less than 1


def _plain(path: str) -> str:
    """Normalised path: tables may contain backslashes, and macOS's decomposed accents."""
    return unicodedata.normalize("NFC", path.strip().replace("\\", "/")).removeprefix("./")


def _keys(path: str) -> dict[str, str]:
    """Lookup keys of a file: its path and its base name, with and without suffix."""
    path = _plain(path)
    name = path.rpartition("/")[2]
    suffix = scan.suffix(name)
    # Strip media suffixes only: "take 1.2" must not become "take 1".
    cut = -len(suffix) if suffix in _MEDIA_SUFFIXES else None
    return {"path": path, "stem": path[:cut], "name": name, "name_stem": name[:cut]}


def _merge_rows(uri: str, rows: Sequence[tuple[Key, Label]]) -> tuple[dict[Key, Label], int]:
    """Merge the rows of each key into one entry with a standard split name; returns the number of conflicts as well."""
    if not rows:
        raise LabelsError(f"{uri}: the table is empty (it needs one row per file)")
    names = {label.split: _SPLIT_NAMES.get(label.split.strip().lower()) for _, label in rows}
    if unknown := sorted(name for name, split in names.items() if split is None):
        listed = unknown[:_NAMES_LISTED] + ["..."] * (len(unknown) > _NAMES_LISTED)
        raise LabelsError(f"{uri}: unknown splits {listed} (accepted are {[*_SPLIT_NAMES][1:]})")
    merged: dict[Key, Label] = {}
    conflicting: set[Key] = set()
    for key, row in rows:
        entry = Label(row.label, row.text, names[row.split] or "")
        earlier = merged.setdefault(key, entry)
        if earlier == entry:
            continue
        if earlier.split and entry.split and earlier.split != entry.split:
            both = f"{earlier.split} in one row and {entry.split} in another"
            raise LabelsError(f"{uri}: {key!r} is in {both} (give all rows of a file the same split)")
        if earlier.label and entry.label and earlier.label != entry.label:
            conflicting.add(key)
        merged[key] = Label(
            earlier.label or entry.label, earlier.text or entry.text, earlier.split or entry.split
        )
    return merged, len(conflicting)


def _index(keys: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Entry number by key; _AMBIGUOUS if different entries share a key."""
    index: dict[str, int] = {}
    for key, number in keys:
        if index.setdefault(key, number) != number:
            index[key] = _AMBIGUOUS
    return index


def _with_header(uri: str, columns: dict[str, list[str]]) -> Labels:
    """Labels from the columns of a table with a header; `columns` is keyed by meaning."""
    nothing = [""] * len(columns["path"])
    values = zip(*(columns.get(meaning, nothing) for meaning in COLUMNS), strict=True)
    merged, conflicts = _merge_rows(uri, [(_plain(path), Label(*rest)) for path, *rest in values])
    entries = [_keys(path) for path in merged]
    for path, keys in zip(merged, entries, strict=True):
        if not keys["name"]:
            raise LabelsError(f"{uri}: a row has {path!r} for its path (it must end in a file name)")
    indexes = tuple(
        (kind, _index((keys[kind], number) for number, keys in enumerate(entries)))
        for kind in ("path", "stem", "name", "name_stem")
    )
    return Labels(uri, tuple(merged.values()), conflicts, indexes)


def _vggsound(uri: str, rows: Sequence[VggsoundRow]) -> Labels:
    """Labels from the rows of VGGSound's csv."""
    labelled = [((row.video, row.start_ms), Label(label=row.label, split=row.split)) for row in rows]
    merged, conflicts = _merge_rows(uri, labelled)
    timed = _index((stem, number) for number, key in enumerate(merged) for stem in _vggsound_stems(*key))
    bare = _index((video, number) for number, (video, _) in enumerate(merged))
    return Labels(uri, tuple(merged.values()), conflicts, (("name_stem", timed), ("name_stem", bare)))


def _vggsound_stems(video: str, start_ms: int) -> Iterator[str]:
    """File names without suffix that VGGSound download tools give to a clip."""
    yield f"{video}_{start_ms}_{start_ms + _CLIP_MS}"
    if start_ms % 1000:
        yield f"{video}_{start_ms / 1000}"
    else:
        yield from (f"{video}_{start_ms // 1000:06d}", f"{video}_{start_ms // 1000}")
