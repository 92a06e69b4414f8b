"""Mux of a sound track into a long film, as ratios to a plain remux by PyAV in the same run, and what the check costs.

    python -m benchmarks.mux_speed [--hours 2] [--codec flac] [--work FOLDER]

The film is made of a few seconds of small pictures, packets repeated. Each way runs in a process of its own; memory is
its peak. `plain` copies packets and does nothing else; `coding` only codes the sound; `mux` is what v2a does;
`unchecked` describes the copy without comparing it; `unread` does not read the copy at all.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE = 44_100
WAYS = ("plain", "coding", "mux", "unchecked", "unread")


def make_film(path: Path, hours: float) -> Path:
    """A film of so many hours, of packets of four seconds of pictures and sound."""
    piece = path.with_name("piece.mp4")
    with av.open(str(piece), "w") as out:
        video: Any = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "bf": "2"})
        video.width, video.height, video.pix_fmt, video.gop_size = 160, 96, "yuv420p", 25
        rng = np.random.default_rng(0)
        for _ in range(100):
            picture = rng.integers(0, 255, (12, 20, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(video.encode(None))
    with av.open(str(piece)) as source, av.open(str(path), "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        step = round(4 / float(stream.time_base))
        for k in range(round(hours * 900)):
            for packet in packets:
                again = av.Packet(bytes(packet))
                again.pts, again.dts = packet.pts + k * step, packet.dts + k * step
                again.time_base, again.duration = packet.time_base, packet.duration
                again.is_keyframe, again.stream = packet.is_keyframe, copy
                out.mux(again)
    piece.unlink()
    return path


def sound(hours: float) -> Iterator[np.ndarray]:
    """Noise, int16 [1, n], a second at a time."""
    block = (np.random.default_rng(0).standard_normal((1, RATE)) * 3000).astype(np.int16)
    return (block for _ in range(round(hours * 3600)))


def go(way: str, film: Path, target: Path, hours: float, codec: str) -> None:
    """Do one of WAYS."""
    from pipelines.mux import presented, read_back, remux
    from pipelines.mux.packet_hashes import Digests
    from pipelines.mux.track import Track

    if way == "plain":
        with av.open(str(film)) as source, av.open(str(target), "w") as out:
            copies = {s.index: out.add_stream_from_template(s) for s in source.streams}
            for packet in source.demux():
                if packet.size:
                    packet.stream = copies[packet.stream_index]
                    out.mux(packet)
        return
    if way == "coding":
        with av.open(str(target), "w") as out:
            stream: Any = out.add_stream({"aac": "aac", "flac": "flac"}[codec], rate=RATE, layout="mono")
            for number, block in enumerate(sound(hours)):
                frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE, number * RATE, Fraction(1, RATE)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        return
    if way in ("unchecked", "unread"):

        def read_copy(file: Any, _new: Any, tick: Any) -> Any:
            described = presented.describe(file, tick=tick) if way == "unchecked" else {}
            return Digests(), defaultdict(lambda: None), described

        nothing = lambda *_: None  # noqa: E731
        vars(read_back).update(read_copy=read_copy, compare=nothing, check_sound=nothing)
    n = round(hours * 3600) * RATE
    remux.mux(str(film), sound(hours), target, Track(n_samples=n, video_start_s=0.0, codec=codec))


def measured(way: str, film: Path, hours: float, codec: str) -> dict[str, float]:
    """Seconds, processor seconds and peak MB of one of WAYS in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.mux_speed", "--one", way, "--film", str(film)]
    done = subprocess.run(
        [*command, "--hours", str(hours), "--codec", codec], check=True, stdout=subprocess.PIPE, text=True
    )
    facts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--codec", choices=("aac", "flac"), default="flac")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--film", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        suffix = ".mkv" if given.one == "coding" else ".mp4"
        target = given.film.with_name(f"copy-{given.one}{suffix}")
        import pipelines.mux.remux  # noqa: F401 - its import is part of no way

        started, used = time.perf_counter(), time.process_time()
        go(given.one, given.film, target, given.hours, given.codec)
        facts = {"wall": time.perf_counter() - started, "cpu": time.process_time() - used}
        target.unlink()
        print(json.dumps(facts | {"mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
        return
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        for hours in (given.hours / 8, given.hours):
            film = make_film(Path(folder, f"film-{hours:g}.mp4"), hours)
            found = {way: measured(way, film, hours, given.codec) for way in WAYS}
            plain, unchecked = found["plain"], found["unchecked"]
            for way, facts in found.items():
                print(
                    f"{hours:g} h, {given.codec}, {way}: {facts['wall']:.1f} s, {facts['cpu']:.1f} processor seconds, "
                    f"{facts['cpu'] / plain['cpu']:.2f} times plain, {facts['cpu'] / unchecked['cpu']:.2f} times "
                    f"unchecked, {facts['mb']:.0f} MB, load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
