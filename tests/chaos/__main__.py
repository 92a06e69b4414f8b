"""Faults into `v2a dub` until it has had enough of them: `python -m tests.chaos --faults 200`.

A round dubs an archive on an S3 server, on a Ray cluster of two nodes, into a new output. While it runs, processes are
killed and requests fail, one fault soon after the other; what and when follow from the seed. Then the same command runs
again, undisturbed, until it says that all is done. Every file must be there once, byte for byte as in a run that nobody
disturbed, nothing unfinished may have been visible at any moment, and nothing temporary may be left.

Some faults take a folder instead of the S3 server, and a round of their own: a disk that is full, films that end or
stop every decoder that opens them. `--kinds` chooses, `--keep FOLDER` keeps the log of every run.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.folders import bad_films, full_disk
from tests.chaos.kinds import FILMS, KINDS, OFTEN, Summary
from tests.chaos.world import BUCKET, World


def campaign(
    faults: int, seed: int, *, kinds: Sequence[str] = KINDS, films: int = 8, per_round: int = 10, hours: float = 3.0,
    keep: Path | None = None,
) -> Summary:  # fmt: skip
    """Rounds until so many faults are injected, or the time is over."""
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="v2a-chaos-") as folder,
        World(Path(folder), films, seed, mlflow="mlflow" in kinds) as world,
    ):
        summary = world.summary
        try:
            world.finish(f"s3://{BUCKET}/films", f"s3://{BUCKET}/whole")
            whole = world.dubbed("whole")
            assert len(whole) == films, summary.lost
            if bad := [kind for kind in FILMS if kind in kinds]:
                bad_films(world, bad)
            # Every kind in turn, in an order of the seed's, so that a short campaign has seen them all.
            turns = [kind for kind in kinds if kind not in FILMS]
            order: list[str] = []
            while turns and sum(summary.injected.values()) < faults:
                if time.monotonic() - started > hours * 3600:
                    break
                if not order:
                    more = [kind for kind in turns for _ in range(OFTEN[kind] - 1)]
                    # Taken from the end.
                    order = world.rng.sample(more, len(more)) + world.rng.sample(turns, len(turns))
                chosen = [order.pop() for _ in range(min(per_round, len(order)))]
                for _ in range(chosen.count("disk-full")):
                    full_disk(world)
                if rest := [kind for kind in chosen if kind != "disk-full"]:
                    order += world.round(rest, whole)
                summary.seconds = time.monotonic() - started
                print(
                    f"{sum(summary.injected.values())} faults in {summary.seconds:.0f} s, "
                    f"{len(summary.lost)} lost", file=sys.stderr, flush=True,
                )  # fmt: skip
        finally:
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(folder) / "log.txt", keep / f"log-{seed}.txt")
        summary.seconds, summary.busy_s = time.monotonic() - started, world.busy_s()
        return summary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--films", type=int, default=8)
    parser.add_argument("--per-round", type=int, default=10, help="faults into one output")
    parser.add_argument("--hours", type=float, default=3.0, help="end after so long, whatever was injected")
    parser.add_argument("--keep", type=Path, help="folder for the log of all runs")
    given = parser.parse_args()
    summary = campaign(
        given.faults, given.seed, kinds=given.kinds, films=given.films, per_round=given.per_round,
        hours=given.hours, keep=given.keep,
    )  # fmt: skip
    print("\n".join(summary.lines()))
    return 1 if summary.bad else 0


if __name__ == "__main__":
    sys.exit(main())
