"""Soak: thousands of small films through `v2a scan` and `v2a dub` with mini on two workers.

Prints files per second and the peak memory of the driver and of all processes in every tenth of the run. Bounded means
that no later tenth needs more than the second; in the first one processes start, so it takes thousands of films to say.
A run that was cut off goes on where it stopped, as any dub does; its memory is then that of the second part.

    python -m benchmarks.soak [--files 10000] [--seconds 2] [--work FOLDER]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.dub_speed import memory
from pipelines import synthfoley
from pipelines.synthfoley import mp4

KINDS = 64
"""Different films; each of the rest is one of them under a name of its own."""
LIMIT = 1.2
"""Times the second tenth's peak."""


def make_archive(folder: Path, files: int, seconds: float) -> Path:
    """Silent films of 160x90 in folders of 500."""
    kinds = []
    for kind in range(min(KINDS, files)):
        scene = synthfoley.make_scene(11, kind, seconds, width=160, height=90, fps=25.0)
        kinds.append(mp4.encode(scene, strip_sound=True))
    for number in range(files):
        target = folder / f"{number // 500:03d}" / f"clip {number:05d}.mp4"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(kinds[number % len(kinds)])
    return folder


def watched(
    command: list[str], count: Path | None, every_s: float = 5.0
) -> Iterator[tuple[float, int, int, int]]:
    """Runs a command: (seconds, films whose sound is written, driver, all processes) every few seconds."""

    def done() -> int:
        return sum(1 for _ in count.rglob("*.mp4")) if count is not None and count.exists() else 0

    started = time.monotonic()
    job = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL)
    while True:
        sizes = memory(job.pid)
        yield time.monotonic() - started, done(), max(sizes[:1], default=0), sum(sizes)
        try:
            job.wait(every_s)
            break
        except subprocess.TimeoutExpired:
            pass
    yield time.monotonic() - started, done(), 0, 0
    if job.returncode:
        raise SystemExit(f"{command[0]} ended with {job.returncode}")


def soak(work: Path, files: int, seconds: float) -> bool:
    """Prints the figures; whether memory is bounded."""
    archive = make_archive(work / f"archive-{files}", files, seconds)
    samples = list(watched(["jobs.scan", str(archive), "--out", str(work / "scan.parquet")], None))
    print(
        f"scan: {files / samples[-1][0]:.1f} files/s, driver {max(row[2] for row in samples) / 2**20:.0f} MiB",
        flush=True,
    )
    out = work / f"dubbed-{files}"
    options = ["--num-workers", "2", "--tracking-uri", "off"]
    samples = list(watched(["jobs.dub", str(archive), str(out), *options], out))
    with (work / "soak.json").open("w") as file:
        json.dump(samples, file)
    summary = json.loads((out / "_v2a" / "summary.json").read_text())
    counts = ", ".join(
        f"{summary[f'files_{status}']:,} {status}" for status in ("dubbed", "skipped", "failed")
    )
    fresh = samples[-1][1] - samples[0][1]
    print(
        f"dub: {counts}; {fresh:,} of them in this run, in {summary['elapsed_s']:.0f} s, "
        f"{fresh / summary['elapsed_s']:.2f} files/s",
        flush=True,
    )
    peaks = []
    print("| tenth | until s | driver MiB | all processes GiB |\n|---|---|---|---|")
    for tenth in range(10):
        rows = samples[
            len(samples) * tenth // 10 : max(len(samples) * (tenth + 1) // 10, len(samples) * tenth // 10 + 1)
        ]
        peaks.append(max(row[3] for row in rows))
        driver = max(row[2] for row in rows) / 2**20
        print(f"| {tenth + 1} | {rows[-1][0]:.0f} | {driver:.0f} | {peaks[-1] / 2**30:.2f} |")
    growth = max(peaks[2:]) / peaks[1]
    print(f"{growth:.2f} times the second tenth (limit {LIMIT:g})")
    return growth <= LIMIT


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a film")
    parser.add_argument("--work", type=Path, help="where films and sounds are kept for the next time")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        free = shutil.disk_usage(work.parent if not work.exists() else work).free
        if free < args.files * 200_000:
            raise SystemExit(
                f"{args.files} films and their sounds need about {args.files * 200_000 / 1e9:.0f} GB"
            )
        work.mkdir(parents=True, exist_ok=True)
        return 0 if soak(work, args.files, args.seconds) else 1


if __name__ == "__main__":
    sys.exit(main())
