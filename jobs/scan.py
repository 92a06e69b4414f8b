"""`v2a scan ARCHIVE`: list an archive, and how much of it is silent."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobs.cli import DONE, SOME_FAILED
from jobs.common.checks import at_least, check_out, selected
from jobs.common.options import Address, Archive, FileOptions, NumWorkers, SandboxLevel
from jobs.common.terminal import hours, printable
from jobs.common.verb import Stopped, WrongUsage, print_error, run_verb
from pipelines.archive.listing import Listing

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from pipelines.archive.listing import Examine
    from pipelines.archive.scan_table import ScanTable
    from pipelines.archive.selection import Selection

FEW_FILES = 256
"""Archives of at most this many files are read from this process; starting Ray would take longer."""


PASSED_OVER_SHOWN = 10
"""Maximum number of entries that were not looked at in the last lines; the table has all."""


@dataclass
class ScanConfig:
    """List an archive: every file with its kind, length and sound.

    Length comes from the pictures and silence from the decoded samples, not from headers. Files that cannot be read are
    listed with the reason. The archive is only read.
    """

    archive: Archive
    out: str | None = None
    """Also write the table to this .parquet file, local or s3://."""
    num_workers: NumWorkers = None
    address: Address = None
    show: int = 200
    """Maximum number of rows to print; the totals count every file."""
    sandbox: SandboxLevel = "auto"
    selection: FileOptions = field(default_factory=FileOptions)


@dataclass
class ScanResult:
    """Result of a scan."""

    exit_code: int
    """0 all read, 1 some files failed or the listing broke off, 2 wrong usage, 130 interrupted."""
    scanned: ScanTable | None = None
    """The rows, on disk; None if the scan did not end."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row per file by path, in the columns of `pipelines.archive.scan.SCAN_SCHEMA`. Loads them into memory."""
        return self.table.to_pylist()

    @property
    def table(self) -> pa.Table:
        """The rows as an Arrow table in memory."""
        from pipelines.archive import scan

        return scan.to_table([]) if self.scanned is None else self.scanned.table()


def run(
    config: ScanConfig,
    *,
    examine: Examine | None = None,
    on_rows: Callable[[pa.Table], None] | None = None,
) -> ScanResult:
    """Scan an archive, print the table and its totals, and write it if `out` is given.

    Memory does not grow with the archive: files are read while names are listed, and rows are kept on disk.
    `on_rows` is called with rows as they arrive.
    """
    result = ScanResult(DONE)

    def body(console: Console) -> int:
        chosen, selection = selected(config)
        preflight(chosen)
        return _run(chosen, selection, console, result, examine, on_rows)

    result.exit_code = run_verb("scan", "", body, config.sandbox)
    return result


def preflight(config: ScanConfig) -> None:
    """Raises WrongUsage for an archive that cannot be read, a table that cannot be written, or wrong numbers."""
    from pipelines import storage

    at_least(config, num_workers=1)
    try:
        storage.check_readable(config.archive)
    except storage.StorageError as error:
        raise WrongUsage(str(error)) from error
    if config.out is not None:
        check_out(config.out)


def _run(
    config: ScanConfig,
    selection: Selection,
    console: Console,
    result: ScanResult,
    examine: Examine | None,
    on_rows: Callable[[pa.Table], None] | None,
) -> int:
    """Fill `result` and print it. Raises WrongUsage if not even the first name can be listed, Stopped."""
    from pipelines import storage
    from pipelines.archive.scan_table import ScanTable

    scanned, listing = ScanTable(), Listing(selection)
    try:
        for rows in _scan(config, console, listing, examine):
            scanned.add(rows)
            if on_rows is not None:
                on_rows(rows)
        scanned.close()
    except storage.StorageError as error:
        raise WrongUsage(str(error)) from error
    result.scanned = scanned
    _print_rows(console, scanned.rows(most=config.show), scanned.n, config.show)
    counted = Totals()
    for table in scanned.tables(Totals.COLUMNS):
        counted.add(table.to_pylist())
    for line in (*counted.lines(), *selection.notes()):
        console.print(line, markup=False)
    out = config.out
    if listing.error:
        so_far = f"the {scanned.n} files so far are above"
        if out:
            # Not under the name that promises the whole archive.
            out = out.removesuffix(".parquet") + ".partial.parquet"
            so_far += f" and in {out}, not in {config.out}"
        print_error("scan", f"{listing.error}\n{so_far}; run the command again to scan all files")
    if out:
        try:
            storage.put_atomic(scanned.parquet(), out)
        except storage.StorageError as error:
            raise Stopped(f"cannot write the table: {error}") from error
        console.print(f"written: {out}", markup=False)
    return SOME_FAILED if listing.error or counted.counts["failed"] else DONE


class Totals:
    """Counts and lengths of files, for the lines below the table."""

    COLUMNS = ("status", "audio_state", "duration_s", "error_class", "path", "error")

    def __init__(self) -> None:
        self.counts = dict.fromkeys(("ok", "audio_only", "not_video", "failed"), 0)
        self.seconds: dict[str, float] = {}
        self.files: dict[str, int] = {}
        self.passed_over: list[str] = []
        """Entries that were not looked at, and why: the first few."""
        self.n_passed_over = 0
        self.kinds: Counter[str] = Counter()
        """Files that hold no footage, by kind."""

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Count further rows; they need the columns `COLUMNS`."""
        from pipelines.archive.scan import NOT_LOOKED_AT, kind_passed_over

        for row in rows:
            self.counts[row["status"]] += 1
            if kind := kind_passed_over(row):
                self.kinds[kind] += 1
            if row["status"] == "not_video" and row["error_class"] == NOT_LOOKED_AT:
                self.n_passed_over += 1
                if len(self.passed_over) < PASSED_OVER_SHOWN:
                    self.passed_over.append(f"  {printable(row['path'])}: {row['error']}")
            if row["status"] == "ok":
                state = row["audio_state"]
                self.seconds[state] = self.seconds.get(state, 0.0) + row["duration_s"]
                self.files[state] = self.files.get(state, 0) + 1

    def lines(self) -> list[str]:
        """The totals as lines of text."""
        from pipelines.archive.kinds import counted
        from pipelines.archive.scan import SILENT_STATES

        n, shown = self.n_passed_over, self.passed_over
        more = [f"  ... and {n - len(shown)} more"] if n > len(shown) else []
        counts, seconds = self.counts, self.seconds
        silent_s = sum(seconds.get(state, 0.0) for state in SILENT_STATES)
        parts = [
            f"{label} {hours(seconds[state])} ({self.files[state]})"
            for state, label in (("none", "no track"), ("empty", "empty track"), ("silent", "silent track"))
            if state in self.files
        ]
        return [
            f"{sum(counts.values())} files: {counts['ok']} videos, {counts['audio_only']} sound only, "
            f"{counts['not_video']} no footage, {counts['failed']} failed",
            f"footage: {hours(sum(seconds.values()))}, of which silent: {hours(silent_s)}"
            + (f" = {', '.join(parts)}" if parts else ""),
            *([f"passed over: {counted(self.kinds)}"] if self.kinds else []),
            *([f"not looked at: {n}", *shown, *more] if n else []),
        ]


def _scan(config: ScanConfig, console: Any, listing: Listing, examine: Examine | None) -> Iterator[pa.Table]:
    """Tables of rows in the order of the listing, with a progress bar."""
    from jobs.common import ray_session
    from jobs.common.progress import Progress
    from pipelines.archive import ray_scan, thread_scan

    with Progress(console, None, doing="listing", plain=False) as progress:

        def with_progress(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
            for table in tables:
                yield table
                progress.expect(listing.n, "reading" if listing.over else "listing and reading")
                progress.advance(finished=len(table))

        names, films = iter(listing), listing.selection.films
        first = list(itertools.islice(names, FEW_FILES + 1))
        if len(first) <= FEW_FILES and config.address is None and not _ray_is_running():
            yield from with_progress(
                films(
                    first, lambda infos: thread_scan.scan_in_threads(list(infos), config.num_workers, examine)
                )
            )
            return
        with ray_session.session(config.num_workers, config.address) as resources:
            yield from with_progress(
                films(
                    itertools.chain(first, names),
                    lambda infos: ray_scan.scan_on_ray(infos, resources.cpus, examine),
                )
            )


def _ray_is_running() -> bool:
    import os

    if os.environ.get("RAY_ADDRESS"):
        return True
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _print_rows(console: Any, rows: Iterable[dict[str, Any]], n: int, show: int) -> None:
    """Print `rows`, at most `show` of the `n` there are."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file", overflow="fold", ratio=1)
    for name in ("length", "picture", "fps", "codec"):
        table.add_column(name, justify="right" if name != "codec" else "left", no_wrap=True)
    table.add_column("sound", no_wrap=True)
    table.add_column("status", overflow="fold", ratio=1)
    for row in rows:
        table.add_row(*_cells(row))
    if table.row_count:
        console.print(table, soft_wrap=False)
    if n > max(show, 0):
        console.print(f"... and {n - max(show, 0)} more files", markup=False)
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
    why = why.removeprefix("NotFootage: ")  # only the kind
    words = row["status"].replace("_", " ") if row["status"] != "audio_only" else "sound only"
    cells.append(f"{words} ({printable(why)})" if why else words)
    return [Text(cell, style=style) for cell in cells]


if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["scan", *sys.argv[1:]]))
