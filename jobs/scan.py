"""`v2a scan ARCHIVE`: what is in an archive, and how much of it is silent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jobs.cli import DONE, INTERRUPTED, SOME_FAILED, WRONG_USAGE
from jobs.verb import WrongUsage

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.sandbox import Sandbox
    from pipelines.storage import FileInfo

FEW_FILES = 256
"""Up to so many files are read from this process; starting Ray would take longer."""

FILES_PER_TASK = 16
SILENT_STATES = ("none", "empty", "silent")


@dataclass
class ScanConfig:
    """List an archive: every file, what it is, how long it lasts and whether it has sound.

    Lengths come from the pictures and silence from the decoded samples; headers are not believed. Files
    that cannot be read are listed with the reason. The archive is only read.
    """

    archive: Annotated[str, tyro.conf.Positional]
    """Folder with videos, or s3://bucket/prefix."""
    out: str | None = None
    """Write the table there too: a .parquet file, local or on s3."""
    num_workers: int | None = None
    """Cores to use; all of them by default."""
    address: str | None = None
    """Ray cluster to run on, for instance auto or ray://head:10001; by default this machine."""
    show: int = 200
    """Rows to print; the totals always count every file."""


@dataclass
class ScanResult:
    """What a scan found."""

    exit_code: int
    """0 all read, 1 some files failed, 2 wrong usage, 130 interrupted."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """One per file, columns of `pipelines.archive.SCAN_SCHEMA`, by path."""

    @property
    def table(self) -> pa.Table:
        """The rows as an Arrow table."""
        from pipelines import archive

        return archive.to_table(self.rows)


def run(config: ScanConfig) -> ScanResult:
    """Scan an archive, print the table and its totals, write it if `out` is given."""
    from rich.console import Console

    from pipelines import storage

    console, errors = _console(), Console(stderr=True, highlight=False, soft_wrap=True)
    problem = _wrong_usage(config)
    if problem:
        errors.print(f"v2a scan: {problem}", markup=False)
        return ScanResult(WRONG_USAGE)
    try:
        rows = _scan(config, console)
    except KeyboardInterrupt:
        errors.print("v2a scan: interrupted; nothing was written", markup=False)
        return ScanResult(INTERRUPTED)
    except (WrongUsage, storage.StorageError) as error:
        errors.print(f"v2a scan: {error}", markup=False)
        return ScanResult(WRONG_USAGE)
    result = ScanResult(SOME_FAILED if any(r["status"] == "failed" for r in rows) else DONE, rows)
    _print_rows(console, rows, config.show)
    for line in totals(rows):
        console.print(line, markup=False)
    if config.out:
        try:
            _write(result.table, config.out)
        except storage.StorageError as error:
            errors.print(f"v2a scan: the table is not written: {error}", markup=False)
            return ScanResult(SOME_FAILED, rows)
        console.print(f"written: {config.out}", markup=False)
    return result


def scan_rows(
    archive_root: str, cpus: int, on_row: Callable[[dict[str, Any]], None] | None = None
) -> list[dict[str, Any]]:
    """Rows of all files, by path, read in parallel tasks of the Ray that is running.

    `on_row` is called for each row as it arrives. Raises StorageError if the archive cannot be listed.
    """
    from pipelines import storage

    return scan_infos(list(storage.list_tree(archive_root)), cpus, on_row)


def totals(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The figures under the table, in words."""
    counts = dict.fromkeys(("ok", "audio_only", "not_video", "failed"), 0)
    seconds: dict[str, float] = {}
    files: dict[str, int] = {}
    for row in rows:
        counts[row["status"]] += 1
        if row["status"] == "ok":
            state = row["audio_state"]
            seconds[state] = seconds.get(state, 0.0) + row["duration_s"]
            files[state] = files.get(state, 0) + 1
    silent_s = sum(seconds.get(state, 0.0) for state in SILENT_STATES)
    parts = [
        f"{label} {hours(seconds[state])} ({files[state]})"
        for state, label in (("none", "no track"), ("empty", "empty track"), ("silent", "silent track"))
        if state in files
    ]
    return [
        f"{sum(counts.values())} files: {counts['ok']} videos, {counts['audio_only']} sound only, "
        f"{counts['not_video']} no footage, {counts['failed']} failed",
        f"footage: {hours(sum(seconds.values()))}, of which silent: {hours(silent_s)}"
        + (f" = {', '.join(parts)}" if parts else ""),
    ]


def hours(seconds: float) -> str:
    """A length in hours, with minutes and seconds where that says more."""
    if seconds < 3600:
        return f"{seconds / 3600:.2f} h ({int(seconds // 60)} min {seconds % 60:.0f} s)"
    return f"{seconds / 3600:,.1f} h"


def _wrong_usage(config: ScanConfig) -> str:
    from pipelines import storage

    if config.num_workers is not None and config.num_workers < 1:
        return f"--num-workers must be at least 1, not {config.num_workers}"
    if config.out is not None and not config.out.endswith(".parquet"):
        return f"--out must name a .parquet file, not {config.out!r}"
    try:
        storage.check_readable(config.archive)
        if config.out is not None:
            storage.check_writable(storage.parent(config.out))
    except storage.StorageError as error:
        return str(error)
    return ""


def _scan(config: ScanConfig, console: Any) -> list[dict[str, Any]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from jobs import ray_session
    from pipelines import storage

    with console.status("listing ..."):
        infos = list(storage.list_tree(config.archive))
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading", total=len(infos))

        def on_row(row: dict[str, Any]) -> None:
            progress.advance(task)

        if len(infos) <= FEW_FILES and config.address is None and not _ray_is_running():
            return _in_threads(infos, config.num_workers, on_row)
        with ray_session.session(config.num_workers, config.address) as resources:
            return scan_infos(infos, resources.cpus, on_row)


def _ray_is_running() -> bool:
    import os

    if os.environ.get("RAY_ADDRESS"):
        return True
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _in_threads(
    infos: list[FileInfo], num_workers: int | None, on_row: Callable[[dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """Scan from this process: the work is done in the children, so threads are enough to run several."""
    import os
    import queue

    from pipelines import archive
    from pipelines.sandbox import Sandbox

    n = max(1, min(num_workers or os.cpu_count() or 1, len(infos)))
    sandboxes = [Sandbox(threads=1) for _ in range(n)]
    free: queue.SimpleQueue[Sandbox] = queue.SimpleQueue()
    for sandbox in sandboxes:
        free.put(sandbox)

    def one(info: FileInfo) -> dict[str, Any]:
        sandbox = free.get()
        try:
            return archive.scan_file(info, sandbox)
        finally:
            free.put(sandbox)

    pool = ThreadPoolExecutor(n, thread_name_prefix="scan")
    rows = []
    try:
        for future in as_completed([pool.submit(one, info) for info in infos]):
            rows.append(future.result())
            on_row(rows[-1])
    finally:
        # After Ctrl-C the threads wait for their children: end those first.
        pool.shutdown(wait=False, cancel_futures=True)
        for sandbox in sandboxes:
            sandbox.close()
    return _by_path(rows)


def scan_infos(
    infos: list[FileInfo], cpus: int, on_row: Callable[[dict[str, Any]], None] | None
) -> list[dict[str, Any]]:
    """Rows of these files, by path, read in parallel tasks of the Ray that is running."""
    import dataclasses

    import ray

    if not infos:
        return []
    items = [dataclasses.asdict(info) for info in infos]
    # Small blocks, so that one long film does not hold up many files; and enough of them for all cores.
    n_blocks = max(min(len(items), 4 * cpus), -(-len(items) // FILES_PER_TASK))
    listed = ray.data.from_items(items, override_num_blocks=n_blocks)
    rows = []
    for row in listed.map_batches(_scan_block, batch_size=None, batch_format="pyarrow").iter_rows():
        rows.append(row)
        if on_row is not None:
            on_row(row)
    return _by_path(rows)


def _scan_block(block: pa.Table) -> Iterator[pa.Table]:
    """Rows about the files of one block: a Ray Data task."""
    from pipelines import archive
    from pipelines.storage import FileInfo
    from pipelines.worker import shared_sandbox

    for item in block.to_pylist():
        yield archive.to_table([archive.scan_file(FileInfo(**item), shared_sandbox(threads=1))])


def _by_path(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: str(row["path"]))


def _write(table: pa.Table, out: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipelines import storage

    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    storage.write_atomic(out, buffer.getvalue().to_pybytes())


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False)
    # Piped into a file there is no screen to fit on: leave room for names.
    return console if console.is_terminal else Console(highlight=False, width=160)


def _print_rows(console: Any, rows: list[dict[str, Any]], show: int) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file", overflow="fold", ratio=1)
    for name in ("length", "picture", "fps", "codec"):
        table.add_column(name, justify="right" if name != "codec" else "left", no_wrap=True)
    table.add_column("sound", no_wrap=True)
    table.add_column("status", overflow="fold", ratio=1)
    for row in rows[: max(show, 0)]:
        table.add_row(*_cells(row))
    if rows and show > 0:
        console.print(table)
    if len(rows) > max(show, 0):
        console.print(f"... and {len(rows) - max(show, 0)} more files", markup=False)
    console.print()


def _cells(row: dict[str, Any]) -> list[Any]:
    from rich.text import Text

    style = {"failed": "red", "not_video": "dim", "audio_only": "dim"}.get(row["status"], "")
    cells = [printable(row["path"])]
    if row["status"] == "ok":
        minutes, seconds = divmod(row["duration_s"], 60)
        level = "" if row["peak_dbfs"] is None else f" {row['peak_dbfs']:.0f} dBFS"
        picture = f"{row['width']}x{row['height']}" + (f" ↻{row['rotation']}" if row["rotation"] else "")
        cells += [f"{minutes:.0f}:{seconds:05.2f}", picture, f"{row['fps']:.5g}", row["video_codec"]]
        cells += [row["audio_state"] + level]
    else:
        cells += [""] * 5
    why = ": ".join(part for part in (row["error_class"], row["error"]) if part)
    words = row["status"].replace("_", " ") if row["status"] != "audio_only" else "sound only"
    cells.append(f"{words} ({printable(why)})" if why else words)
    return [Text(cell, style=style) for cell in cells]


def printable(text: str) -> str:
    """Text for a terminal: control characters, which a file name may hold, are spelt out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def main() -> int:
    """`python -m jobs.scan`."""
    from jobs import cli

    return run(cli.parse(ScanConfig, sys.argv[1:], "python -m jobs.scan")).exit_code


if __name__ == "__main__":
    sys.exit(main())
