"""Long films for the benchmarks: scenes and real clips cut hard after one another, CCTV in which hardly anything moves.

A few minutes are rendered and coded once; an hour repeats them by copying packets.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipelines import synthfoley
from pipelines.synthfoley import mp4

WIDTH, HEIGHT, FPS = 640, 360, 25
SCENE_S = 15.0
"""Longer than a window and shorter than a segment, as shots of a film are."""

MEDIAN_SHOT_S, SPREAD = 6.5, 0.7
"""Median in seconds and spread of the log-normal lengths of varied shots: a mean of 8 s, as in films
before today's fast cutting."""


def pictures(source: Any) -> Iterator[np.ndarray]:
    """uint8 [HEIGHT, WIDTH, 3] of a film, at FPS by timestamp."""
    with av.open(source) as film:
        number, before = 0, None
        for frame in film.decode(video=0):
            start = frame.time or 0.0
            while before is not None and number / FPS < start:
                yield before
                number += 1
            before = frame.reformat(WIDTH, HEIGHT, "rgb24").to_ndarray()
        if before is not None:
            yield before


def write(path: Path, frames: Iterable[np.ndarray]) -> float:
    """Code pictures as H.264; seconds written."""
    number = 0
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "23"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            out.mux(video.encode(frame))
            number += 1
        out.mux(video.encode(None))
    return number / FPS


def repeat(path: Path, target: Path, seconds: float) -> Path:
    """A film of about `seconds` seconds that repeats another one, its packets copied."""
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        video = source.streams.video[0]
        copy = out.add_stream_from_template(video)
        step = round(1 / (FPS * video.time_base))
        n_pictures, shift = video.frames, 0
        while shift * video.time_base < seconds - 0.5:
            source.seek(0)
            for packet in source.demux(video):
                if packet.pts is None or packet.dts is None:
                    continue
                if (packet.dts + shift) * video.time_base >= seconds:
                    return target
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, copy
                out.mux(packet)
            shift += n_pictures * step
    return target


def moving(folder: Path, minutes: float, footage: Path | None = None, varied: bool = False) -> Path:
    """A film in which something happens all the time: SynthFoley scenes, and clips of a folder if there is one.

    Scenes last SCENE_S; if `varied`, as long as shots of films do.
    """
    kind = "varied" if varied else "moving"
    target = folder / f"{kind}-{minutes:g}.mp4"
    if not target.exists():
        unit = folder / f"{kind}-unit.mp4"
        if not unit.exists():
            lengths = shot_lengths(36) if varied else [SCENE_S] * 16
            write(unit, _reel(lengths, sorted(footage.glob("*.mp4")) if footage else []))
        repeat(unit, target, minutes * 60)
    return target


def shot_lengths(n: int) -> list[float]:
    """Seconds of `n` shots, as log-normally spread as those of films; none shorter than 1 s."""
    lengths = np.random.default_rng(0).lognormal(np.log(MEDIAN_SHOT_S), SPREAD, n)
    return [max(1.0, round(float(length), 2)) for length in lengths]


def _reel(lengths: list[float], clips: list[Path]) -> Iterator[np.ndarray]:
    for index in range(max(len(lengths), len(clips))):
        if index < len(lengths):
            yield from pictures(_scene(index, lengths[index]))
        if index < len(clips):
            yield from pictures(str(clips[index]))


def _scene(index: int, seconds: float = SCENE_S) -> io.BytesIO:
    scene = synthfoley.make_scene(7, index, seconds, width=WIDTH, height=HEIGHT, fps=float(FPS))
    return io.BytesIO(mp4.encode(scene, strip_sound=True))


def cctv(folder: Path, minutes: float, moving_fraction: float = 0.05) -> Path:
    """A film of one camera in which nothing moves but for one stretch of every ten minutes; its picture is noisy."""
    target = folder / f"cctv-{minutes:g}.mp4"
    if not target.exists():
        unit = folder / "cctv-unit.mp4"
        if not unit.exists():
            write(unit, _watched(600.0, 600.0 * moving_fraction))
        repeat(unit, target, minutes * 60)
    return target


def _watched(seconds: float, moving_s: float) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    noise = [rng.integers(-2, 3, (HEIGHT, WIDTH, 1), dtype=np.int8) for _ in range(25)]
    scene = list(pictures(_scene(3, moving_s)))
    begin = round((seconds - moving_s) / 2 * FPS)
    for number in range(round(seconds * FPS)):
        at = min(max(number - begin, 0), len(scene) - 1)
        picture = scene[at if number < begin + len(scene) else 0]
        yield np.clip(picture.astype(np.int16) + noise[number % 25], 0, 255).astype(np.uint8)
