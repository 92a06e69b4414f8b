"""Long films: cost and joins of two waves, speed on still footage, memory, mux, and equal samples on any workers.

joins     the same film by two waves, by crossfades and by windows that are simply put end to end: jump of the sound
          at joins over that within windows (limit 1.05), and cost against independent windows (limit 1.15), put
          end to end without a look at cuts
cost      processor seconds of every stage per hour of moving film and of CCTV, in one process
speed     an hour of moving film and an hour of CCTV through `v2a dub` (limits 2.5 and 20 x real time on two cores)
workers   the same film by two workers and by one: equal samples, and × real time of both
memory    ten hours of CCTV against ten minutes: peak of all processes (limit 1.2 times)
mux       a film of two hours: processor seconds of joining, coding and copying (limit 30 s), bytes read and written

python -m benchmarks.longform joins [--minutes 10] [--varied] [--footage FOLDER] [--work FOLDER]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

from benchmarks import films
from benchmarks.dub_speed import watch


def link(film: Path, folder: Path) -> Path:
    """An archive of that film alone."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / film.name
    if not place.exists():
        os.link(film, place)
    return folder


def dub(film: Path, out: Path, *options: str) -> tuple[dict[str, Any], int]:
    """`v2a dub` of a film by the real command: its figures, and the peak bytes of all its processes."""
    archive = link(film, out.parent / f"archive-{film.stem}")
    command = [sys.executable, "-m", "jobs.dub", str(archive), str(out), "--tracking-uri", "off", *options]
    job = subprocess.Popen(command, stdout=sys.stderr)
    peak = watch(job)
    if job.wait():
        raise SystemExit(f"v2a dub ended with {job.returncode}")
    return json.loads((out / "_v2a" / "summary.json").read_text()), peak


def row_of(out: Path) -> dict[str, Any]:
    """The report's row of the one film."""
    import pyarrow.parquet as pq

    [row] = pq.read_table(out / "_v2a" / "report.parquet").to_pylist()
    return row


# joins


def joins(film: Path, work: Path) -> None:
    """Prints the table of the ways in which windows can meet."""
    import torch

    from jobs.dub import DubConfig
    from jobs.dub.config import FilmOptions
    from jobs.dub.preflight import make_job
    from pipelines.archive import scan
    from pipelines.sandbox.decoder import Sandbox

    torch.set_num_threads(1)
    ways = {
        "two waves": FilmOptions(static="generate"),
        "two waves, --scenes off": FilmOptions(static="generate", scenes="off"),
        "crossfade": FilmOptions(joins="crossfade"),
        "end to end": FilmOptions(joins="crossfade"),
    }
    jobs = {}
    with Sandbox(threads=1) as sandbox:
        root = link(film, work / f"archive-{film.stem}")
        [row] = scan.scan(str(root), sandbox)
        for name, options in ways.items():
            jobs[name] = make_job(DubConfig(str(root), str(work / "joins"), film=options), None)
        jobs["end to end"] = dataclasses.replace(jobs["end to end"], overlap=0)
        # Segment by segment in turns: what else the machine does meanwhile makes all of them as much slower.
        pending, films = (
            {name: generate_film(row, job, sandbox) for name, job in jobs.items()},
            dict[str, GeneratedFilm](),
        )
        started, turns = time.perf_counter(), 0
        while pending:
            for name, going in list(pending.items()):
                if (film_sound := next(going)) is not None:
                    films[name] = film_sound
                    del pending[name]
            turns += 1
            print(
                f"{turns} segments of each, {time.perf_counter() - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    plain = films["end to end"].seconds
    print(f"{row['duration_s'] / 60:.1f} minutes, mini, one core")
    print(
        "| | jump of level at joins, over that within windows | of spectrum | level, paired | spectrum | joins | cost "
        "| drawn, over what is heard |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in ways:
        film_of = films[name]
        # Joins may fall on events, whoever makes the sound: the same moments of a sound whose windows meet elsewhere.
        other = films["crossfade" if name.startswith("two") else "two waves, --scenes off"]
        figures = [*film_of.over_within(), *film_of.over(other)]
        cells = " | ".join(f"{figure:.2f}" for figure in figures)
        over = film_of.generated / len(film_of.sound)
        print(
            f"| {name} | {cells} | {len(film_of.joins)} | {film_of.seconds / plain:.2f} | {over:.2f} |",
            flush=True,
        )


@dataclasses.dataclass
class GeneratedFilm:
    """The sound of a film, float32 [n], and the samples at which its windows meet."""

    sound: np.ndarray
    joins: np.ndarray
    rate: int
    seconds: float
    """Processor seconds to generate it."""
    generated: int
    """Samples of all windows that the model was asked for."""

    def jumps(self, moments: np.ndarray) -> np.ndarray:
        """Mean jump of level and of spectrum at moments."""
        from v2a_models.metrics import seams

        jumps = seams.jumps(self.sound, moments, self.rate)
        return np.array([jumps.level.mean(), jumps.spectrum.mean()])

    def over_within(self) -> np.ndarray:
        """Jumps at its joins over those within its windows."""
        from v2a_models.metrics import seams

        return self.jumps(self.joins) / self.jumps(seams.inside(len(self.sound), self.joins))

    def over(self, other: GeneratedFilm) -> np.ndarray:
        """Jumps at its joins over those of another sound of the film at the same moments, within that one's windows."""
        from v2a_models.metrics import seams

        far = np.array([abs(int(at) - other.joins).min() >= 2 * seams.SPAN for at in self.joins])
        return self.jumps(self.joins[far]) / other.jumps(self.joins[far])


def generate_film(row: dict[str, Any], job: Any, sandbox: Any) -> Iterator[GeneratedFilm | None]:
    """A film by a job in this process: None after every segment, and then all of it."""
    from pipelines.dub import plan, segments
    from pipelines.dub.decode import decode_task
    from pipelines.dub.generate.dubber import Dubber

    dubber, parts, seconds, generated = Dubber(job), list[np.ndarray](), 0.0, 0
    joins = set[int]()
    for task in plan.make_plan(job, [row], "silent", restart=True, dry_run=True).tasks:
        item = decode_task(task, job, sandbox)
        n, meetings = _meetings(item, job)
        generated, joins = generated + n, joins | meetings
        started = time.process_time()
        [item] = dubber.generate([item])
        seconds += time.process_time() - started
        if item.failure:
            raise SystemExit(item.failure.message)
        parts.append(item.arrays["sound"])
        yield None
    sound = np.concatenate(list(segments.join(parts, job.overlap)), 1)[0].astype(np.float32) / 32767
    yield GeneratedFilm(sound, np.array(sorted(joins)), job.rate, seconds, generated)


def _meetings(item: Any, job: Any) -> tuple[int, set[int]]:
    """Samples of all windows of an item, and those of the film at which windows of one shot meet."""
    from pipelines.dub.generate.token_canvas import TokenCanvas
    from v2a_models import grid

    segment = item.task.segment
    if job.layout is None:
        hop = job.window - job.overlap
        middles = {segment.start + k * hop + job.overlap // 2 for k in range(1, segment.n_windows)}
        return segment.n_windows * job.window, middles
    canvas = TokenCanvas(item, job.layout)
    joins = {
        segment.start + (a.keep[1] - canvas.segment_frames.start) * grid.HOP
        for a, b in pairwise(canvas.windows)
        if a.shot == b.shot
    }
    return sum(window.samples for window in canvas.windows), joins


# the rest


def cost(work: Path, minutes: float, footage: Path | None) -> None:
    """Prints processor seconds per hour, and what two cores would make of that."""
    import torch

    from benchmarks.scaling import Costs
    from jobs.dub import DubConfig
    from jobs.dub.preflight import make_job
    from pipelines import storage
    from pipelines.archive import scan
    from pipelines.dub import plan
    from pipelines.dub.decode import decode_task
    from pipelines.dub.finish import finish_item
    from pipelines.dub.generate.dubber import Dubber
    from pipelines.sandbox.decoder import Sandbox

    torch.set_num_threads(1)
    for film in (films.cctv(work, minutes), films.moving(work, minutes, footage)):
        root, out, costs = link(film, work / f"archive-{film.stem}"), work / f"cost-{film.stem}", Costs()
        job = make_job(DubConfig(str(root), str(out)), None)
        dubber = Dubber(job)
        with Sandbox(threads=1) as sandbox:
            sandbox.probe(str(film))  # the child's own start is nobody's cost
            with costs.of("scan"):
                [row] = [scan.scan_file(info, sandbox) for info in storage.list_tree(str(root))]
            for task in plan.make_plan(job, [row], "silent", restart=True).tasks:
                with costs.of("decode"):
                    item = decode_task(task, job, sandbox)
                with costs.of("generate"):
                    [item] = dubber.generate([item])
                with costs.of("finish"):
                    last = finish_item(item, job)
        hours = row["duration_s"] / 3600
        stages = ", ".join(f"{name} {seconds / hours:.0f}" for name, seconds in costs.seconds.items())
        total = sum(costs.seconds.values()) / hours
        print(
            f"{film.stem}: {stages}; {total:.0f} core-seconds an hour, {7200 / total:.1f} x real time on two cores; "
            f"still {last and last['static_s'] / row['duration_s']:.0%}, {last and last['scenes']} cuts",
            flush=True,
        )


def speed(work: Path, minutes: float, footage: Path | None) -> None:
    """Prints times real time of moving film and of CCTV."""
    for name, film, limit in (
        ("moving", films.moving(work, minutes, footage), 2.5),
        ("CCTV, 95 % still", films.cctv(work, minutes), 20.0),
    ):
        facts, peak = dub(film, work / f"out-{film.stem}", "--restart")
        row = row_of(work / f"out-{film.stem}")
        print(
            f"{name}: {row['duration_s'] / 60:.1f} minutes in {facts['elapsed_s']:.0f} s, "
            f"{row['duration_s'] / facts['elapsed_s']:.2f} x real time (limit {limit:g}), "
            f"{row['core_seconds']:.0f} core-seconds, still {row['static_s'] / 60:.1f} minutes, {row['scenes']} cuts, "
            f"peak {peak / 2**30:.2f} GiB, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


def workers(work: Path, minutes: float, footage: Path | None) -> None:
    """Prints whether two workers and one make the same samples, and how fast they do."""
    film, digests = films.moving(work, minutes, footage), []
    for n in (2, 1):
        out = work / f"workers-{n}"
        facts, peak = dub(film, out, "--restart", "--num-workers", str(n), "--sidecar", "flac")
        side = json.loads(next((out / "_v2a" / "provenance").glob("*.json")).read_text())
        digests.append(side["track"]["samplesSha256"])
        row = row_of(out)
        print(
            f"{n} workers: {row['duration_s'] / 60:.1f} minutes in {facts['elapsed_s']:.0f} s, "
            f"{row['duration_s'] / facts['elapsed_s']:.2f} x real time, {row['core_seconds']:.0f} core-seconds, "
            f"{row['scenes']} cuts, peak {peak / 2**30:.2f} GiB, load {os.getloadavg()[0]:.1f}, "
            f"samples {digests[-1][:16]}",
            flush=True,
        )
    print("equal samples" if digests[0] == digests[1] else "DIFFERENT samples")


def memory(work: Path, hours: float) -> None:
    """Prints the peaks of ten minutes and of many hours."""
    peaks = []
    for minutes in (10.0, hours * 60):
        film = films.cctv(work, minutes)
        out = work / f"memory-{film.stem}"
        facts, peak = dub(film, out, "--restart", "--sidecar", "flac")
        peaks.append(peak)
        print(f"{minutes / 60:.2f} h: {facts['elapsed_s']:.0f} s, peak {peak / 2**30:.2f} GiB", flush=True)
    print(f"{peaks[1] / peaks[0]:.2f} times (limit 1.2)")


def mux(work: Path, hours: float) -> None:
    """Prints what joining, coding and copying a long film costs, in processor seconds and bytes."""
    from pipelines.mux import child
    from pipelines.mux.track import Track

    film, target = films.moving(work, hours * 60), work / "muxed.mp4"
    n_samples = round(hours * 3600 * 44_100)
    block = (np.random.default_rng(0).standard_normal((1, 44_100)) * 3000).astype(np.int16)
    for codec in ("aac", "flac"):
        before, passing = _used(), 2 * n_samples
        started = time.perf_counter()
        child.mux_in_child(
            str(film),
            (block for _ in range(round(hours * 3600))),
            target,
            Track(n_samples=n_samples, video_start_s=0.0, codec=codec),
        )
        passed = time.perf_counter() - started
        cpu, read, written = (b - a for a, b in zip(before, _used(), strict=True))
        source, result = film.stat().st_size, target.stat().st_size
        # What passes through the pipe to the child is written and read as well.
        print(
            f"{hours:g} h, {codec}: {cpu:.1f} processor seconds (limit 30), of which FFmpeg's coder alone takes "
            f"{_coding(codec, block, hours):.1f}; {passed:.1f} s; "
            f"read {(read - passing) / source:.2f} times the film ({source / 1e6:.0f} MB), "
            f"written {(written - passing) / result:.2f} times the result ({result / 1e6:.0f} MB)",
            flush=True,
        )
        target.unlink()


def _coding(codec: str, block: np.ndarray, hours: float) -> float:
    """Processor seconds of coding hours of a block alone, int16 [1, n] at 44.1 kHz."""
    from pipelines.mux import containers

    kind = containers.container_of("x.mp4").coded(codec)
    coder: Any = av.CodecContext.create(kind.codec, "w")
    containers.set_up(coder, kind, 1)
    coder.sample_rate, coder.format = 44_100, (av.Codec(kind.codec, "w").audio_formats or [])[0]
    coder.time_base, divisor = Fraction(1, 44_100), 10
    started = time.process_time()
    for number in range(round(hours * 3600 / divisor)):
        frame: Any = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
        frame.sample_rate, frame.time_base = 44_100, Fraction(1, 44_100)
        frame.pts = number * block.shape[1]
        coder.encode(frame)
    coder.encode(None)
    return (time.process_time() - started) * divisor


def _used() -> tuple[float, int, int]:
    """Processor seconds, bytes read and bytes written of this process and its children that have ended."""
    times = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    io = psutil.Process().io_counters()
    return sum(t.ru_utime + t.ru_stime for t in times), io.read_chars, io.write_chars


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("joins", "cost", "speed", "workers", "memory", "mux"))
    parser.add_argument("--minutes", type=float, help="of film")
    parser.add_argument("--footage", type=Path, help="folder of clips to cut in")
    parser.add_argument("--varied", action="store_true", help="joins: scenes as long as shots of films are")
    parser.add_argument("--work", type=Path, help="where films are kept for the next time")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        if args.what == "joins":
            joins(films.moving(work, args.minutes or 10, args.footage, args.varied), work)
        elif args.what == "cost":
            cost(work, args.minutes or 10, args.footage)
        elif args.what == "speed":
            speed(work, args.minutes or 60, args.footage)
        elif args.what == "workers":
            workers(work, args.minutes or 10, args.footage)
        elif args.what == "memory":
            memory(work, (args.minutes or 600) / 60)
        else:
            mux(work, (args.minutes or 120) / 60)
    return 0


if __name__ == "__main__":
    sys.exit(main())
