"""Speed and memory of `v2a evaluate`.

Writes clips of coloured noise with clicks (1,000 of 8 s by default), the same ones a little changed, and a table of
events, then runs the real command with everything that needs no weights; prints seconds, processor seconds (which say
more where the cores are shared), and the peak memory of the command with all its processes.

    python -m benchmarks.scoring [--clips 1000] [--seconds 8] [--baselines]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from pipelines.scoring.sound_folder import wav_bytes
from v2a_models import grid


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--baselines", action="store_true", help="score the baselines too (codec apart)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        write(work, args.clips, args.seconds)
        seconds, busy_s, peak = measure(work, args.baselines)
    rate = args.clips * args.seconds / seconds
    print(
        f"{args.clips} clips of {args.seconds:g} s{', with baselines' if args.baselines else ''}: {seconds:.0f} s "
        f"({rate:.0f} x real time), {busy_s:.0f} processor seconds, peak of all processes {peak / 2**30:.2f} GiB"
    )
    return 0


def write(work: Path, clips: int, seconds: float) -> None:
    """The two folders and the table of events."""
    n, rows = grid.samples(seconds, grid.SAMPLE_RATE), [["clip", "onset_s", "strength"]]
    for folder in ("ref", "pred"):
        (work / folder).mkdir()
    beds = [np.convolve(np.random.default_rng(k).normal(size=n), np.ones(8) / 8, "same") for k in range(8)]
    for number in range(clips):
        rng = np.random.default_rng(number)
        sound = 0.02 * np.roll(beds[number % len(beds)], int(rng.integers(0, n)))
        for onset_s in np.sort(rng.uniform(0.2, seconds - 0.5, 6)):
            strength, at = rng.uniform(0.2, 1.0), int(onset_s * grid.SAMPLE_RATE)
            decay = np.exp(-np.arange(4000) / 800) * rng.normal(size=4000)
            sound[at : at + 4000] += 0.5 * strength * decay[: len(sound[at : at + 4000])]
            rows.append([f"{number:05}.wav", f"{onset_s:.4f}", f"{strength:.3f}"])
        changed = np.roll(sound, int(rng.integers(0, 900))) + 0.01 * beds[(number + 1) % len(beds)]
        for folder, samples in (("ref", sound), ("pred", changed)):
            (work / folder / f"{number:05}.wav").write_bytes(wav_bytes(samples.astype(np.float32)))
    with (work / "events.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def measure(work: Path, baselines: bool) -> tuple[float, float, int]:
    """Seconds of the command, processor seconds, and peak memory (proportional set size) of all its processes."""
    command = [
        sys.executable,
        "-m",
        "jobs.evaluate",
        str(work / "pred"),
        str(work / "ref"),
        "--out",
        str(work / "out"),
    ]
    command += ["--events", str(work / "events.csv"), "--fps", "25", "--codec", "none", "--networks"]
    command += [] if baselines else ["--no-baselines"]
    started = time.perf_counter()
    job = subprocess.Popen(command, stdout=sys.stderr)
    peak, busy, ended = 0, {}, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.5):
            memory, seconds = _usage(job.pid)
            peak = max(peak, memory)
            busy.update(seconds)

    monitor = threading.Thread(target=watch)
    monitor.start()
    code = job.wait()
    ended.set()
    monitor.join()
    if code:
        raise SystemExit(f"v2a evaluate ended with {code}")
    return time.perf_counter() - started, sum(busy.values()), peak


def _usage(pid: int) -> tuple[int, dict[int, float]]:
    """Bytes of a process and its children, and the processor seconds of each so far."""
    memory, seconds = 0, {}
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                memory += process.memory_full_info().pss
                times = process.cpu_times()
                seconds[process.pid] = times.user + times.system
    return memory, seconds


if __name__ == "__main__":
    sys.exit(main())
