"""Cost of `v2a extract`: beside a plain loop, in memory, and on disk.

    python -m benchmarks.extract rate   [--minutes 30] [--recipe mini]   Ray's pipeline against a plain loop
    python -m benchmarks.extract memory [--short 10] [--long 120]        peak of a long file against a short one
    python -m benchmarks.extract size   [--minutes 4]                    bytes per hour of footage, by recipe

`rate`: both extract the same footage with the same number of workers, from the start of the workers to the last
file written (the plain loop: one process per worker, each with its own encoders and decoder, no Ray). The archive
has been scanned before. Limit: Ray's pipeline reaches 0.85 of the plain loop's rate.
`memory`: all processes of the command together (PSS). Limits: 1.2 times the short file's peak, and 4 GiB.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmarks.dub_speed import watch
from pipelines import synthfoley
from pipelines.extract import recipes, windows
from pipelines.store import tables
from pipelines.store.store import Store
from pipelines.synthfoley import mp4
from v2a_models.encoders.shapes import feature_shapes

RATE_LIMIT, GROWTH_LIMIT, MEMORY_LIMIT_GIB = 0.85, 1.2, 4.0


def footage(folder: Path, minutes: float, files: int) -> Path:
    """Films of 640 x 360 at 25 fps with sound: one scene of a minute, as often as it takes."""
    folder.mkdir(parents=True)
    scene = synthfoley.make_scene(7, 0, 60.0, width=640, height=360, fps=25.0)
    first = folder / "first.mp4"
    first.write_bytes(mp4.encode(scene))
    per_file = minutes / files
    for number in range(files):
        target = folder / f"film_{number:03d}.mp4"
        if per_file == 1:
            os.link(first, target)
        else:
            loop(first, target, per_file)
    first.unlink()
    return folder


def loop(source: Path, target: Path, times: float) -> None:
    """The packets of a file again and again: as good to decode, quicker to make."""
    import av

    with av.open(str(source)) as held, av.open(str(target), "w") as out:
        packets = [packet for packet in held.demux() if packet.dts is not None]
        streams = {stream.index: out.add_stream_from_template(stream) for stream in held.streams}
        for number in range(max(1, round(times))):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                # A little more than the minute: sound begins before the picture and ends after it.
                shift = round(Fraction("60.2") / packet.time_base) * number
                copy.stream, copy.time_base = streams[packet.stream.index], packet.time_base
                copy.pts, copy.dts = (packet.pts or 0) + shift, (packet.dts or 0) + shift
                copy.is_keyframe = packet.is_keyframe
                out.mux(copy)


def prepared(archive: Path, store: Path, recipe: str) -> Any:
    """(job, clips) of an archive that has been scanned into `store`."""
    from jobs.extract import ExtractConfig, preflight

    config = ExtractConfig(str(archive), str(store), recipe=recipe, tracking_uri="off")
    ready = preflight.prepare(config)
    videos = [row for row in ready.store.scan() if row["status"] == "ok"]
    return preflight.make_job(ready, config, 0), windows.plan(videos, ready.recipe, None, ready.fractions)


def plain_worker(task: tuple[Any, list[windows.Clip]]) -> None:
    """Decode, encode and write, window after window."""
    job, clips = task
    from pipelines.extract.pipeline import write_windows
    from pipelines.extract.stages import Encoder, decode_segment
    from pipelines.sandbox.decoder import Sandbox

    encoder, gathered = Encoder(job), []
    with Sandbox(threads=job.decode_threads) as sandbox:
        for segment in windows.segments_of(clips, windows.windows_per_segment(job.recipe)):
            for window in decode_segment(segment, job, sandbox):
                columns = encoder._encode([window])
                window.arrays = {name: column[0] for name, column in columns.items()}
                gathered.append(window)
                if len(gathered) == job.rows_per_file:
                    write_windows(job, gathered, {})
                    gathered = []
    if gathered:
        write_windows(job, gathered, {})


def rate(options: argparse.Namespace) -> int:
    from jobs.common.ray_session import session
    from pipelines import storage
    from pipelines.archive import scan
    from pipelines.archive.ray_scan import scan_infos
    from pipelines.extract import pipeline

    os.environ.setdefault("RAY_worker_niceness", "0")  # the plain loop's processes are not nice either
    workers = options.num_workers
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        archive = footage(root / "archive", options.minutes, round(options.minutes))
        walls: dict[str, list[float]] = {"plain loop": [], "ray": []}
        with session(workers) as resources:
            scanned = scan.to_table(scan_infos(list(storage.list_tree(str(archive))), resources.cpus, None))
            for turn in range(options.rounds):
                for name in walls:
                    store = root / f"{name} {turn}"
                    Store(str(store)).write_scan(scanned)
                    job, clips = prepared(archive, store, options.recipe)
                    started = time.perf_counter()
                    if name == "ray":
                        pipeline.run(clips, job, cpus=workers, memory=resources.memory)
                    else:
                        parts = windows.blocks(clips, windows.windows_per_segment(job.recipe), workers)
                        with multiprocessing.get_context("spawn").Pool(workers) as pool:
                            pool.map(plain_worker, [(job, part) for part in parts])
                    walls[name].append(time.perf_counter() - started)
                    rows = len(Store(str(store)).done())
                    assert rows == len(clips), f"{name} wrote {rows} of {len(clips)} rows"
        seconds = sum(clip.duration_s for clip in clips)
    best = {name: min(values) for name, values in walls.items()}
    print(
        f"recipe {options.recipe}, {seconds / 60:.1f} min of 640x360, {workers} workers, best of {options.rounds}"
    )
    for name, wall in best.items():
        print(f"{name:<11} {wall:6.1f} s  {seconds / wall:6.1f} x real time")
    ratio = best["plain loop"] / best["ray"]
    print(f"ratio {ratio:.2f} (limit {RATE_LIMIT})")
    return 0 if ratio >= RATE_LIMIT else 1


def memory(options: argparse.Namespace) -> int:
    peaks = {}
    with tempfile.TemporaryDirectory() as scratch:
        for minutes in (options.short, options.long):
            archive = footage(Path(scratch) / f"{minutes:g}", minutes, 1)
            command = [sys.executable, "-m", "jobs.extract", str(archive), f"{scratch}/store {minutes:g}"]
            command += ["--recipe", options.recipe, "--num-workers", str(options.num_workers)]
            started = time.monotonic()
            job = subprocess.Popen([*command, "--tracking-uri", "off"], stdout=sys.stderr)
            peaks[minutes] = watch(job) / 2**30
            if job.wait():
                raise SystemExit(f"v2a extract ended with {job.returncode}")
            print(
                f"{minutes:g} min in one file: peak {peaks[minutes]:.2f} GiB, "
                f"{minutes * 60 / (time.monotonic() - started):.1f} x real time with start and scan"
            )
    growth = peaks[options.long] / peaks[options.short]
    print(f"growth {growth:.2f} (limit {GROWTH_LIMIT}), limit of the peak {MEMORY_LIMIT_GIB} GiB")
    return 0 if growth <= GROWTH_LIMIT and peaks[options.long] <= MEMORY_LIMIT_GIB else 1


def size(options: argparse.Namespace) -> int:
    print("| recipe | GB per hour, arrays | GB per hour, on disk |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        archive = footage(Path(scratch) / "archive", options.minutes, round(options.minutes))
        source = sum(path.stat().st_size for path in archive.iterdir())
        for name in recipes.NAMES:
            recipe = recipes.find(name).recipe
            kind = tables.schema(recipe, feature_shapes(recipe))
            arrays = tables.row_bytes(kind) * 3600 / recipe.window_s
            disk = "weights needed"
            if name in ("mini", "raw"):
                store = Store(f"{scratch}/{name}")
                command = [sys.executable, "-m", "jobs.extract", str(archive), store.root, "--recipe", name]
                subprocess.run([*command, "--tracking-uri", "off"], check=True, stdout=sys.stderr)
                stored_bytes = sum(info.size for info in store.files())
                disk = f"{stored_bytes * 60 / options.minutes / 1e9:.3f}"
            print(f"| {name} | {arrays / 1e9:.3f} | {disk} |")
        print(f"| (the footage itself, 640x360 H.264) | | {source * 60 / options.minutes / 1e9:.3f} |")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("rate", "memory", "size", "all"), nargs="?", default="all")
    parser.add_argument("--minutes", type=float, default=0, help="footage (default: 30 for rate, 4 for size)")
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="turns of each contestant of `rate`")
    parser.add_argument("--short", type=float, default=10, help="minutes of the short file of `memory`")
    parser.add_argument("--long", type=float, default=120, help="minutes of the long file of `memory`")
    options = parser.parse_args()
    minutes = options.minutes
    status = 0
    for what, work, default in (("rate", rate, 30.0), ("memory", memory, 0.0), ("size", size, 4.0)):
        if options.what in (what, "all"):
            options.minutes = minutes or default
            status |= work(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
