"""`v2a caption ARCHIVE --out captions.parquet`: describe what each film should sound like."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from jobs.cli import DONE, SOME_FAILED, command_line
from jobs.common.options import Address, Archive, FileOptions, Note, NumWorkers
from jobs.common.verb import WrongUsage, run_verb

BUNDLED = "vatt-mini"
"""Bundled model that writes captions."""

if TYPE_CHECKING:
    from rich.console import Console


@dataclass
class CaptionConfig:
    """Describe in words what the films of an archive should sound like: a table with one row per window, and a page.

    ARCHIVE is only read. Every file is in the table at least once: captioned, skipped or failed, and why. The page,
    TABLE.html beside it, shows a frame of each film with its captions, and searches films by them.
    """

    archive: Archive
    out: Annotated[str, Note(metavar="TABLE")]
    """Table to write: a .parquet file outside the archive, local or s3://."""
    model: str = BUNDLED
    """Captioning model, a vatt or a vatt-converter: a folder made by `v2a train`, or a bundled name."""
    windows: int = 1
    """Captions per film: windows of the model's length, evenly spaced."""
    beams: int = 1
    """Beam width of the search for a caption; 1 takes the likeliest word each time."""
    num_workers: NumWorkers = None
    address: Address = None
    selection: FileOptions = field(default_factory=FileOptions)


def command(config: CaptionConfig) -> str:
    """The command line of this configuration."""
    return command_line("caption", config, positional=("archive",))


def run(config: CaptionConfig) -> int:
    """Write the table. Returns the exit code: 0 done, 1 some files failed, 2 wrong usage, 130 interrupted."""
    return run_verb("caption", command(config), lambda console: _run(config, console))


def page_of(table: str) -> str:
    """Place of the page beside a table."""
    return table.removesuffix(".parquet") + ".html"


def _run(config: CaptionConfig, console: Console) -> int:
    from jobs.common import ray_session
    from jobs.common.checks import at_least, check_file, check_out, full_address, is_narrow, selected
    from jobs.common.models import check_captioner, model_place
    from pipelines import storage
    from pipelines.archive.ray_scan import scan_rows
    from pipelines.captions import captioning
    from pipelines.reports import caption_pages

    at_least(config, windows=1, beams=1, num_workers=1)
    out = full_address(config.out)
    config, selection = selected(config)
    try:
        storage.check_readable(config.archive)
        if storage.is_within(config.archive, out) and not is_narrow(config):
            raise WrongUsage(f"--out ({config.out}) lies inside ARCHIVE; choose a place outside")
        check_out(out)
        check_file(page_of(out))
        check_captioner(config.model)
    except (storage.StorageError, ValueError) as error:
        raise WrongUsage(str(error)) from error
    settings = {"model": model_place(config.model), "windows": config.windows, "beams": config.beams}
    with ray_session.session(config.num_workers, config.address) as resources:
        films = scan_rows(selection, resources.cpus)
        rows = captioning.run(films, captioning.Captioner, settings, resources.cpus) if films else []
    rows.sort(key=lambda row: (row["path"], row["start_s"]))
    captioning.write(out, rows, captioning.CAPTION_SCHEMA)
    states = Counter({row["path"]: row["status"] for row in rows}.values())
    counts = ", ".join(f"{states[name]} {name}" for name in ("captioned", "skipped", "failed"))
    summary = f"{len(films)} files: {counts}"
    frames = {row["path"]: row["frame"] for row in rows if row.get("frame")}
    model = config.model.rstrip("/").rpartition("/")[2]
    page = caption_pages.captions_html(rows, frames, archive=config.archive, model=model, summary=summary)
    place = page_of(out)
    storage.write_atomic(place, page.encode("utf-8", "backslashreplace"))
    console.print(
        "\n".join([f"{summary}. Table: {config.out}, page: {place}", *selection.notes()]), markup=False
    )
    return SOME_FAILED if states["failed"] else DONE


if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["caption", *sys.argv[1:]]))
