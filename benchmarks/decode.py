"""Speed of decoding and scaling pictures, against the ffmpeg command line.

    python -m benchmarks.decode [--file FILM] [--threads 2] [--rounds 5] [--profile]

Ours: 25 and 8 pictures per second of 224 x 224 RGB in memory, from one pass, in stretches of 4 seconds: in
this process, and through the sandbox, where untrusted files are decoded. Theirs: `ffmpeg -vf
fps=25,scale=224:224 -f null -`, which makes one of the two and throws it away. All take turns in one run with
the same number of threads; without `--file` on a minute of 360p H.264 that is made first. `--profile` says
where the time goes. Exit code 1 if ours through the sandbox reaches less than 0.9 of theirs.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipelines.media import container as media_container
from pipelines.media import frames
from pipelines.media import video as media_video
from pipelines.sandbox.decoder import Sandbox, View

VIEWS = (View(25, 224, 224), View(8, 224, 224))
STRETCH_S = 4.0
TARGET = 0.9
SANDBOX = "through the sandbox"


def make_film(path: Path, loops: int = 6, seconds: int = 10) -> Path:
    """A minute of 640 x 360 H.264 at 25 fps: a textured scene under a moving camera, with some noise."""
    rng = np.random.default_rng(0)
    width, height, fps = 640, 360, 25
    scene = np.zeros((height + 200, width + 400, 3), np.float32)
    for cell in (4, 16, 64):
        coarse = rng.uniform(0, 1, (scene.shape[0] // cell + 1, scene.shape[1] // cell + 1, 3))
        scene += np.kron(coarse, np.ones((cell, cell, 1)))[: scene.shape[0], : scene.shape[1]]
    scene *= 255 / scene.max()
    grain = rng.normal(0, 3, (8, height, width, 1)).astype(np.float32)
    encoded: list[tuple[bytes, int, int, bool]] = []
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=fps)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.options = {"preset": "veryfast", "crf": "23", "g": "50"}
        packets = []
        for k in range(seconds * fps):
            x, y = int(200 + 190 * np.sin(k / 40)), int(100 + 90 * np.cos(k / 31))
            picture = scene[y : y + height, x : x + width] + grain[k % len(grain)]
            frame = av.VideoFrame.from_ndarray(np.clip(picture, 0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, fps)
            packets += video.encode(frame)
        packets += video.encode(None)
        encoded = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets]
        step = round(seconds / packets[0].time_base)
        for loop in range(loops):  # the same packets again: as good to decode, quicker to make
            for data, pts, dts, key in encoded:
                packet = av.Packet(data)
                packet.stream, packet.time_base = video, packets[0].time_base
                packet.pts, packet.dts, packet.is_keyframe = pts + loop * step, dts + loop * step, key
                out.mux(packet)
    return path


def ends_of_stretches(duration_s: float) -> list[float]:
    n = max(1, math.ceil(duration_s / STRETCH_S))
    return [min((k + 1) * STRETCH_S, duration_s) for k in range(n)]


def timed(work: Callable[[], None], who: int) -> tuple[float, float]:
    """(wall, CPU) seconds of `work`; `who` as for getrusage."""
    before, started = resource.getrusage(who), time.perf_counter()
    work()
    wall, after = time.perf_counter() - started, resource.getrusage(who)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@contextlib.contextmanager
def clocked(owner: Any, name: str) -> Iterator[list[float]]:
    """Meanwhile `owner.name`, a function, notes how many seconds each call takes."""
    real, seconds = getattr(owner, name), []

    @functools.wraps(real)
    def replacement(*args: Any, **more: Any) -> Any:
        started = time.perf_counter()
        try:
            return real(*args, **more)
        finally:
            seconds.append(time.perf_counter() - started)

    setattr(owner, name, replacement)
    try:
        yield seconds
    finally:
        setattr(owner, name, real)


@contextlib.contextmanager
def clocked_pictures() -> Iterator[list[float]]:
    """Within the block, `media.container.pictures` records the seconds that each picture takes."""
    real, seconds = media_container.pictures, []

    def replacement(*args: Any, **more: Any) -> Iterator[Any]:
        pictures = real(*args, **more)
        while True:
            started = time.perf_counter()
            picture = next(pictures, None)
            seconds.append(time.perf_counter() - started)
            if picture is None:
                return
            yield picture

    setattr(media_container, "pictures", replacement)  # noqa: B010 (mypy minds the plain way)
    try:
        yield seconds
    finally:
        setattr(media_container, "pictures", real)  # noqa: B010


def decode_only(film: str, threads: int) -> None:
    """Decodes every picture and drops it."""
    with open(film, "rb") as file, media_container.opened(file) as container:
        video = media_container.video_stream(container, "decode")
        video.thread_type, video.thread_count = "AUTO", threads
        for _ in media_container.pictures(container, video):
            pass


def profile(film: str, duration_s: float, threads: int, ours: Callable[[], None], sandbox_s: float) -> None:
    """Prints where the wall time of the calling thread goes, with the clock inside the loop, and how long
    the parts take that overlap with it or are left out. `sandbox_s` is the time through the sandbox."""
    with (
        clocked_pictures() as waits,
        clocked(frames.Scaler, "picture") as scalings,
        clocked(frames.Painter, "_paint") as paintings,
        clocked(av, "open") as openings,
    ):
        whole_s, _ = timed(ours, resource.RUSAGE_SELF)
    opening_s = sum(openings) + waits[0]
    parts = {
        "opening, first picture": opening_s,
        "waiting for pictures": sum(waits[1:]),
        "scaling": sum(scalings),
        "copying into place": sum(paintings) - sum(scalings),
    }
    parts["everything else"] = whole_s - sum(parts.values())
    parts["handing over"] = sandbox_s - whole_s
    print(
        f"where {sandbox_s:.2f} s through the sandbox go (decoding goes on in {threads} threads meanwhile):"
    )
    for name, seconds in parts.items():
        print(f"  {name:<22} {seconds:7.3f} s  {seconds / sandbox_s:6.1%}")
    alone_s = statistics.median(timed(lambda: decode_only(film, threads), 0)[0] for _ in range(3))

    def one_seek() -> None:
        with open(film, "rb") as file:
            media_video.decode_views(file, VIEWS, duration_s / 2, duration_s / 2 + 0.01, threads)

    seek_s = statistics.median(timed(one_seek, 0)[0] for _ in range(3))
    print(
        f"  decoding alone, nothing scaled: {alone_s:.3f} s; opening and seeking to the middle: {seek_s:.3f} s"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--file", help="film to decode (default: one that is made)")
    parser.add_argument("--threads", type=int, default=2, help="threads of either decoder")
    parser.add_argument("--profile", action="store_true", help="say where the time goes")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each, after one that does not count")
    options = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        print("benchmarks/decode.py needs the ffmpeg command line to compare with", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, Sandbox(threads=options.threads) as sandbox:
        film = options.file or str(make_film(Path(folder) / "film.mp4"))
        facts = sandbox.probe(film)
        threads = str(options.threads)
        command = ["ffmpeg", "-v", "error", "-nostdin", "-threads", threads, "-filter_threads", threads]
        command += ["-i", film, "-an", "-vf", "fps=25,scale=224:224", "-f", "null", "-"]
        ends_s, pool = ends_of_stretches(facts.duration_s), frames.Pool()

        def theirs() -> None:
            subprocess.run(command, check=True)

        def ours() -> None:
            with open(film, "rb") as file:
                for _ in media_video.iter_views(file, VIEWS, 0, ends_s, options.threads, allocate=pool):
                    pass

        def sandboxed() -> None:
            for _ in sandbox.iter_views(film, VIEWS, 0, ends_s):
                pass

        print(
            f"{facts.width}x{facts.height} {facts.video_codec}, {facts.duration_s:.1f} s at "
            f"{facts.fps:.4g} fps, {options.threads} threads, median of {options.rounds} rounds"
        )
        contestants = {
            "ffmpeg": (theirs, resource.RUSAGE_CHILDREN),
            "in this process": (ours, resource.RUSAGE_SELF),
            SANDBOX: (sandboxed, resource.RUSAGE_SELF),
        }
        walls: dict[str, list[float]] = {name: [] for name in contestants}
        cpus: dict[str, list[float]] = {name: [] for name in contestants}
        for turn in range(options.rounds + 1):
            for name, (work, who) in contestants.items():
                wall, cpu = timed(work, who)
                if turn:
                    walls[name].append(wall)
                    cpus[name].append(cpu)
        best = statistics.median(walls["ffmpeg"])
        for name, values in walls.items():
            wall = statistics.median(values)
            cpu = "" if who_is_elsewhere(name) else f"  CPU {statistics.median(cpus[name]):6.2f} s"
            print(
                f"{name:<20} {wall:6.2f} s  {facts.duration_s / wall:6.0f} x real time  "
                f"{best / wall:5.2f} of ffmpeg{cpu}"
            )
        sandbox_s = statistics.median(walls[SANDBOX])
        if options.profile:
            profile(film, facts.duration_s, options.threads, ours, sandbox_s)
        ratio = best / sandbox_s
        print(
            f"limit: the rate of {' '.join(command[:1] + command[-6:])}, {options.threads} threads, in this run"
        )
        print(f"ratio {ratio:.2f} {SANDBOX} (target {TARGET})")
        return 0 if ratio >= TARGET else 1


def who_is_elsewhere(name: str) -> bool:
    """True if the work happens in a process whose CPU time is not counted here."""
    return name == SANDBOX


if __name__ == "__main__":
    sys.exit(main())
