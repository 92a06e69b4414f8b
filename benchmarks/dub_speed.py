"""Speed of `v2a dub`, and memory of the whole job, on ten minutes of 360p footage.

Prints times real time of the dub itself (Ray's start apart, as the job reports it) and of the whole command, the
peak of all its processes' memory (PSS, so that shared pages count once), and the limits they are compared with:
2x real time (3x with `vatt-mini`) and 4 GiB on 2 cores. Loading the model is part of the dub.

    python -m benchmarks.dub_speed [--minutes 10] [--files 5] [--num-workers 2]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from pipelines import synthfoley
from pipelines.synthfoley import mp4


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--files", type=int, default=5)
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument("--model", default="mini")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        seconds = args.minutes * 60 / args.files
        for index in range(args.files):
            scene = synthfoley.make_scene(7, index, seconds, width=640, height=360, fps=25.0)
            target = root / "archive" / f"film_{index}.mp4"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(mp4.encode(scene, strip_sound=True))
        out = root / "dubbed"
        started = time.monotonic()
        job = subprocess.Popen(
            [sys.executable, "-m", "jobs.dub", str(root / "archive"), str(out), "--num-workers",
             str(args.num_workers), "--model", args.model, "--tracking-uri", "off"],
            stdout=sys.stderr,
        )  # fmt: skip
        peak = watch(job)
        wall = time.monotonic() - started
        if job.wait():
            raise SystemExit(f"v2a dub ended with {job.returncode}")
        footage = args.minutes * 60
        facts = json.loads((out / "_v2a" / "summary.json").read_text())
    limit = 3 if args.model == "vatt-mini" else 2
    print(f"{args.model}, {footage:.0f} s of 640x360 in {args.files} files, {args.num_workers} workers")
    print(f"dub: {facts['elapsed_s']:.1f} s, {footage / facts['elapsed_s']:.2f}x real time (limit: {limit}x)")
    print(f"whole command with Ray's start and the scan: {wall:.1f} s, {footage / wall:.2f}x real time")
    print(f"peak memory of all processes: {peak / 2**30:.2f} GiB (limit: 4 GiB)")
    return 0


def watch(job: subprocess.Popen[bytes]) -> int:
    """Peak bytes of the job and everything it started, until it ends.

    To count a gigabyte of pages takes the kernel a tenth of a second: a look every half second took a quarter of a core
    from what it measured. The rest after each look keeps that to a fortieth.
    """
    peak, rest = 0, 0.5
    ended = threading.Event()
    threading.Thread(target=lambda: (job.wait(), ended.set()), daemon=True).start()
    while not ended.wait(rest):
        started = time.thread_time()
        peak = max(peak, sum(memory(job.pid)))
        rest = max(0.5, 40 * (time.thread_time() - started))
    return peak


def memory(pid: int) -> list[int]:
    """Bytes (PSS: shared pages count once) of a process, and of each that it started; none once it has ended."""
    sizes = []
    with contextlib.suppress(psutil.Error):
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            with contextlib.suppress(psutil.Error, OSError):
                sizes.append(process.memory_full_info().pss)
    return sizes


if __name__ == "__main__":
    sys.exit(main())
