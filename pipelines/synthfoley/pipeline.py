"""Rendering of a SynthFoley corpus on Ray Data."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import ray.data

from pipelines import storage
from pipelines.synthfoley import make_scene, mp4


def render_clip(
    row: dict[str, Any], *, seed: int, seconds: float, out: str, strip_sound: bool
) -> dict[str, Any]:
    """Ray Data task: render and write one clip. Returns a storage error instead of raising it."""
    scene = make_scene(seed, int(row["id"]), seconds)
    try:
        return {"path": mp4.write_clip(scene, out, strip_sound=strip_sound), "error": ""}
    except storage.StorageError as error:
        return {"path": mp4.clip_path(scene), "error": str(error)}


def render_clips(
    n_clips: int, cpus: int, *, seed: int, seconds: float, out: str, strip_sound: bool
) -> Iterator[str]:
    """Paths of the clips 0 to n_clips - 1, as they are written. Raises StorageError, RayError."""
    # Small blocks balance the work, and report progress clip by clip.
    numbers = ray.data.range(n_clips, override_num_blocks=min(n_clips, max(256, 8 * cpus)))
    render = partial(render_clip, seed=seed, seconds=seconds, out=out, strip_sound=strip_sound)
    for row in numbers.map(render).iter_rows():
        if row["error"]:
            raise storage.StorageError(f"{row['path']} cannot be written: {row['error']}")
        yield row["path"]
