"""Cost of an hour of footage, stage by stage, and of an archive on N nodes.

    python -m benchmarks.scaling [--minutes 2] [--nodes 1 10 100 1000] [--cores 8]

Scan, decode, generate (`mini`, one thread) and finish run one after the other in this process and its sandbox, without
Ray, so that the processor time of each is its own. Processor time, not time on the wall: other work on the machine
changes it little. The last line lets one, then two processes decode the same film at the same time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

ARCHIVE_HOURS = 10_000
SEGMENT_S = 60.0

DECODE = """
import sys
from pipelines.sandbox.decoder import Sandbox, View
with Sandbox(threads=1) as sandbox:
    sandbox.probe(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    ends = [float(k) for k in range(4, int(float(sys.argv[2])) + 1, 4)]
    for _ in sandbox.iter_views(sys.argv[1], [View(25, 224, 224), View(8, 224, 224)], 0.0, ends):
        pass
    print("done", flush=True)
"""
"""A process that decodes a film as `v2a dub` does, once it is told to."""


def cpu_s() -> float:
    """Processor seconds of this process and its living children."""
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


class Costs:
    """Processor seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def of(self, stage: str) -> Iterator[None]:
        before = cpu_s()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + cpu_s() - before


def stages(root: Path, minutes: float) -> tuple[dict[str, float], dict[str, float]]:
    """(processor seconds, bytes) per hour of footage, by stage and by kind."""
    import torch

    from jobs.dub import DubConfig
    from jobs.dub.preflight import make_job
    from pipelines import storage, synthfoley
    from pipelines.archive import scan
    from pipelines.dub.decode import decode_task
    from pipelines.dub.finish import finish_item
    from pipelines.dub.generate.dubber import Dubber
    from pipelines.dub.plan import make_plan
    from pipelines.sandbox.decoder import Sandbox
    from pipelines.synthfoley import mp4

    torch.set_num_threads(1)
    scene = synthfoley.make_scene(7, 0, minutes * 60, width=640, height=360, fps=25.0)
    film = root / "archive" / "film.mp4"
    film.parent.mkdir()
    film.write_bytes(mp4.encode(scene, strip_sound=True))
    out = root / "out"
    job = make_job(DubConfig(str(film.parent), str(out), segment_s=SEGMENT_S), None)
    dubber = Dubber(job)
    costs, parts = Costs(), 0
    with Sandbox(threads=1) as sandbox:
        sandbox.probe(str(film))  # the child's own start is nobody's cost
        with costs.of("scan"):
            [row] = [scan.scan_file(info, sandbox) for info in storage.list_tree(str(film.parent))]
        plan = make_plan(job, [row], "silent")
        for task in plan.tasks:
            with costs.of("decode"):
                item = decode_task(task, job, sandbox)
            with costs.of("generate"):
                [item] = dubber.generate([item])
            parts += item.arrays["sound"].nbytes + item.arrays["thumbs"].nbytes
            with costs.of("finish"):
                finished = finish_item(item, job)
    assert finished is not None and finished["status"] == "dubbed", finished
    hours = row["duration_s"] / 3600
    weights = {
        "archive": film.stat().st_size,
        "dubbed": (out / finished["output"]).stat().st_size,
        "parts (for a while)": parts,
    }
    return {k: v / hours for k, v in costs.seconds.items()}, {k: v / hours for k, v in weights.items()}


def abreast(film: Path, seconds: float, n: int) -> float:
    """Seconds on the wall that `n` processes need to decode the film, each for itself and all at once."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers: list[Any] = [
        subprocess.Popen(
            [sys.executable, "-c", DECODE, str(film), str(seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )
        for _ in range(n)
    ]  # fmt: skip
    for worker in workers:
        worker.stdout.readline()
    started = time.perf_counter()
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.stdout.readline()
    passed = time.perf_counter() - started
    for worker in workers:
        worker.wait()
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--cores", type=int, default=8, help="of a node")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        seconds, sizes = stages(Path(scratch), args.minutes)
        total = sum(seconds.values())
        print(
            f"per hour of 640x360 footage, from {args.minutes:g} minutes of it, load {os.getloadavg()[0]:.1f}"
        )
        for stage, cost in seconds.items():
            print(f"  {stage:10s} {cost:8.0f} core-seconds  {cost / total:4.0%}")
        print(f"  {'all':10s} {total:8.0f} core-seconds, {total / 3600:.2f} core-hours")
        for kind, size in sizes.items():
            print(f"  {kind:20s} {size / 1e9:6.2f} GB")
        print(f"{ARCHIVE_HOURS} hours: {ARCHIVE_HOURS * total / 3600:.0f} core-hours")
        for nodes in args.nodes:
            hours = ARCHIVE_HOURS * total / 3600 / (nodes * args.cores)
            read = 3 * ARCHIVE_HOURS * sizes["archive"] / (hours * 3600)
            print(f"  {nodes:5d} nodes of {args.cores} cores: {hours:8.1f} h, reading {read / 1e9:.2f} GB/s")
        film = Path(scratch) / "archive" / "film.mp4"
        one, two = (abreast(film, args.minutes * 60, n) for n in (1, 2))
        print(f"decoding: one process {one:.1f} s, two at once {two:.1f} s: {2 * one / two:.2f} x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
