"""Summary of a feature store from its small columns: counts, hours, classes and problems.

Nothing is written and nothing is repaired. The arrays are not read, so memory does not grow with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.media.errors import first_line
from pipelines.store.problems import in_two_splits, recipe_problems, repeated_clips
from pipelines.store.small_columns import read_small
from pipelines.store.store import SPLITS, Store, StoreError
from pipelines.store.tables import SMALL_SCHEMA
from v2a_models.recipe import Recipe

SMALL = tuple(SMALL_SCHEMA.names)
PATHS_SHOWN = 3

_LABELS_HELD = 4096
"""Keep candidate rows for at most this many classes."""

_FILE_READERS = 16
"""Files read at once: waiting for storage, not for the processor."""


@dataclass(frozen=True)
class Row:
    """One window of the store, and where it lies there."""

    file: str
    """Path of its Parquet file in the store."""
    uri: str
    at: int
    """Number of the row in its file."""
    split: str
    clip_id: str
    video_id: str
    path: str
    start_s: float
    duration_s: float
    label: str
    text: str


@dataclass(frozen=True)
class Column:
    """One array column."""

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def text(self) -> str:
        """Type and shape in print: `float16 [32, 128]`."""
        return f"{self.kind} [{', '.join(map(str, self.shape))}]"


@dataclass
class Split:
    """Totals of one split."""

    rows: int = 0
    seconds: float = 0.0
    videos: int = 0


@dataclass
class FailureGroup:
    """Failures of one stage and error class."""

    stage: str
    error_class: str
    count: int
    paths: list[str]
    """The first few files."""
    error: str
    """Message of the first."""


@dataclass
class Facts:
    """Facts that `v2a store` prints about a store."""

    root: str
    identity: dict[str, Any]
    recipe: Recipe
    n_files: int = 0
    n_bytes: int = 0
    """Bytes of the files with rows."""
    splits: dict[str, Split] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    """Rows by class; those without are not in it."""
    n_text: int = 0
    columns: tuple[Column, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)
    failures: list[FailureGroup] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Problems of the store, in words."""
    samples: list[Row] = field(default_factory=list)
    """Rows to look at, different classes first."""

    @property
    def n_rows(self) -> int:
        """Rows of all splits."""
        return sum(split.rows for split in self.splits.values())

    @property
    def seconds(self) -> float:
        """Footage of all rows; seconds that windows share count in each."""
        return sum(split.seconds for split in self.splits.values())

    @property
    def bytes_per_hour(self) -> float:
        """Bytes on disk per hour of footage; 0 where there is none."""
        return self.n_bytes * 3600 / self.seconds if self.seconds else 0.0


@dataclass
class _File:
    """Facts about one file."""

    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    labels: Counter[str] = field(default_factory=Counter)
    n_text: int = 0
    clip_ids: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    videos: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    columns: tuple[Column, ...] = ()
    samples: list[Row] = field(default_factory=list)


def gather(store: Store, n_samples: int = 0) -> Facts | None:
    """Summary of the whole store; None if there is none at this address.

    n_samples: how many rows to choose for a closer look. Raises StoreError for a store whose _recipe.json
    cannot be used, StorageError if storage cannot be reached.
    """
    identity = store.read_identity()
    if identity is None:
        return None
    try:
        recipe = Recipe.from_dict(identity["recipe"])
    except ValueError as error:
        raise StoreError(f"{store.uri('_recipe.json')} holds no recipe of this version ({error})") from error
    facts = Facts(store.root, identity, recipe)
    if identity.get("digest", recipe.digest) != recipe.digest:
        facts.problems.append(
            f"_recipe.json: the recipe is {recipe.digest}, not {identity['digest']} as it says"
        )
    infos = store.files()
    facts.n_files, facts.n_bytes = len(infos), sum(info.size for info in infos)
    with ThreadPoolExecutor(_FILE_READERS) as pool:
        left_out = pool.submit(store.left_out)
        files = pool.map(lambda info: _read_file(info, identity["recipe"], n_samples), infos)
        _add_files(facts, infos, files, n_samples)
        try:
            facts.left_out = dict(sorted(left_out.result().items(), key=lambda item: (-item[1], item[0])))
        except (ValueError, KeyError) as error:
            facts.problems.append(f"{storage.PRIVATE_FOLDER}/left_out: a damaged file ({first_line(error)})")
    if gone := store.gone():
        facts.problems.append(
            f"{storage.PRIVATE_FOLDER}/index.parquet lists {len(gone)} files that are gone, such as {gone[0]}: "
            "v2a extract makes their rows again"
        )
    facts.failures = group_failures(store.failures())
    return facts


def _add_files(
    facts: Facts, infos: Sequence[storage.FileInfo], files: Iterable[_File], n_samples: int
) -> None:
    """Adds up what the files hold, one after the other as they arrive."""
    clip_ids: list[pa.Array] = []
    videos: dict[str, list[pa.Array]] = {split: [] for split in SPLITS}
    samples: dict[str, list[Row]] = {}
    for info, file_facts in zip(infos, files, strict=True):
        split_name = split_of(info.path)
        split = facts.splits.setdefault(split_name, Split())
        split.rows += len(file_facts.clip_ids)
        split.seconds += file_facts.seconds
        facts.labels.update(file_facts.labels)
        facts.n_text += file_facts.n_text
        facts.problems += file_facts.problems
        clip_ids.append(file_facts.clip_ids)
        videos[split_name].append(file_facts.videos)
        if file_facts.columns and not facts.columns:
            facts.columns = file_facts.columns
        elif file_facts.columns and file_facts.columns != facts.columns:
            listed = ", ".join(f"{column.name} {column.text}" for column in file_facts.columns)
            facts.problems.append(f"{info.path}: other array columns than the first file: {listed}")
        for row in file_facts.samples:
            class_samples = samples.setdefault(row.label, [])
            if len(class_samples) < n_samples:
                class_samples.append(row)
        if len(samples) > _LABELS_HELD:  # labels may be as many as rows
            common = sorted(samples, key=lambda label: -facts.labels[label])[: _LABELS_HELD // 2]
            samples = {label: samples[label] for label in common}
    facts.splits = {name: facts.splits[name] for name in SPLITS if name in facts.splits}
    distinct = {name: pa.chunked_array(parts, pa.string()).unique() for name, parts in videos.items()}
    for name, split in facts.splits.items():
        split.videos = len(distinct[name])
    # First, so that a long list of files does not hide them.
    facts.problems[:0] = [*repeated_clips(clip_ids), *in_two_splits(distinct)]
    facts.samples = choose(samples, facts.labels)[:n_samples]


def split_of(path: str) -> str:
    """Split of a file of the store, from its folder."""
    return path.split("/", 1)[0].removeprefix("split=")


def _read_file(info: storage.FileInfo, recipe: Mapping[str, Any], n_samples: int) -> _File:
    """Facts about one file. Errors are recorded as its problems."""
    try:
        with storage.reading(info.uri) as opened, pq.ParquetFile(opened, pre_buffer=False) as file:
            kind = file.schema_arrow
            if missing := [name for name in SMALL if name not in kind.names]:
                return _File([f"{info.path}: no rows of a store (it lacks {', '.join(missing)})"])
            rows = read_small(file)
    except (storage.StorageError, pa.ArrowException, ValueError) as error:
        return _File([f"{info.path}: damaged or not readable ({first_line(error)})"])
    labels = [label or "" for label in rows["label"].to_pylist()]
    return _File(
        problems=recipe_problems(info.path, kind, recipe),
        seconds=float(pc.sum(rows["duration_s"]).as_py() or 0.0),
        labels=Counter(label for label in labels if label),
        n_text=sum(bool(text) for text in rows["text"].to_pylist()),
        clip_ids=rows["clip_id"].combine_chunks(),
        videos=rows["video_id"].unique(),
        columns=array_columns(kind),
        samples=_samples(info, rows, labels, n_samples) if n_samples else [],
    )


def array_columns(kind: pa.Schema) -> tuple[Column, ...]:
    """The array columns of a file."""
    return tuple(
        Column(item.name, str(np.dtype(item.type.value_type.to_pandas_dtype())), tuple(item.type.shape))
        for item in kind
        if isinstance(item.type, pa.FixedShapeTensorType)
    )


def _samples(info: storage.FileInfo, rows: pa.Table, labels: Sequence[str], n: int) -> list[Row]:
    """Up to `n` rows per class: the first of each video, then the second."""
    turns: dict[str, list[tuple[int, int]]] = {}
    occurrences: Counter[tuple[str, str]] = Counter()
    for at, (label, video_id) in enumerate(zip(labels, rows["video_id"].to_pylist(), strict=True)):
        turns.setdefault(label, []).append((occurrences[label, video_id], at))
        occurrences[label, video_id] += 1
    chosen = []
    for label, candidates in turns.items():
        for _, at in sorted(candidates)[:n]:
            values = {name: rows[name][at].as_py() for name in SMALL} | {"label": label}
            values["text"] = values["text"] or ""
            chosen.append(Row(file=info.path, uri=info.uri, at=at, split=split_of(info.path), **values))
    return chosen


def choose(samples: Mapping[str, Sequence[Row]], labels: Mapping[str, int]) -> list[Row]:
    """The rows one class after the other: the first of every class (common ones first), then the second."""
    ranked = sorted(samples, key=lambda label: (-labels.get(label, 0), label))
    depth = max((len(rows) for rows in samples.values()), default=0)
    return [samples[label][k] for k in range(depth) for label in ranked if k < len(samples[label])]


def group_failures(rows: Iterable[Mapping[str, Any]]) -> list[FailureGroup]:
    """Failures by stage and error class, the most frequent first."""
    groups: dict[tuple[str, str], FailureGroup] = {}
    for row in rows:
        stage, error_class, path = (str(row[name] or "") for name in ("stage", "error_class", "path"))
        group = groups.setdefault(
            (stage, error_class), FailureGroup(stage, error_class, 0, [], first_line(row["error"] or ""))
        )
        group.count += 1
        if path not in group.paths and len(group.paths) < PATHS_SHOWN:
            group.paths.append(path)
    return sorted(groups.values(), key=lambda group: (-group.count, group.stage, group.error_class))


def size_text(n_bytes: float) -> str:
    """`12.3 MB`; powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.{0 if unit == 'B' or n_bytes >= 100 else 1}f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} TB"


def made_with(facts: Facts) -> list[tuple[str, str]]:
    """Name and value of everything that decides the rows, in words."""
    recipe, identity = facts.recipe, facts.identity
    overlap = f"sharing {recipe.overlap_s:g} s" if recipe.overlap_s else "no overlap"
    channels = {1: "mono", 2: "stereo"}.get(recipe.channels, f"{recipe.channels} channels")
    sound_kept = "samples kept" if recipe.waveform else "as tokens" if recipe.encoder("codec") else "not kept"
    if recipe.encoder("audio"):
        sound_kept = "as features" if sound_kept == "not kept" else f"{sound_kept}, and as features"
    lines = [
        ("recipe", f"{recipe.name} ({recipe.digest})"),
        ("window", f"{recipe.window_s:g} s, {overlap}"),
        *(
            (f"{name} view", f"{view.fps:g} fps, {view.width}x{view.height}, {view.fit}")
            for name, view in recipe.views.items()
        ),
        ("sound", f"{recipe.sample_rate} Hz, {channels}, {sound_kept}"),
        *((f"{e.role} encoder", f"{e.name} (sha256 {e.sha256[:12] or '?'})") for e in recipe.encoders),
    ]
    if identity.get("precision"):
        lines.append(("precision", f"{identity['precision']}, batches of {identity.get('batch_size', '?')}"))
    for name, words in (("silence_dbfs", "left out below"), ("static_below", "left out if still")):
        if identity.get(name) is not None:
            lines.append((words, f"{identity[name]:g}" + (" dBFS" if name == "silence_dbfs" else "")))
    if identity.get("version"):
        lines.append(("made by", f"v2a {identity['version']}"))
    return lines
