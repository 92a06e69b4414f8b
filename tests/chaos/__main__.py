"""Faults into `v2a dub` until it has had enough of them: `python -m tests.chaos --faults 200`.

A round dubs an archive on an S3 server, on a Ray cluster of two nodes, into a new output. While it runs, processes are
killed and requests fail, one fault soon after the other; what and when follow from the seed. Then the same command runs
again, undisturbed, until it says that all is done. Every file must be there once, byte for byte as in a run that nobody
disturbed, nothing unfinished may have been visible at any moment, and nothing temporary may be left.

Records of the run are torn as well, and sources go away for a moment: what cannot be read must be set aside and made
again. Some faults take a folder instead of the S3 server, and a round of their own: a disk that is full, films that
end or stop every decoder that opens them. `--kinds` chooses, `--keep FOLDER` keeps the log of every run. However the
campaign ends, by Ctrl-C and `--minutes` too, it prints what it has found so far.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos.folders import bad_films, full_disk
from tests.chaos.kinds import FILMS, KINDS, OFTEN, Summary
from tests.chaos.world import BUCKET, World


def campaign(
    faults: int, seed: int, *, kinds: Sequence[str] = KINDS, films: int = 8, per_round: int = 10,
    keep: Path | None = None, summary: Summary | None = None,
) -> Summary:  # fmt: skip
    """Rounds until so many faults are injected. `summary` is filled on the way, so that it holds something whenever
    the campaign is stopped."""
    summary = Summary() if summary is None else summary
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="v2a-chaos-") as folder,
        World(Path(folder), films, seed, mlflow="mlflow" in kinds, summary=summary) as world,
    ):
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
            summary.seconds, summary.busy_s = time.monotonic() - started, world.busy_s()
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(folder) / "log.txt", keep / f"log-{seed}.txt")
    return summary


class TimeIsUp(BaseException):
    """The time of the campaign is over, whatever it is doing."""


@contextlib.contextmanager
def within(minutes: float) -> Iterator[None]:
    """Raises TimeIsUp in the block after so long, and KeyboardInterrupt for SIGTERM too."""

    def over(*_: object) -> None:
        raise TimeIsUp

    before = {
        signal.SIGALRM: signal.signal(signal.SIGALRM, over),
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.default_int_handler),
    }
    signal.setitimer(signal.ITIMER_REAL, minutes * 60)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 nothing was lost, 1 something was, 130 interrupted. The summary is printed in any case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--films", type=int, default=8)
    parser.add_argument("--per-round", type=int, default=10, help="faults into one output")
    parser.add_argument(
        "--minutes", type=float, default=180.0, help="end after so long, whatever was injected"
    )
    parser.add_argument("--keep", type=Path, help="folder for the log of all runs")
    given = parser.parse_args(arguments)
    summary, code = Summary(stopped="an error of the campaign itself"), 0
    try:
        with within(given.minutes):
            campaign(
                given.faults, given.seed, kinds=given.kinds, films=given.films, per_round=given.per_round,
                keep=given.keep, summary=summary,
            )  # fmt: skip
        summary.stopped = ""
    except TimeIsUp:
        summary.stopped = f"--minutes {given.minutes:g} are over"
    except KeyboardInterrupt:
        summary.stopped, code = "interrupted", 130
    finally:
        print("\n".join(summary.lines()), flush=True)
    return code or int(summary.bad)


if __name__ == "__main__":
    sys.exit(main())
