"""Clips of `real_footage`: finding those with sound, silent copies of them, their dubbing, and their sounds.

The folder is scanned and its pictures are decoded in the sandbox. Packets are copied, and sounds decoded, in this
process: the clips are one's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq

from pipelines.archive import scan
from pipelines.media import container as media_container
from pipelines.media.errors import DecodeFailed
from pipelines.sandbox.decoder import Sandbox
from v2a_models.metrics import recorded

LACKS = {"none": "no sound track", "empty": "an empty sound track", "silent": "silent sound"}
"""Reasons why a clip cannot be compared, by `audio_state`."""


@dataclass
class RealClip:
    """One file of the folder."""

    name: str
    """Path relative to the folder."""
    duration_s: float = 0.0
    width: int = 0
    height: int = 0
    reason: str = ""
    """Reason why it is not compared; empty for clips that are."""
    failed: bool = False
    """True if the reason is an error."""
    dubbed: Path | None = None
    score: recorded.RecordedClip | None = None
    seen: dict[str, float] = field(default_factory=dict)
    """Probabilities of the classes that are seen; empty unless something looks."""
    heard: str = ""
    """Class of the generated sound; empty unless something listens."""
    heard_true: str = ""
    """Class of the true sound, as it is heard."""
    label: str = ""
    """True class of sound, where a table gives it."""

    def fail(self, reason: str) -> None:
        """Leave the clip out because of an error."""
        self.reason, self.failed = " ".join(reason.split()), True


def find_clips(folder: Path, limit: int | None, sandbox: Sandbox) -> list[RealClip]:
    """Clips of the folder and of those below it, by name; no more once `limit` of them have sound.

    Files without footage (text, pictures) are not clips.
    """
    clips: list[RealClip] = []
    rows: Iterator[dict[str, Any]] = scan.scan(str(folder), sandbox)
    for row in rows:
        clip = RealClip(row["path"])
        if row["status"] == "ok":
            clip.duration_s, clip.width, clip.height = row["duration_s"], row["width"], row["height"]
            clip.reason = LACKS.get(row["audio_state"], "")
        elif row["status"] == "audio_only":
            clip.reason = "sound without a picture"
        elif row["status"] == "failed":
            clip.fail(row["error"] or "cannot be read")
        else:
            continue
        clips.append(clip)
        if limit is not None and sum(not clip.reason for clip in clips) >= limit:
            break
    return clips


def copy_without_sound(source: Path, target: Path) -> None:
    """Copy the picture of a film, packet for packet, into a file of the same kind.

    A copy that is there is kept: it has the source's time of change, so that a dub can be resumed. Raises DecodeFailed,
    or ValueError for a picture that the container cannot hold.
    """
    changed = source.stat().st_mtime_ns
    if target.exists() and target.stat().st_mtime_ns == changed:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as file, media_container.opened(file) as film:
        picture = media_container.video_stream(film, "copy")
        with av.open(str(target), "w") as out:
            copy = out.add_stream_from_template(picture, opaque=True)
            for packet in media_container.packets(film, [picture], with_empty=True):
                packet.stream = copy
                out.mux(packet)
    os.utime(target, ns=(changed, changed))


def dub_clips(clips: list[RealClip], folder: Path, out: Path, model: str, seed: int) -> None:
    """Make silent copies in OUT/silent and dub them into OUT/dubbed by the command line.

    Clips that could not be copied or dubbed get the reason. Raises SystemExit if the command did not run to its end.
    """
    for clip in clips:
        if not clip.reason:
            try:
                copy_without_sound(folder / clip.name, out / "silent" / clip.name)
            except (DecodeFailed, ValueError, OSError) as error:
                clip.fail(f"no silent copy: {error}")
    if all(clip.reason for clip in clips):
        return
    silent, dubbed = out / "silent", out / "dubbed"
    options = ["--model", model, "--seed", str(seed), "--tracking-uri", "off"]
    done = subprocess.run(
        [sys.executable, "-m", "jobs.dub", str(silent), str(dubbed), *options], stdout=sys.stderr
    )
    report = dubbed / "_v2a" / "report.parquet"
    if done.returncode not in (0, 1) or not report.exists():
        raise SystemExit(done.returncode)
    rows = {row["path"]: row for row in pq.read_table(report).to_pylist()}
    for clip in clips:
        if not clip.reason:
            row = rows.get(clip.name, {})
            if row.get("status") == "dubbed":
                clip.dubbed = dubbed / row["output"]
            else:
                clip.fail(f"not dubbed: {row.get('message') or row.get('reason') or 'not in the report'}")


def track_sound(path: Path, track: int) -> np.ndarray:
    """Samples of one sound track, mono float32 [n] at `recorded.RATE`, from its own first sample on.

    Time stamps are not looked at: between tracks that begin together, nothing else would change. Raises DecodeFailed.
    """
    with path.open("rb") as file, media_container.opened(file) as film:
        if not film.streams.audio:
            raise DecodeFailed("NoAudioStream", "no sound track", "sound")
        resampler = av.AudioResampler("flt", "mono", recorded.RATE)
        blocks = [
            part.to_ndarray()[0]
            for frame in film.decode(film.streams.audio[track])
            for part in resampler.resample(frame)
        ]
    return np.concatenate(blocks) if blocks else np.zeros(1, np.float32)
