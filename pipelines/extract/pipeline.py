"""Ray Data pipeline of an extraction: planned windows -> decode -> Encoder -> files of a feature store.

    ClipSource (read) -> [Ray's checkpoint filter] -> decode (tasks) -> Encoder (actors) -> StoreSink (write)

Runs resume through Ray Data's `CheckpointConfig` on clip ids, with the store itself as the checkpoint. Ray would write
its own checkpoint after the data, so a run killed in between would leave rows that the next run writes again. A row
that can be read from the store is done.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs
import ray
import ray.data
from ray.data import Datasink, Datasource, ReadTask
from ray.data.block import BlockAccessor, BlockMetadata
from ray.data.checkpoint import CheckpointConfig, IdColumnCheckpointManager

from pipelines import retry, storage
from pipelines.extract import windows as extract_windows
from pipelines.extract.job import ExtractJob
from pipelines.extract.stages import (
    FEATURES,
    Encoder,
    Window,
    decode,
    failure_row,
)
from pipelines.extract.windows import Clip
from pipelines.store.store import Store
from pipelines.store.tables import mask, mask_shape, schema, table
from v2a_models.encoders.shapes import feature_shapes

MOST_BLOCKS = 2000
"""Maximum number of blocks; more would burden the scheduler."""

BYTES_PER_CALL = 32 << 20
"""Approximate bytes of pictures per call of an Encoder."""

CHECKPOINT_MEMORY = 128 << 20
"""Bytes of memory for the actor that filters finished clips."""

CPUS_PER_TASK = 0.1
"""CPUs that a task or actor books with Ray. `concurrency` and pool sizes limit how many run at once, since decoding,
encoding and writing share the cores. If each booked a whole core, a stage might never start beside Ray's checkpoint
filter, which books one."""

ENCODER_MEMORY = 3 << 29
"""Bytes that one set of encoders may need, with its inputs and activations."""


class ExtractionStopped(Exception):
    """The run ends early without a crash; the message says why. Finished rows stay."""


# read


class ClipSource(Datasource):
    """Ray Data source of the plan. A block holds whole segments, so that each is decoded in one pass."""

    def __init__(self, clips: Sequence[Clip], per_segment: int, most: int = MOST_BLOCKS) -> None:
        super().__init__()
        self.tables = [
            extract_windows.to_table(part) for part in extract_windows.blocks(clips, per_segment, most)
        ]

    def estimate_inmemory_data_size(self) -> int | None:
        return sum(part.nbytes for part in self.tables)

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        return [
            ReadTask(partial(_only, part), BlockMetadata(part.num_rows, part.nbytes, None, None))
            for part in self.tables
        ]


def _only(part: pa.Table) -> list[pa.Table]:
    return [part]


class StoreCheckpoint(IdColumnCheckpointManager):
    """Checkpoint manager that tells Ray which clips the store holds already. The checkpoint path lies in the store."""

    def load_checkpoint(self, *_: Any, **__: Any) -> tuple[Any, int]:
        root = self.checkpoint_path.rsplit("/_v2a/", 1)[0]
        done = np.array(sorted(Store(root).done()))
        return (ray.put(done), done.nbytes) if done.size else (None, 0)


# write


class StoreSink(Datasink[int]):
    """Writes finished windows as files of the store, and reports those that failed or were left out."""

    def __init__(self, job: ExtractJob, ledger: Any = None) -> None:
        self.job, self.ledger = job, ledger

    @property
    def min_rows_per_write(self) -> int:
        return self.job.rows_per_file

    def write(self, blocks: Iterable[Any], ctx: Any) -> int:
        tables = [BlockAccessor.for_block(block).to_arrow() for block in blocks]
        windows = [window for part in tables for window in Window.from_table(part, FEATURES)]
        started = time.perf_counter()
        good = [window for window in windows if window.arrays]
        left_out = {window.clip.clip_id: window.left_out for window in windows if window.left_out}
        failures = [failure_row(w.clip, w.failure) for w in windows if w.failure is not None]
        try:
            for attempt in retry.storage_attempts(retry.EXTRACTION):
                with attempt:
                    write_windows(self.job, good, left_out)
        except storage.StorageError as error:
            raise ExtractionStopped(f"STORE can no longer be written: {error}") from error
        facts = {
            "stage": "write",
            "rows": len(good),
            "seconds": time.perf_counter() - started,
            "footage_s": sum(window.clip.duration_s for window in good),
            "left_out": len(left_out),
            "failures": failures,
        }
        stop = ""
        if self.ledger is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                stop = ray.get(self.ledger.add.remote(facts))
        if stop:
            raise ExtractionStopped(stop)
        return len(good)


def write_windows(job: ExtractJob, windows: Sequence[Window], left_out: dict[str, str]) -> None:
    """Write files of about `job.rows_per_file` windows by split, and record the windows that were left out.

    Idempotent.
    """
    store = Store(job.store)
    if left_out:
        store.write_left_out(left_out)
    shapes = feature_shapes(job.recipe)
    kind = schema(job.recipe, shapes)
    (n_mask,) = mask_shape(shapes)
    by_split: dict[str, list[dict[str, Any]]] = {}
    for window in windows:
        clip = window.clip
        row = {name: getattr(clip, name) for name in kind.names if hasattr(clip, name)}
        row |= window.arrays | {"mask": mask(n_mask, clip.duration_s, job.recipe.window_s)}
        by_split.setdefault(clip.split, []).append(row)
    for split, rows in sorted(by_split.items()):
        # Ray gathers at least that many rows: equal parts avoid a tiny last file.
        n_files = max(1, round(len(rows) / job.rows_per_file))
        for k in range(n_files):
            part = rows[k * len(rows) // n_files : (k + 1) * len(rows) // n_files]
            store.write_rows(table(part, kind), split)


# all of it


def encoders_for(cpus: int, gpus: float, memory: int, gpu_share: float) -> int:
    """Number of encoder sets that run at once: as many as fit on the GPUs, else one per core, limited by memory."""
    if gpus:
        return max(1, int(gpus / gpu_share + 1e-6))
    return min(cpus, max(1, memory // ENCODER_MEMORY)) if memory else cpus


def rows_per_call(job: ExtractJob) -> int:
    """Windows per call of an Encoder."""
    from v2a_models import grid

    recipe = job.recipe
    pixels = sum(
        grid.frame_count(recipe.window_s, view.fps) * view.width * view.height * 3
        for view in recipe.views.values()
    )
    return max(job.batch_size, min(16, BYTES_PER_CALL // max(1, pixels)))


def run(
    clips: Sequence[Clip],
    job: ExtractJob,
    *,
    cpus: int,
    gpus: float = 0,
    memory: int = 0,
    gpu_share: float = 1.0,
    ledger: Any = None,
) -> None:
    """Extract the clips of a plan that the store lacks, with the running Ray. Returns when all is written.

    `clips` may include finished ones if Ray has at least two cores.

    Raises ExtractionStopped, or ray.exceptions.RayError if workers are lost for good.
    """
    per_segment = extract_windows.windows_per_segment(job.recipe)
    with _settings(Store(job.store)):
        source = ClipSource(clips, per_segment)
        # One block per read task: Ray would split fewer blocks further, through the middle of segments.
        planned = ray.data.read_datasource(
            source,
            num_cpus=CPUS_PER_TASK,
            concurrency=min(cpus, len(source.tables)),
            override_num_blocks=len(source.tables),
        )
        decoder: Any = decode  # Ray's stubs know no Arrow batches
        decoded = planned.map_batches(
            decoder,
            fn_kwargs={"job": job, "ledger": ledger},
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=CPUS_PER_TASK,
            concurrency=max(1, cpus),
        )
        encoded = decoded.map_batches(
            Encoder,
            fn_constructor_kwargs={"job": job, "ledger": ledger},
            batch_size=rows_per_call(job),
            batch_format="pyarrow",
            num_cpus=CPUS_PER_TASK,
            num_gpus=gpu_share if job.device == "cuda" else None,
            compute=ray.data.ActorPoolStrategy(
                size=encoders_for(cpus, gpus, memory, gpu_share), max_tasks_in_flight_per_actor=2
            ),
        )
        try:
            encoded.write_datasink(
                StoreSink(job, ledger), ray_remote_args={"num_cpus": 0.2}, concurrency=max(1, cpus // 2)
            )
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ExtractionStopped):
                raise ExtractionStopped(str(error.cause)) from error
            raise


@contextlib.contextmanager
def _settings(store: Store) -> Iterator[None]:
    """Configure Ray Data for one extraction."""
    import warnings

    context = ray.data.DataContext.get_current()
    before = context.checkpoint_config, context.execution_options.preserve_order
    marker = store.uri(storage.PRIVATE_FOLDER, "checkpoint", "README")
    # Ray filters nothing if the checkpoint path does not exist; on S3 it exists only if it holds an object.
    storage.write_atomic(marker, b"Ray Data keeps its record of a run here. The store itself is the truth.\n")
    config = CheckpointConfig(
        "clip_id",
        store.uri(storage.PRIVATE_FOLDER, "checkpoint"),
        delete_checkpoint_on_success=False,
        override_filesystem=_filesystem(store.root),
        checkpoint_manager_cls=StoreCheckpoint,
    )
    config.checkpoint_actor_memory_bytes = CHECKPOINT_MEMORY
    context.checkpoint_config = config
    # Rows stay in the order of the plan, so that the same run writes the same files.
    context.execution_options.preserve_order = True
    try:
        with warnings.catch_warnings():
            # Ray supports only "at-least-once" for other sinks than its own files: see StoreCheckpoint.
            warnings.filterwarnings("ignore", message="Checkpointing with non-file datasink")
            yield
    finally:
        context.checkpoint_config, context.execution_options.preserve_order = before
        with contextlib.suppress(storage.StorageError):
            for info in list(storage.list_tree(store.uri(storage.PRIVATE_FOLDER, "checkpoint"))):
                storage.delete(info.uri)


def _filesystem(root: str) -> pa.fs.FileSystem:
    """PyArrow file system of the store, with this project's credentials and endpoint."""
    if not storage.is_remote(root):
        return pa.fs.LocalFileSystem()
    return pa.fs.PyFileSystem(pa.fs.FSSpecHandler(storage.s3_filesystem()))
