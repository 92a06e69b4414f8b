"""Films with something that moves at one side, and models that make stereo."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def in_stereo(checkpoint: Path | str, copy: Path) -> str:
    """A copy of a checkpoint whose recipe has two channels."""
    shutil.copytree(checkpoint, copy)
    config = json.loads((copy / "config.json").read_text())
    config["recipe"]["channels"] = 2
    (copy / "config.json").write_text(json.dumps(config))
    return str(copy)


def thing_film(path: Path, x: Callable[[float], float], seconds: float = 3.0, fps: int = 25) -> Path:
    """A disc that goes up and down at column `x(seconds)`, from -1 at the left to 1 at the right; nan for a still one
    in the middle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:96, :128]
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("mpeg4", rate=fps)
        video.width, video.height, video.pix_fmt, video.bit_rate = 128, 96, "yuv420p", 4_000_000
        for k in range(round(seconds * fps)):
            place, y = x(k / fps), 48 + 30 * np.sin(k / 2)
            if np.isnan(place):
                place, y = 0.0, 48
            disc = np.hypot(columns - 64 * (1 + place), rows - y) < 12
            picture = np.repeat(np.where(disc, 230, 60).astype(np.uint8)[..., None], 3, 2)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, fps)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path
