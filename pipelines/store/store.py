"""A feature store: Parquet files that any reader opens, and the little that resuming needs beside them.

    STORE/_recipe.json                          the recipe, and what else decides the rows
    STORE/split=train/part-<16 hex>.parquet     rows, one per window; recipe in the Parquet metadata
    STORE/_failures.parquet                     what could not be extracted, and why; tried again by the next run
    STORE/_v2a/scan.parquet                     what the archive held, so that it is not probed twice
    STORE/_v2a/left_out/part-*.parquet          windows left out on purpose, with the reason
    STORE/_v2a/index.parquet                    which file holds which clip: a cache, the files are the truth

A row that can be read is done; nothing else counts as done. Every file is written beside and renamed (on S3:
one put), and its name is a hash of the clips in it, so that writing it again overwrites it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.media.errors import first_line
from pipelines.store.tables import FAILURES_SCHEMA, INDEX_SCHEMA, LEFT_OUT_SCHEMA, row_bytes
from v2a_models.recipe import Recipe

SPLITS = ("train", "val", "test")

ROW_GROUP_BYTES = 64 << 20
"""Uncompressed bytes of a row group at most: what a reader must hold to read one row."""

_READERS = 16
"""Footers read at once: waiting for storage, not for the processor."""

_PART = re.compile(r"(?:split=(\w+)|_v2a/left_out)/part-[0-9a-f]{16}\.parquet")


class StoreError(ValueError):
    """A store that does not fit what is asked of it; the message says what to do."""


def part_name(clip_ids: Iterable[str]) -> str:
    """File name for a set of clips, whatever their order."""
    text = "\n".join(sorted(clip_ids))
    return f"part-{hashlib.sha256(text.encode()).hexdigest()[:16]}.parquet"


class Store(storage.Records):
    """The store at one address. Small and picklable: it holds only the address."""

    # what it is

    def read_identity(self) -> dict[str, Any] | None:
        """Recipe and settings that decide the rows; None if this is no store yet."""
        try:
            identity = json.loads(storage.read_bytes(self.uri("_recipe.json")))
            _check_identity(identity)
        except storage.StorageNotFound:
            return None
        except (ValueError, RecursionError, storage.StorageRefused) as error:
            raise StoreError(
                f"{self.uri('_recipe.json')} is damaged ({error}); v2a extract writes it again"
            ) from error
        return dict(identity)

    def recover_identity(self) -> dict[str, Any] | None:
        """`read_identity`, after a damaged file was set aside; the recipe of the rows if there is none any more."""
        try:
            identity = self.read_identity()
        except StoreError as error:
            storage.set_aside(self.uri("_recipe.json"), first_line(error), rename=self.mends)
            identity = None
        if identity is not None:
            return identity
        for info in self.files():
            recipe = self.read(info.uri, partial(_recipe_of, info.uri), to=self._aside(info.path))
            if recipe is not None:
                storage.notice(f"the settings of {self.root} are lost, and are written again")
                return {"recipe": recipe}
        return None

    def write_identity(self, identity: Mapping[str, Any]) -> None:
        """Written before the first row; later runs write the same again."""
        self.write(self.uri("_recipe.json"), json.dumps(identity, indent=2, sort_keys=True).encode())

    def recipe(self) -> Recipe:
        """Raises StoreError if there is no store here."""
        identity = self.read_identity()
        if identity is None:
            raise StoreError(
                f"{self.root} holds no feature store (it has no _recipe.json); make one: v2a extract"
            )
        try:
            return Recipe.from_dict(identity["recipe"])
        except ValueError as error:
            raise StoreError(
                f"{self.uri('_recipe.json')} holds no recipe of this version ({error}); v2a extract with a new STORE "
                "makes one"
            ) from error

    # rows

    def write_rows(self, rows: pa.Table, split: str) -> str:
        """Adds rows as one file; its path in the store. Safe to do twice."""
        path = f"split={split}/{part_name(rows['clip_id'].to_pylist())}"
        group = max(1, ROW_GROUP_BYTES // max(1, row_bytes(rows.schema)))
        self._write_table(
            path, rows, row_group_size=group, use_dictionary=["label", "text", "path", "video_id"]
        )
        return path

    def write_left_out(self, reasons: Mapping[str, str]) -> None:
        """Remembers windows left out on purpose: clip_id -> reason."""
        rows = {"clip_id": sorted(reasons), "reason": [reasons[clip_id] for clip_id in sorted(reasons)]}
        path = f"{storage.PRIVATE_FOLDER}/left_out/{part_name(reasons)}"
        self._write_table(path, pa.table(rows, schema=LEFT_OUT_SCHEMA))

    def left_out(self) -> dict[str, int]:
        """Numbers of windows left out, by reason."""
        counts: dict[str, int] = {}
        for reason in self._column(f"{storage.PRIVATE_FOLDER}/left_out/", "reason"):
            counts[reason] = counts.get(reason, 0) + 1
        return counts

    def files(self) -> list[storage.FileInfo]:
        """The Parquet files with rows, by name."""
        return [info for info in self._parts() if info.path.startswith("split=")]

    def done(self) -> set[str]:
        """Every clip that needs no more work: those in the store and those left out on purpose."""
        return set(self.held())

    def held(self) -> list[str]:
        """The clips of all files. One comes twice only where two runs wrote at once (`write_index` mends that).

        Files that are listed in the index with the same size and version are not opened.
        """
        parts = self._parts()
        indexed = self._read_index()
        fresh = [info for info in parts if indexed.get(info.path, (None,))[0] != (info.size, info.version)]
        with ThreadPoolExecutor(_READERS) as pool:
            read = dict(zip((info.path for info in fresh), pool.map(self._clip_ids, fresh), strict=True))
        return [
            clip_id
            for info in parts
            for clip_id in (read[info.path] if info.path in read else indexed[info.path][1])
        ]

    def gone(self) -> list[str]:
        """Files that the index lists and that are not there, by name."""
        return sorted(self._read_index().keys() - {info.path for info in self._parts()})

    def n_rows(self) -> int:
        """Number of rows; files that are in the index are not opened."""
        indexed, n = self._read_index(), 0
        for info in self.files():
            facts, clips = indexed.get(info.path, ((), []))
            n += len(clips if facts == (info.size, info.version) else self._clip_ids(info))
        return n

    def write_index(self) -> int:
        """Makes `done` quick for the next time, and removes rows that two runs at once wrote twice; how many.

        Only for the one process that finishes a run.
        """
        rows: list[tuple[str, int, str, str]] = []
        written: set[str] = set()
        removed = 0
        indexed = self._read_index()
        for info in self._parts():
            facts, clips = indexed.get(info.path, ((), []))
            if facts != (info.size, info.version):
                clips = self._clip_ids(info)
            twice = written.intersection(clips)
            if twice:
                removed += len(twice)
                info, clips = self._without(info, twice)
            written.update(clips)
            rows += [(info.path, info.size, info.version, clip_id) for clip_id in clips]
        columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
        index = pa.table(
            [pa.array(c, f.type) for c, f in zip(columns, INDEX_SCHEMA, strict=True)], INDEX_SCHEMA
        )
        self._write_table(f"{storage.PRIVATE_FOLDER}/index.parquet", index)
        return removed

    def _without(self, info: storage.FileInfo, twice: set[str]) -> tuple[storage.FileInfo, list[str]]:
        held = self._read_table(info.uri)
        keep = held.filter(pa.array([clip_id not in twice for clip_id in held["clip_id"].to_pylist()]))
        folder = info.path.rsplit("/", 1)[0]
        clips = keep["clip_id"].to_pylist()
        path = f"{folder}/{part_name(clips)}"
        if clips:
            self._write_table(path, keep)
        storage.delete(info.uri)
        return (storage.stat_file(self.uri(path), path) if clips else info), clips

    def _parts(self) -> list[storage.FileInfo]:
        parts: list[storage.FileInfo] = []
        for folder in (*(f"split={split}" for split in SPLITS), f"{storage.PRIVATE_FOLDER}/left_out"):
            place = self.uri(*folder.split("/"))
            if storage.is_dir(place):
                for info in storage.list_tree(place):
                    path = f"{folder}/{info.path}"
                    if _PART.fullmatch(path):
                        parts.append(storage.FileInfo(path, info.uri, info.size, info.version))
        return parts

    def _clip_ids(self, info: storage.FileInfo) -> list[str]:
        def read() -> list[str]:
            with storage.reading(info.uri) as file:
                clip_ids = _read(file, ["clip_id"])["clip_id"].to_pylist()
            if not all(isinstance(clip_id, str) for clip_id in clip_ids):
                raise ValueError("no clip_id")
            return clip_ids

        # Damaged since it was written: its rows are made again, and it must not be read as rows.
        return self.read(info.uri, read, to=self._aside(info.path)) or []

    def _aside(self, path: str) -> str:
        """Place for a damaged file of rows: beside the others, readers of Parquet folders would trip over it."""
        return self.uri(storage.PRIVATE_FOLDER, "broken", *path.split("/"))

    def _column(self, prefix: str, name: str) -> list[Any]:
        values: list[Any] = []
        for info in self._parts():
            if info.path.startswith(prefix):
                values += self._read_table(info.uri, [name])[name].to_pylist()
        return values

    def _read_index(self) -> dict[str, tuple[tuple[int, str], list[str]]]:
        index = self.read_table(f"{storage.PRIVATE_FOLDER}/index.parquet", INDEX_SCHEMA)
        entries: dict[str, tuple[tuple[int, str], list[str]]] = {}
        if index is not None:
            for row in zip(*(index[name].to_pylist() for name in INDEX_SCHEMA.names), strict=True):
                entries.setdefault(row[0], ((row[1], row[2]), []))[1].append(row[3])
        return entries

    # other tables

    def write_failures(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replaces the table of what failed."""
        ordered = sorted(rows, key=lambda row: (str(row["path"]), str(row["clip_id"])))
        self._write_table("_failures.parquet", pa.Table.from_pylist(ordered, schema=FAILURES_SCHEMA))

    def failures(self) -> list[dict[str, Any]]:
        """Rows of the table of what failed in the latest run."""
        failed = self.read_table("_failures.parquet", FAILURES_SCHEMA)
        return [] if failed is None else failed.to_pylist()

    def write_scan(self, scanned: pa.Table) -> None:
        self._write_table(f"{storage.PRIVATE_FOLDER}/scan.parquet", scanned)

    def scan(self, schema: pa.Schema | None = None, later: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Rows of the archive as the latest run saw it. schema: columns that the table must have, but for those of
        `later`, which tables of earlier releases lack."""
        wanted = None if schema is None else pa.schema([each for each in schema if each.name not in later])
        scanned = self.read_table(f"{storage.PRIVATE_FOLDER}/scan.parquet", wanted)
        return [] if scanned is None else scanned.to_pylist()

    def read_table(self, path: str, schema: pa.Schema | None = None) -> pa.Table | None:
        """A table beside the rows; None if it is missing, damaged, or without the columns of `schema` (all of them can
        be made again)."""
        uri = self.uri(*path.split("/"))

        def read() -> pa.Table:
            table = self._read_table(uri)
            for column in schema or ():
                if (
                    column.name not in table.schema.names
                    or table.schema.field(column.name).type != column.type
                ):
                    raise ValueError(f"no column {column.name} of {column.type}")
                if not column.nullable and table[column.name].null_count:
                    raise ValueError(f"{column.name} is null")
            return table

        return self.read(uri, read)

    def _read_table(self, uri: str, columns: list[str] | None = None) -> pa.Table:
        return _read(io.BytesIO(storage.read_bytes(uri)), columns)

    def _write_table(self, path: str, rows: pa.Table, **options: Any) -> None:
        options = {"use_dictionary": True, **options}
        sink = io.BytesIO()
        pq.write_table(rows, sink, compression="zstd", **options)
        self.write(self.uri(*path.split("/")), sink.getvalue())


def _read(file: Any, columns: list[str] | None = None) -> pa.Table:
    # Not `pq.read_table`: that loads pandas, which takes longer than all else a finished store needs.
    with damage():
        return pq.ParquetFile(file, pre_buffer=False).read(columns=columns, use_threads=False)


@contextlib.contextmanager
def damage() -> Iterator[None]:
    """Errors of a Parquet file become ValueError: Arrow raises OSError, without a number, for some."""
    try:
        yield
    except pa.ArrowException as error:
        raise ValueError(first_line(error)) from error
    except OSError as error:
        if error.errno is None:
            raise ValueError(first_line(error)) from error
        raise


def _recipe_of(uri: str) -> dict[str, Any]:
    """The recipe in the metadata of a file of rows. Raises ValueError."""
    with storage.reading(uri) as file, damage():
        metadata = pq.ParquetFile(file, pre_buffer=False).schema_arrow.metadata or {}
    recipe = json.loads(metadata.get(b"v2a_recipe", b"null"))
    if not isinstance(recipe, dict):
        raise ValueError("no recipe in its metadata")
    return recipe


def _check_identity(identity: Any) -> None:
    """Raises ValueError for JSON that is not the identity of a store."""
    if not isinstance(identity, dict) or not isinstance(identity.get("recipe"), dict):
        raise ValueError("it holds no recipe")
    batch_size, precision = identity.get("batch_size"), identity.get("precision")
    if not (batch_size is None or (isinstance(batch_size, int) and batch_size >= 1)):
        raise ValueError(f"batch_size is {batch_size!r}")
    if not (precision is None or isinstance(precision, str)):
        raise ValueError(f"precision is {precision!r}")
