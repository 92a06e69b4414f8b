"""Checks of an extraction before it starts, its settings, and the windows that are left to extract."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobs.cli import version
from jobs.common.checks import (
    at_least,
    check_not_foreign,
    check_places,
    encoder_weights,
    full_address,
    is_narrow,
    resolve_precision,
    selected,
)
from jobs.common.verb import Stopped, WrongUsage, differences

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from jobs.common.ray_session import Resources
    from jobs.extract.config import ExtractConfig
    from pipelines.archive.selection import Selection
    from pipelines.extract.job import ExtractJob
    from pipelines.extract.labels import Labels
    from pipelines.extract.windows import Clip
    from pipelines.storage import FileInfo
    from pipelines.store.store import Store
    from v2a_models.recipe import Recipe

EVENTS = "events.parquet"
"""Labels beside an archive (SynthFoley's), read by default."""

GPU_BATCH = 16
SAVE_SCAN_EVERY_S = 60.0


@dataclass
class Prepared:
    """Configuration that passed its checks."""

    store: Store
    recipe: Recipe
    files: dict[str, str]
    """Weights file by role, or `mini`."""
    labels: Labels | None
    fractions: tuple[float, float, float]
    before: dict[str, Any] | None
    """Identity of the store; None for a new one."""
    selection: Selection
    """Files of the archive that are taken."""

    def identity_with(self, job: ExtractJob) -> dict[str, Any]:
        """Content of the store's _recipe.json."""
        return job.identity() | {
            "digest": self.recipe.digest,
            "version": (self.before or {}).get("version", version()),
        }


@dataclass
class Work:
    """Work of a run."""

    prepared: Prepared
    store: Store
    clips: list[Clip]
    """Windows that the store is to hold."""
    todo: list[Clip]
    """Windows that the store lacks."""
    n_videos: int
    passed_over: int
    """Files without sound, or without pictures."""
    scan_failures: list[dict[str, Any]] = field(default_factory=list)
    other_failures: list[dict[str, Any]] = field(default_factory=list)
    """Failures of an earlier run, of files that this one does not take."""

    def with_others(self, failures: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of the store's table of what failed, of this run and of files that it does not take."""
        rows = [*self.scan_failures, *failures, *self.other_failures]
        return sorted(rows, key=lambda row: (str(row["path"]), str(row["clip_id"])))


def prepare(config: ExtractConfig) -> Prepared:
    """Check a configuration. Raises WrongUsage, with the fix."""
    from pipelines import storage
    from pipelines.extract import recipes
    from pipelines.extract.labels import LabelsError
    from pipelines.store.store import Store, StoreError
    from v2a_models.checkpoint_files import CheckpointError
    from v2a_models.encoders.published import WeightsError

    config, selection = selected(config, config.store)
    at_least(config, num_workers=1, batch_size=1, rows_per_file=1, drop_static=0, max_hours_per_file=0)
    if not 0 < config.gpu_share <= 1:
        raise WrongUsage(f"--gpu-share must be more than 0 and at most 1, not {config.gpu_share:g}")
    fraction(config.max_failed)
    total = sum(config.splits)
    if min(config.splits) < 0 or not total > 0:
        raise WrongUsage(f"--splits must be three fractions such as 80 10 10, not {config.splits}")
    fractions = (config.splits[0] / total, config.splits[1] / total, config.splits[2] / total)
    store = Store(full_address(config.store), mends=not config.describe)
    try:
        check_places(
            config.archive, config.store, "STORE", writes=not config.describe, narrow=is_narrow(config)
        )
        before = store.recover_identity()
        ours = (storage.PRIVATE_FOLDER, f"_recipe.json{storage.BROKEN}")
        if before is None and not any(storage.exists(store.uri(name)) for name in ours):
            check_not_foreign(config.store, "STORE")  # neither finished nor begun by v2a
        recipe, files = recipes.resolve(
            recipes.find(config.recipe), encoder_weights(config.weights), config.overlap_s
        )
        labels = _labels(config)
    except (
        storage.StorageError,
        recipes.RecipeError,
        LabelsError,
        StoreError,
        WeightsError,
        CheckpointError,
    ) as error:
        raise WrongUsage(str(error)) from error
    prepared = Prepared(store, recipe, files, labels, fractions, before, selection)
    _check_identity(prepared, config)
    return prepared


def _labels(config: ExtractConfig) -> Labels | None:
    from pipelines import storage
    from pipelines.extract.labels import read

    if config.labels == "none":
        return None
    if config.labels is not None:
        return read(config.labels)
    beside = storage.join(config.archive, EVENTS)
    return read(beside) if storage.exists(beside) else None


def fraction(text: str | None) -> float | None:
    """Fraction written as `5%` or `0.05`; None for None. Raises WrongUsage."""
    if text is None:
        return None
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise WrongUsage(f"--max-failed must be a fraction such as 5% or 0.05, not {text!r}")
    return value


def _check_identity(prepared: Prepared, config: ExtractConfig) -> None:
    """Raise WrongUsage if the store was made with another recipe or other settings."""
    import json

    before = prepared.before
    if before is None:
        return
    there, now = before["recipe"], json.loads(json.dumps(prepared.recipe.to_dict()))
    if there != now:
        raise WrongUsage(
            f"STORE ({config.store}) was made with another recipe:\n{differences(there, now)}\n"
            f"there: {json.dumps(there)}\nnow:   {json.dumps(now)}\nUse the same recipe, or choose another STORE."
        )
    settings: dict[str, Any] = {"silence_dbfs": config.drop_silent, "static_below": config.drop_static}
    if config.precision != "auto":
        settings["precision"] = config.precision
    if config.batch_size is not None:
        settings["batch_size"] = config.batch_size
    if set(before) == {"recipe"}:
        settings = {}  # the rest is lost (`Store.recover_identity`)
    if differing := differences(before, settings):
        raise WrongUsage(
            f"STORE ({config.store}) was made with other settings:\n{differing}\n"
            "Use the same settings, or choose another STORE."
        )


def make_job(prepared: Prepared, config: ExtractConfig, gpus: float) -> ExtractJob:
    """Settings of the stages. A begun store keeps its arithmetic, whatever machine goes on with it."""
    from pipelines.extract.job import ExtractJob

    before = prepared.before or {}
    batch_size = config.batch_size or before.get("batch_size") or (GPU_BATCH if gpus else 1)
    return ExtractJob(
        store=prepared.store.root,
        recipe=prepared.recipe,
        files=prepared.files,
        precision=before.get("precision") or resolve_precision(config.precision),
        device="cuda" if gpus and prepared.recipe.encoders else "cpu",
        batch_size=batch_size,
        rows_per_file=config.rows_per_file,
        silence_dbfs=config.drop_silent,
        static_below=config.drop_static,
    )


def find_work(
    prepared: Prepared, config: ExtractConfig, resources: Callable[[], Resources], console: Console
) -> Work:
    """Compare the archive with the store. Raises StorageError, Stopped.

    Files that an earlier run scanned, and that have not changed since, are not opened again.
    """
    from pipelines import storage
    from pipelines.archive import kinds, scan
    from pipelines.extract import windows

    store = prepared.store
    storage.sweep_temporaries(store.root)
    rows = [
        row | {"status": "failed", "error_class": "TooLong", "error": reason}
        if (reason := scan.too_long(row, config.max_hours_per_file))
        else row
        for row in _scanned(prepared, config, resources, console)
    ]
    if over := Counter(filter(None, map(scan.kind_passed_over, rows))):
        console.print(f"Passed over: {kinds.counted(over)}.", markup=False)
    videos = [row for row in rows if row["status"] == "ok" and row["audio_state"] == "audible"]
    failed = [row for row in rows if row["status"] == "failed"]
    scan_failures = [_scan_failure(row) for row in failed]
    taken = {row["path"] for row in rows}
    others = [] if prepared.selection.whole else [row for row in store.failures() if row["path"] not in taken]
    allowed = fraction(config.max_failed)
    if allowed is not None and len(failed) > allowed * max(1, len(failed) + len(videos)):
        store.write_failures([*scan_failures, *others])
        raise Stopped(
            f"{len(failed)} of {len(failed) + len(videos)} files cannot be read, more than --max-failed allows"
            f" ({config.max_failed}); the first: {failed[0]['path']} ({failed[0]['error_class']})"
        )
    clips = windows.plan(videos, prepared.recipe, prepared.labels, prepared.fractions)
    for line in prepared.selection.notes():
        console.print(line, markup=False)
    if prepared.labels is not None and prepared.selection.whole:
        missing = prepared.labels.unmatched(row["path"] for row in rows)
        if missing:
            console.print(
                f"{missing} files of {prepared.labels.source} are not in the archive.", markup=False
            )
    held = store.held()
    done = set(held)
    if len(done) < len(held):
        store.write_index()  # the last worker of a killed run and the next run wrote the same rows
    return Work(
        prepared=prepared,
        store=store,
        clips=clips,
        todo=[clip for clip in clips if clip.clip_id not in done],
        n_videos=len(videos),
        passed_over=len(rows) - len(videos) - len(failed),
        scan_failures=scan_failures,
        other_failures=others,
    )


def _scanned(
    prepared: Prepared, config: ExtractConfig, resources: Callable[[], Resources], console: Console
) -> list[dict[str, Any]]:
    """Scan rows of the files that are taken, sorted by path. The store keeps those of all others."""
    from pipelines.archive import scan
    from pipelines.archive.ray_scan import scan_infos

    known = prepared.store.scan(scan.SCAN_SCHEMA, scan.LATER)
    scanned = {row["video_id"]: row for row in known if row["status"] != "failed"}
    read = {} if prepared.selection.whole else {row["path"]: row for row in known}
    saved = time.perf_counter()

    def on_row(row: dict[str, Any]) -> None:
        nonlocal saved
        read[row["path"]] = row
        if time.perf_counter() - saved > SAVE_SCAN_EVERY_S:
            prepared.store.write_scan(scan.to_table(read.values()))
            saved = time.perf_counter()

    def rows_of(infos: Iterable[FileInfo]) -> Iterator[pa.Table]:
        rows, fresh = [], []
        for info in infos:
            # The archive may be mounted elsewhere now.
            row = scan.known_row(info, scanned)
            rows.append(row) if row else fresh.append(info)
        read.update((row["path"], row) for row in rows)
        if fresh:
            cpus = resources().cpus
            with console.status(f"reading {len(fresh)} files ..."):
                rows += scan_infos(fresh, cpus, on_row)
            prepared.store.write_scan(scan.to_table(read.values()))
        yield scan.to_table(rows)

    tables = prepared.selection.films(prepared.selection, rows_of)
    return sorted((row for table in tables for row in table.to_pylist()), key=lambda row: str(row["path"]))


def _scan_failure(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "clip_id": "",
        "video_id": row["video_id"],
        "path": row["path"],
        "start_s": 0.0,
        "stage": "scan",
        "error_class": row["error_class"],
        "error": row["error"],
    }
