"""Page of `real_footage`: figures, and each clip with its true, generated and shuffled sound, in one HTML file.

The films are small copies in H.264 and AAC, which every browser plays.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.real_clips import RealClip, track_sound
from pipelines.media.errors import DecodeFailed
from pipelines.reports import pages
from pipelines.reports.caption_pages import data_url
from pipelines.sandbox.decoder import Sandbox
from v2a_models import grid
from v2a_models.metrics.recorded import RATE, RecordedFigures, onset_pairs
from v2a_models.recipe import View

TEMPLATE = Path(__file__).with_name("real_page.html.j2")

SHOWN = 24
"""Clips with players, the first ones by name: a larger page would be slow to open."""

SHOWN_S = 20.0
"""Longest stretch of a clip that is shown, from its start."""

FPS, LONGER_SIDE = 25, 320
"""Pictures per second, and pixels, of the films in the page."""

TOLERANCE_S = 0.1
"""Distance at which onsets are drawn as a hit, and of the F1 of each clip."""

COLUMNS, HALF = 480, 28
"""Width, and half the height, of a drawn waveform in units of its picture."""

FLOOR_DBFS = -60.0
"""Level that is drawn as a line."""


def page_html(
    clips: Sequence[RealClip], figures: RecordedFigures, folder: Path, sandbox: Sandbox,
    *, name: str, model: str, seed: int, rows: Sequence[tuple[str, str, str]],
) -> str:  # fmt: skip
    """HTML of a comparison; `rows` are its figures as texts: name, value and interval."""
    compared = [clip for clip in clips if clip.score is not None]
    shown = []
    for number, clip in enumerate(compared[:SHOWN]):
        other = compared[(number + 1) % len(compared)] if len(compared) > 1 else None
        try:
            shown.append(clip_values(clip, other, folder, sandbox))
        except DecodeFailed as error:
            shown.append(dict(name=clip.name, facts=clip_facts(clip), trouble=error.message))
    return pages.render(
        TEMPLATE, shown=shown, figures=figures, rows=rows, folder=name, model=model, seed=seed,
        n_clips=len(clips), n_compared=len(compared), tolerance_ms=round(1000 * TOLERANCE_S),
        minutes=sum(clip.duration_s for clip in compared) / 60,
        listing=[dict(name=clip.name, cells=clip_cells(clip), reason=clip.reason) for clip in clips],
        looked=any(clip.seen for clip in clips), width=COLUMNS, height=2 * HALF, floor_dbfs=FLOOR_DBFS,
    )  # fmt: skip


def clip_cells(clip: RealClip) -> list[str]:
    """Seconds, onsets (true, generated), F1, near silence, level, and the classes that are seen and heard, of one clip,
    as texts; none if it was not compared."""
    score = clip.score
    if score is None:
        return []
    f1 = score.f1(TOLERANCE_S)
    near = f"{score.near_silent_s} of {score.audible_s} s"
    return [
        f"{clip.duration_s:.1f}", str(len(score.true_onsets)), str(len(score.generated_onsets)),
        "-" if math.isnan(f1) else f"{f1:.2f}", near, f"{score.level_db:+.1f} dB", seen_text(clip), heard_text(clip),
    ]  # fmt: skip


def seen_text(clip: RealClip) -> str:
    """The likeliest class that is seen, or nothing."""
    if not clip.seen:
        return ""
    likeliest = max(clip.seen, key=lambda name: clip.seen[name])
    return f"{likeliest} {100 * clip.seen[likeliest]:.0f} %"


def heard_text(clip: RealClip) -> str:
    """The class of the generated sound, and the true one where it is known and another."""
    return clip.heard + (f", not {clip.label}" if clip.label and clip.heard != clip.label else "")


def clip_facts(clip: RealClip) -> list[tuple[str, str]]:
    """Names and values beside the players of a clip that was compared."""
    seconds, true, generated, f1, near, level, seen, heard = clip_cells(clip)
    facts = [
        ("length", f"{seconds} s"), ("onsets", f"{true} true, {generated} generated"),
        ("F1", f1), ("near silence", near), ("level", level),
    ]  # fmt: skip
    return facts + [(name, text) for name, text in (("seen", seen), ("heard as", heard)) if text]


def clip_values(clip: RealClip, other: RealClip | None, folder: Path, sandbox: Sandbox) -> dict[str, Any]:
    """Values of the template for one clip. Raises DecodeFailed."""
    assert clip.score is not None and clip.dubbed is not None
    source = folder / clip.name
    seconds = min(clip.duration_s, SHOWN_S)
    scale = LONGER_SIDE / max(clip.width, clip.height)
    width, height = (max(2, 2 * round(size * scale / 2)) for size in (clip.width, clip.height))
    [frames] = sandbox.decode_views(str(source), [View(FPS, width, height)], 0.0, seconds)
    picture = encoded_picture(frames)
    files = {"True sound": source, "Generated": clip.dubbed}
    if other is not None and other.dubbed is not None:
        files[f"Generated for another clip, {other.name}"] = other.dubbed
    films = []
    for label, file in files.items():
        sound = sandbox.decode_sound(str(file), 0.0, seconds, channels=2)
        films.append((label, data_url(film(picture, sound), "video/mp4")))
    score, true, generated = clip.score, track_sound(source, 0), track_sound(clip.dubbed, -1)
    hits = onset_pairs(score.generated_onsets, score.true_onsets, TOLERANCE_S)
    strips = [
        drawn("True", true, score.true_onsets, {k for _, k in hits}, seconds),
        drawn("Generated", generated, score.generated_onsets, {k for k, _ in hits}, seconds),
    ]
    return dict(
        name=clip.name, facts=clip_facts(clip), trouble="", cut=clip.duration_s > SHOWN_S, films=films, strips=strips
    )  # fmt: skip


def encoded_picture(frames: np.ndarray) -> bytes:
    """mp4 without sound of uint8 [T, height, width, 3] at FPS, both sides even."""
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as out:
        stream: Any = out.add_stream("libx264", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.options = {"preset": "fast", "crf": "30", "threads": "1"}
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return sink.getvalue()


def film(picture: bytes, sound: np.ndarray) -> bytes:
    """mp4 of an encoded picture and a sound, float32 [2, n] at the rate of `grid`."""
    sink = io.BytesIO()
    with (
        av.open(io.BytesIO(picture), "r") as source,
        av.open(sink, "w", format="mp4") as out,
    ):
        copy = out.add_stream_from_template(source.streams.video[0], opaque=True)
        track: Any = out.add_stream("aac", rate=grid.SAMPLE_RATE, layout="stereo")
        track.bit_rate = 96_000
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
        for start in range(0, sound.shape[1], 1024):
            block = np.ascontiguousarray(np.clip(sound[:, start : start + 1024], -1, 1))
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = (
                grid.SAMPLE_RATE,
                start,
                Fraction(1, grid.SAMPLE_RATE),
            )
            out.mux(track.encode(frame))
        out.mux(track.encode(None))
    return sink.getvalue()


def drawn(
    label: str, sound: np.ndarray, onsets: np.ndarray, hits: set[int], seconds: float
) -> dict[str, Any]:
    """A waveform in dB as the path of an SVG, and its onsets as ticks, by whether they have a partner."""
    n = max(1, round(seconds * RATE))
    samples = np.abs(np.pad(sound[:n], (0, max(0, n - len(sound)))))
    edges = np.linspace(0, n, COLUMNS, endpoint=False).astype(int)
    peaks = np.maximum.reduceat(samples, edges)
    heights = HALF * np.clip(1 - 20 * np.log10(peaks + 1e-9) / FLOOR_DBFS, 0.02, 1)
    upper = [f"{x},{HALF - height:.1f}" for x, height in enumerate(heights)]
    lower = [f"{x},{HALF + height:.1f}" for x, height in enumerate(heights)]
    ticks: dict[bool, list[str]] = {True: [], False: []}
    for k, time_s in enumerate(onsets):
        if time_s < seconds:
            ticks[k in hits].append(f"M{COLUMNS * time_s / seconds:.1f} 0V{2 * HALF}")
    return dict(
        label=label, wave=f"M{'L'.join([*upper, *reversed(lower)])}Z", n_onsets=sum(map(len, ticks.values())),
        n_hits=len(ticks[True]), hits="".join(ticks[True]), misses="".join(ticks[False]),
    )  # fmt: skip
