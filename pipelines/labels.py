"""Labels, texts and splits of the files of an archive, from a table beside it.

Three forms are understood: VGGSound's own csv (no header: YouTube id, start second, label, split), any
table with a header that names files, and SynthFoley's events.parquet, which is such a table with several
rows per file. A table may name files that the archive lacks, and the other way round.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import archive, storage

SPLITS = ("train", "val", "test")

COLUMNS = {
    "path": ("path", "clip", "file", "filename", "video"),
    "label": ("label", "class", "category"),
    "text": ("text", "caption", "description"),
    "split": ("split", "subset", "set"),
}
"""What each column may be called, in any case; where a table has several of them, the first counts."""

_SPLIT_NAMES = {
    "": "",
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
_SEPARATORS = ",\t;|"
_MEDIA_SUFFIXES = archive.VIDEO_SUFFIXES | archive.AUDIO_SUFFIXES
_CLIP_MS = 10_000
_AMBIGUOUS = -1
_NAMES_SHOWN = 10

Key = TypeVar("Key", bound=Hashable)


class LabelsError(ValueError):
    """The table cannot be used. The message says what was found and how to put it right."""


@dataclass(frozen=True)
class Label:
    """What a table says about one file; empty where it says nothing. `split` is one of SPLITS."""

    label: str = ""
    text: str = ""
    split: str = ""


@dataclass(frozen=True, eq=False)
class Labels:
    """The rows of a table, found by path. Repeated rows of one file are one entry.

    `conflicts` is the number of files whose rows gave different labels (the first was kept).
    """

    source: str
    entries: tuple[Label, ...] = field(repr=False)
    conflicts: int
    # Tried in this order: which key of a path (see `_keys`) to look up, and the entry of each key.
    _indexes: tuple[tuple[str, dict[str, int]], ...] = field(repr=False)

    def of(self, path: str) -> Label | None:
        """The entry of a file (`path` relative to the archive, with `/`), or None.

        None as well where several rows fit equally well: a wrong label is worse than none.
        """
        number = self._find(path)
        return None if number is None else self.entries[number]

    def unmatched(self, paths: Iterable[str]) -> int:
        """How many of the `size` entries match none of the given paths."""
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
        """All labels that occur, sorted."""
        return tuple(sorted({entry.label for entry in self.entries} - {""}))

    def _find(self, path: str) -> int | None:
        keys = _keys(path)
        for kind, rows in self._indexes:
            number = rows.get(keys[kind])
            if number is not None:
                return None if number == _AMBIGUOUS else number
        return None


def read(uri: str) -> Labels:
    """The labels in a .csv, .tsv or .parquet file, local or s3://.

    Raises LabelsError if the content is not understood, StorageError if it cannot be read.
    """
    suffix = archive.suffix(uri)
    if suffix not in (".csv", ".tsv", ".parquet"):
        raise LabelsError(f"{uri}: labels are read from a .csv, .tsv or .parquet file, not {suffix!r}")
    data = storage.read_bytes(uri)
    if suffix == ".parquet":
        return _with_header(uri, _parquet_columns(uri, data))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelsError(f"{uri}: not UTF-8 at byte {error.start} (save the table as UTF-8)") from error
    rows = _csv_rows(uri, text, _separator(uri, text))
    line, first = next(rows)
    if _is_vggsound(first):
        return _vggsound(uri, [(line, first), *rows])
    return _with_header(uri, _csv_columns(uri, first, rows))


def split_of(path: str, shares: tuple[float, float, float], seed: int = 0) -> str:
    """The split of a file by a hash of its path: the same whatever other files there are.

    `shares` are those of train, val and test. Raises ValueError unless they are >= 0 and add up to 1.
    """
    if not all(share >= 0 for share in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ValueError(f"shares of train, val and test must be >= 0 and add up to 1, not {shares}")
    digest = hashlib.sha256(f"{seed}\0{path}".encode("utf-8", "backslashreplace")).digest()
    place = (int.from_bytes(digest[:8], "big") >> 11) / 2**53  # in [0, 1)
    used = [(name, share) for name, share in zip(SPLITS, shares, strict=True) if share > 0]
    for name, share in used:
        if place < share:
            return name
        place -= share
    return used[-1][0]  # the shares add up to a little less than 1


def _plain(path: str) -> str:
    """A path as it is compared: tables come with backslashes and with macOS's decomposed accents."""
    return unicodedata.normalize("NFC", path.strip().replace("\\", "/")).removeprefix("./")


def _keys(path: str) -> dict[str, str]:
    """All that a file may be called in a table: its path and its base name, with suffix and without."""
    path = _plain(path)
    name = path.rpartition("/")[2]
    suffix = archive.suffix(name)
    # Only a suffix of media is one: "take 1.2" must not become "take 1".
    cut = -len(suffix) if suffix in _MEDIA_SUFFIXES else None
    return {"path": path, "stem": path[:cut], "name": name, "name_stem": name[:cut]}


def _settle(uri: str, rows: Sequence[tuple[Key, Label]]) -> tuple[dict[Key, Label], int]:
    """One entry per key, in order, with splits by their usual names; and the number of conflicts."""
    if not rows:
        raise LabelsError(f"{uri}: the table is empty (it needs one row per file)")
    names = {label.split: _SPLIT_NAMES.get(label.split.strip().lower()) for _, label in rows}
    if strange := sorted(name for name, split in names.items() if split is None):
        shown = strange[:_NAMES_SHOWN] + ["..."] * (len(strange) > _NAMES_SHOWN)
        raise LabelsError(f"{uri}: unknown splits {shown} (understood are {[*_SPLIT_NAMES][1:]})")
    settled: dict[Key, Label] = {}
    disputed: set[Key] = set()
    for key, row in rows:
        entry = Label(row.label, row.text, names[row.split] or "")
        known = settled.setdefault(key, entry)
        if known == entry:
            continue
        if known.split and entry.split and known.split != entry.split:
            both = f"{known.split} in one row and {entry.split} in another"
            raise LabelsError(f"{uri}: {key!r} is in {both} (give all rows of a file the same split)")
        if known.label and entry.label and known.label != entry.label:
            disputed.add(key)
        settled[key] = Label(known.label or entry.label, known.text or entry.text, known.split or entry.split)
    return settled, len(disputed)


def _index(keys: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Number of the entry of each key; _AMBIGUOUS where different entries share a key."""
    index: dict[str, int] = {}
    for key, number in keys:
        if index.setdefault(key, number) != number:
            index[key] = _AMBIGUOUS
    return index


def _with_header(uri: str, columns: dict[str, list[str]]) -> Labels:
    """Labels from the columns of a table with a header, by their meaning."""
    nothing = [""] * len(columns["path"])
    values = zip(*(columns.get(meaning, nothing) for meaning in COLUMNS), strict=True)
    settled, conflicts = _settle(uri, [(_plain(path), Label(*rest)) for path, *rest in values])
    entries = [_keys(path) for path in settled]
    for path, keys in zip(settled, entries, strict=True):
        if not keys["name"]:
            raise LabelsError(f"{uri}: a row has {path!r} for its path (it must end in a file name)")
    indexes = tuple(
        (kind, _index((keys[kind], number) for number, keys in enumerate(entries)))
        for kind in ("path", "stem", "name", "name_stem")
    )
    return Labels(uri, tuple(settled.values()), conflicts, indexes)


def _vggsound(uri: str, rows: Iterable[tuple[int, list[str]]]) -> Labels:
    """Labels from rows (line, cells) of YouTube id, start second, label and split."""
    found = []
    for line, row in rows:
        if not _is_vggsound(row):
            problem = f"line {line} is not YouTube id, start second, label and split: {row!r}"
            raise LabelsError(f"{uri}: {problem} (labels with a comma need quotes)")
        found.append(((row[0].strip(), _milliseconds(row[1])), Label(label=row[2].strip(), split=row[3])))
    settled, conflicts = _settle(uri, found)
    timed = _index((stem, number) for number, key in enumerate(settled) for stem in _vggsound_stems(*key))
    bare = _index((video, number) for number, (video, _) in enumerate(settled))
    return Labels(uri, tuple(settled.values()), conflicts, (("name_stem", timed), ("name_stem", bare)))


def _vggsound_stems(video: str, start_ms: int) -> Iterator[str]:
    """The names that the tools which fetch VGGSound give to a clip, without suffix."""
    yield f"{video}_{start_ms}_{start_ms + _CLIP_MS}"
    if start_ms % 1000:
        yield f"{video}_{start_ms / 1000}"
    else:
        yield from (f"{video}_{start_ms // 1000:06d}", f"{video}_{start_ms // 1000}")


def _is_vggsound(row: list[str]) -> bool:
    return len(row) == 4 and bool(row[0].strip()) and _milliseconds(row[1]) >= 0


def _milliseconds(seconds: str) -> int:
    """A time in a table, in ms; -1 if it is none."""
    try:
        value = float(seconds)
    except ValueError:
        return -1
    return round(value * 1000) if 0 <= value < 1e9 else -1


def _csv_rows(uri: str, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every row that is not empty."""
    # Strict: a quote that is never closed must not swallow the rest of the table.
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    try:
        yield from ((reader.line_num, row) for row in reader if any(cell.strip() for cell in row))
    except csv.Error as error:
        fix = "a quoted value must be closed, with quotes inside it doubled"
        raise LabelsError(f"{uri}: line {reader.line_num}: {error} ({fix})") from error


def _separator(uri: str, text: str) -> str:
    """The separator by which the first row makes sense; else the one that gives most columns.

    Raises LabelsError for a table without rows.
    """
    widths = {",": 0}
    for separator in _SEPARATORS:
        try:
            _, first = next(_csv_rows(uri, text, separator))
        except StopIteration:
            raise LabelsError(f"{uri}: the table is empty (it needs one row per file)") from None
        except LabelsError:  # quotes that do not fit this separator
            continue
        if _is_vggsound(first) or "path" in _understood(first):
            return separator
        widths[separator] = len(first)
    return max(widths, key=lambda separator: widths[separator])


def _understood(header: Iterable[str]) -> dict[str, str]:
    """Of the columns in `header`, those that have a meaning: meaning -> name in the table."""
    # Backwards, so that the first of two columns of one name counts.
    spelled = {name.strip().lower(): name for name in reversed(list(header))}
    found = {
        meaning: [spelled[name] for name in names if name in spelled] for meaning, names in COLUMNS.items()
    }
    return {meaning: names[0] for meaning, names in found.items() if names}


def _pick(uri: str, header: Sequence[str]) -> dict[str, str]:
    """`_understood`, or LabelsError if there is no path or nothing about it."""
    picked = _understood(header)
    if "path" in picked and len(picked) > 1:
        return picked
    missing = "label, text or split" if "path" in picked else "path"
    known = "; ".join(f"{meaning}: {', '.join(names)}" for meaning, names in COLUMNS.items())
    raise LabelsError(
        f"{uri}: no column for the {missing} among {list(header)} (rename the columns; understood are {known}; "
        "without a header only VGGSound's four: YouTube id, start second, label, split)"
    )


def _csv_columns(uri: str, header: list[str], rows: Iterable[tuple[int, list[str]]]) -> dict[str, list[str]]:
    """meaning -> values, from rows (line, cells)."""
    places = {meaning: header.index(name) for meaning, name in _pick(uri, header).items()}
    columns: dict[str, list[str]] = {meaning: [] for meaning in places}
    for line, row in rows:
        if len(row) < len(header) or any(row[len(header) :]):
            problem = f"line {line} has {len(row)} columns and the header has {len(header)}"
            raise LabelsError(f"{uri}: {problem} (values that contain the separator need quotes)")
        for meaning, place in places.items():
            columns[meaning].append(row[place].strip())
    return columns


def _parquet_columns(uri: str, data: bytes) -> dict[str, list[str]]:
    """meaning -> values as text; null becomes empty."""
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        picked = _pick(uri, file.schema_arrow.names)
        table = file.read(columns=list(picked.values()))
        texts = {meaning: table.column(name).cast(pa.string()) for meaning, name in picked.items()}
    except (pa.ArrowException, OSError, KeyError) as error:
        fix = "write it again with text columns, or give a .csv"
        raise LabelsError(f"{uri}: not a parquet table of texts: {error} ({fix})") from error
    return {name: [(text or "").strip() for text in column.to_pylist()] for name, column in texts.items()}
