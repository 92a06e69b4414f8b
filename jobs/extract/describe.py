"""Description of an extraction (`v2a extract --describe`): stages, schema, resources, and an estimate."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

from jobs.extract.preflight import Prepared, make_job

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.extract.config import ExtractConfig

PROBED_FOR_ESTIMATE = 16

X_REALTIME_PER_CORE = {"mini": 8.0, "base": 0.4, "base-audio": 0.39, "vatt": 0.15, "raw": 40.0}
"""Footage seconds per core-second, for estimates (benchmarks/extract.py and encoders.py measure them)."""


def describe(prepared: Prepared, config: ExtractConfig, console: Console) -> None:
    """Print stages, schema, resources, and an estimate from a few files. Writes nothing."""
    from rich.markup import escape
    from rich.table import Table

    from pipelines.extract.pipeline import encoders_for, rows_per_call
    from pipelines.store import tables
    from v2a_models.encoders.shapes import feature_shapes

    recipe = prepared.recipe
    cpus = config.num_workers or os.cpu_count() or 1
    job = make_job(prepared, config, 0)
    shapes = feature_shapes(recipe)
    kind = tables.schema(recipe, shapes)
    stages = Table("stage", "what", "where", title="stages", title_justify="left")
    views = ", ".join(f"{n} {v.fps:g} fps {v.width}x{v.height} ({v.fit})" for n, v in recipe.views.items())
    stages.add_row(
        "decode",
        escape(f"{views}; sound {recipe.sample_rate} Hz x {recipe.channels}"),
        f"{cpus} tasks, sandboxed",
    )
    names = ", ".join(f"{e.role}: {e.name} ({e.sha256[:12]})" for e in recipe.encoders) or "no encoder"
    stages.add_row("encode", escape(names), f"{encoders_for(cpus, 0, 0, 1)} actors on {job.device}, {job.precision}, "
                   f"{job.batch_size} windows at a time, {rows_per_call(job)} a call")  # fmt: skip
    stages.add_row(
        "write", f"{config.rows_per_file} rows a file, partitioned by split", escape(prepared.store.root)
    )
    console.print(stages)
    columns = Table("column", "type", title="schema", title_justify="left")
    for item in kind:
        columns.add_row(item.name, str(item.type).replace("extension<arrow.", "").rstrip(">"))
    columns.add_row("split", "partition: train, val, test")
    console.print(columns)
    n_files, n_bytes, hours, sampled = _estimate(prepared, config)
    rows = hours * 3600 / (recipe.window_s - recipe.overlap_s)
    size = rows * tables.row_bytes(kind)
    core_hours = hours / X_REALTIME_PER_CORE.get(recipe.name, X_REALTIME_PER_CORE["base"])
    console.print(
        f"{n_files} files, {n_bytes / 1e9:.2f} GB; {hours:.2f} h of footage with sound ({sampled}).\n"
        f"About {rows:,.0f} rows, {size / 1e9:.2f} GB before compression, {core_hours:.2f} core-hours "
        f"({core_hours / cpus:.2f} h on {cpus} cores). Nothing was written.",
        markup=False,
    )


def _estimate(prepared: Prepared, config: ExtractConfig) -> tuple[int, int, float, str]:
    """Number of files, their bytes, hours with sound, and the source of the hours."""
    from pipelines.archive import scan
    from pipelines.sandbox.decoder import Sandbox

    selection = prepared.selection
    infos = [info for info in selection if not info.problem and scan.named_media(info.path)]
    infos = infos[: selection.limit]
    n_bytes = sum(info.size for info in infos)
    scanned = {row["video_id"]: row for row in prepared.store.scan()}
    rows = [scan.known_row(info, scanned) for info in infos]
    if infos and all(row is not None for row in rows):
        seconds = sum(_audible_s(row) for row in rows if row is not None)
        return len(infos), n_bytes, seconds / 3600, "from the last run's scan"
    # A random sample, always the same: neighbouring files are often alike.
    sample = random.Random(0).sample(infos, min(len(infos), PROBED_FOR_ESTIMATE))
    with Sandbox(threads=1) as sandbox:
        probed = [scan.scan_file(info, sandbox) for info in sample]
    sample_bytes = sum(info.size for info in sample)
    seconds = sum(map(_audible_s, probed)) * (n_bytes / sample_bytes if sample_bytes else 0)
    return len(infos), n_bytes, seconds / 3600, f"estimated from {len(sample)} files"


def _audible_s(row: dict[str, Any]) -> float:
    audible = row["status"] == "ok" and row["audio_state"] == "audible"
    return float(row["duration_s"]) if audible else 0.0
