"""`v2a instruct STORE --out FILE.parquet`: instructions about a store's clips, with captions as the answers."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional

from jobs.cli import DONE, command_line
from jobs.common.checks import at_least, check_out
from jobs.common.models import check_captioner, model_place
from jobs.common.options import Address, Note, NumWorkers
from jobs.common.verb import WrongUsage, run_verb

if TYPE_CHECKING:
    from rich.console import Console


@dataclass
class InstructConfig:
    """Write a V2A Instruction table for a feature store: rows of clip, instruction, caption and split.

    Captions are paraphrases of the store's texts and labels, and come from a table of events and a captioning model as
    well. No clip has a caption twice, and every row has its clip's split. The same command gives the same table.
    """

    store: Positional[str]
    """Feature store made by `v2a extract`: a folder or s3://bucket/prefix."""
    out: Annotated[str, Note(metavar="TABLE")]
    """Table to write: a .parquet file, local or s3://."""
    captions: int = 4
    """Maximum number of rows per clip."""
    events: str | None = None
    """Table of events (.parquet or .csv), such as SynthFoley's events.parquet, for captions that count sounds."""
    model: str = ""
    """Model to caption with as well: a vatt or a vatt-converter, by name or folder."""
    seed: int = 0
    """Random seed of the wording."""
    num_workers: NumWorkers = None
    address: Address = None


def command(config: InstructConfig) -> str:
    """The command line of this configuration."""
    return command_line("instruct", config, positional=("store",))


def run(config: InstructConfig) -> int:
    """Write the table. Returns the exit code: 0 done, 1 stopped, 2 wrong usage, 130 interrupted."""
    return run_verb("instruct", command(config), lambda console: _run(config, console))


def _run(config: InstructConfig, console: Console) -> int:
    from jobs.common import ray_session
    from jobs.common.checks import full_address
    from pipelines.captions import captioning, instructions
    from pipelines.store.store import Store, StoreError

    check_out(config.out)
    at_least(config, captions=1, num_workers=1)
    store = Store(full_address(config.store))
    try:
        recipe = store.recipe()
        items = [{"file": info.path} for info in store.files()]
        if not items:
            raise WrongUsage(f"{config.store} holds no rows yet; run v2a extract first")
        if config.model:
            check_captioner(config.model, recipe)
        instructions.check_splits(_videos(store))
    except (StoreError, ValueError) as error:
        raise WrongUsage(str(error)) from error
    job = captioning.InstructJob(
        store.root, config.captions, config.seed, onsets_of(config.events), model_place(config.model)
    )
    if len(items) <= captioning.FEW:
        rows = captioning.run(items, captioning.Instructor, {"job": job}, 1)
    else:
        with ray_session.session(config.num_workers, config.address) as resources:
            rows = captioning.run(items, captioning.Instructor, {"job": job}, resources.cpus)
    if not rows:
        raise WrongUsage(
            f"{config.store} holds no texts or labels: extract it with --labels, or give --events or --model"
        )
    rows.sort(key=lambda row: (row["clip_id"], row["instruction"], row["caption"]))
    captioning.write(full_address(config.out), rows, instructions.ROW_SCHEMA)
    sources = Counter(row["source"] for row in rows)
    counts = ", ".join(f"{n} from {source}" for source, n in sources.most_common())
    console.print(
        f"{len(rows)} rows of {len({row['clip_id'] for row in rows})} clips ({counts}): {config.out}",
        markup=False,
    )
    return DONE


def onsets_of(table: str | None) -> dict[str, list[float]] | None:
    """Onsets in seconds by path of the clip; None without a table. Raises WrongUsage."""
    if table is None:
        return None
    from pipelines import storage
    from pipelines.scoring.event_tables import EventTableError, event_rows

    try:
        rows = event_rows(table)
    except (EventTableError, storage.StorageError) as error:
        raise WrongUsage(f"cannot use --events: {error}") from error
    return {
        clip: [float(row["onset_s"]) for row in events if row["onset_s"] is not None]
        for clip, events in rows.items()
    }


def _videos(store: Any) -> list[tuple[str, str]]:
    """(video, split) of every video in the store, whose small columns are all read. Raises StoreError."""
    from pipelines.captions.captioning import FACTS
    from pipelines.store.small_columns import small_columns

    videos = []
    for info in store.files():
        split = info.path.split("/", 1)[0].removeprefix("split=")
        column = small_columns(info, FACTS)["video_id"]
        videos += [(video, split) for video in set(column.to_pylist())]
    return videos


if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["instruct", *sys.argv[1:]]))
