"""`v2a synth OUT`: render SynthFoley, a corpus with exact sound events."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import Any

from tyro.conf import Positional

from jobs.cli import DONE, command_line
from jobs.common.checks import at_least
from jobs.common.options import Address, NumWorkers
from jobs.common.verb import Stopped, WrongUsage, run_verb

STAMP = ("_v2a", "synth.json")
"""File in OUT that records which corpus it holds."""


@dataclass
class SynthConfig:
    """Render SynthFoley: short clips of 14 kinds of sound events, and a table with the exact time of each event.

    OUT gets SPLIT/CLASS/CLASS_INDEX.mp4 (train, val and test, 80/10/10) and events.parquet with one row per event. The
    same seed gives the same files on any number of workers. Run the same command again to resume, or with more --clips
    to continue the corpus.
    """

    out: Positional[str]
    """Folder or s3:// prefix for the corpus."""
    clips: int = 200
    """Number of clips; any 14 in a row hold every class once."""
    seconds: float = 8.0
    """Length of a clip, at least 1."""
    seed: int = 0
    """Random seed of the scenes."""
    strip_sound: bool = False
    """Leave out the sound track, for silent footage with known events."""
    num_workers: NumWorkers = None
    address: Address = None


def run(config: SynthConfig) -> int:
    """Render the corpus. Returns the exit code: 0 all done, 1 stopped, 2 wrong usage, 130 interrupted."""
    return run_verb("synth", command(config), lambda console: _run(config, console))


def command(config: SynthConfig) -> str:
    """The command line of this configuration."""
    return command_line("synth", config, positional=("out",))


def _run(config: SynthConfig, console: Any) -> int:
    from jobs.common import ray_session
    from jobs.common.progress import Progress
    from pipelines import storage, synthfoley
    from pipelines.synthfoley import mp4
    from pipelines.synthfoley.pipeline import render_clips

    preflight(config)
    claim(config)
    started = time.perf_counter()
    with (
        ray_session.session(config.num_workers, config.address) as resources,
        Progress(console, config.clips, doing="rendering", unit="clips") as progress,
    ):
        settings: dict[str, Any] = {
            "seed": config.seed,
            "seconds": config.seconds,
            "out": config.out,
            "strip_sound": config.strip_sound,
        }
        for _ in render_clips(config.clips, resources.cpus, **settings):
            progress.advance(finished=1)
    scenes = [synthfoley.make_scene(config.seed, i, config.seconds) for i in range(config.clips)]
    table = mp4.events_table(scenes)
    try:
        where = mp4.write_events(config.out, table)
    except storage.StorageError as error:
        raise Stopped(f"the table of events cannot be written: {error}") from error
    splits = ", ".join(f"{sum(s.split == name for s in scenes)} {name}" for name in ("train", "val", "test"))
    console.print(
        f"{config.clips} clips ({splits}), {table.num_rows} events, "
        f"{config.clips * config.seconds / 60:.1f} min in {time.perf_counter() - started:.0f} s.",
        markup=False,
    )
    console.print(f"Events: {where}", markup=False)
    return DONE


def preflight(config: SynthConfig) -> None:
    """Raises WrongUsage, with the fix, for options that make no sense or an OUT that cannot be written."""
    from pipelines import storage

    at_least(config, clips=1, seconds=1, num_workers=1)
    try:
        storage.check_writable(config.out)
    except storage.StorageError as error:
        raise WrongUsage(str(error)) from error


def claim(config: SynthConfig) -> None:
    """Record in OUT which corpus it holds. Raises WrongUsage if it holds another corpus, or other files."""
    from pipelines import storage

    identity = {"seed": config.seed, "seconds": float(config.seconds), "strip_sound": config.strip_sound}
    stamp = storage.join(config.out, *STAMP)
    most = config.clips
    try:
        if storage.exists(stamp):
            before = storage.read_object(stamp)
            if {name: before.get(name) for name in identity} != identity:
                previous = ", ".join(f"{name} {before.get(name)}" for name in identity)
                raise WrongUsage(
                    f"OUT ({config.out}) holds another corpus ({previous}); choose another folder"
                )
            most = max(most, int(before["clips"]))
            if most > config.clips:
                raise WrongUsage(
                    f"OUT ({config.out}) already has a corpus of {most} clips; "
                    f"ask for at least --clips {most}, or choose another folder"
                )
        else:
            storage.sweep_temporaries(config.out)
            for info in storage.list_tree(config.out):
                raise WrongUsage(
                    f"OUT ({config.out}) is not empty: it holds {info.path}; choose an empty folder"
                )
        storage.sweep_temporaries(config.out)
        storage.makedirs(storage.join(config.out, STAMP[0]))
        storage.write_atomic(stamp, json.dumps({**identity, "clips": most}).encode())
    except storage.StorageError as error:
        raise WrongUsage(str(error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise WrongUsage(f"{stamp} cannot be read ({error}); choose another folder") from error


if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["synth", *sys.argv[1:]]))
