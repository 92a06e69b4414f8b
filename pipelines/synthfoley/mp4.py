"""SynthFoley clips as mp4 files (H.264 and AAC), and the corpus's table of events.

The same scene gives the same bytes on every worker: one encoder thread, and no dates, version strings or
random identifiers in the file.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage, synthfoley

EVENTS_SCHEMA = pa.schema(
    [
        ("clip", pa.string()),  # path of the file, relative to the corpus
        ("class", pa.string()),
        ("onset_s", pa.float64()),
        ("strength", pa.float64()),
        ("caption", pa.string()),
        ("split", pa.string()),
        ("index", pa.int64()),
        ("duration_s", pa.float64()),
    ]
)

FRAMES_AT_A_TIME = 32
_AAC_BLOCK = 1024
_AAC_RATE = 160_000

# Macroblock-tree rate control makes x264's output differ from run to run on CPUs with AVX-512.
_X264 = "threads=1:mbtree=0"


def clip_path(scene: synthfoley.Scene) -> str:
    """Path of a clip in its corpus: <split>/<class>/<class>_<index>.mp4."""
    return f"{scene.split}/{scene.label}/{scene.label}_{scene.index:05d}.mp4"


def encode(scene: synthfoley.Scene, *, strip_sound: bool = False) -> bytes:
    """Encode the scene as an mp4 file, with its sound unless `strip_sound`.

    Raises ValueError for an odd width or height, which 4:2:0 chroma cannot hold.
    """
    if scene.width % 2 or scene.height % 2:
        raise ValueError(f"width and height must be even, not {scene.width}x{scene.height}")
    target = io.BytesIO()
    with av.open(target, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        rate = Fraction(scene.fps).limit_denominator(1001)
        video = container.add_stream(
            "libx264",
            rate=rate,
            options={"preset": "veryfast", "crf": "21", "flags": "+bitexact", "x264-params": _X264},
        )
        video.width, video.height, video.pix_fmt = scene.width, scene.height, "yuv420p"
        video.codec_context.thread_count = 1
        video.codec_context.time_base = 1 / rate
        audio = None
        if not strip_sound:
            audio = container.add_stream(
                "aac", rate=synthfoley.SAMPLE_RATE, layout="mono", options={"flags": "+bitexact"}
            )
            audio.bit_rate = _AAC_RATE
            sound = synthfoley.render_sound(scene)
        times = synthfoley.frame_times(scene)
        heard = 0
        for first in range(0, len(times), FRAMES_AT_A_TIME):
            chunk = times[first : first + FRAMES_AT_A_TIME]
            for number, picture in enumerate(synthfoley.render_frames(scene, chunk), first):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, 1 / rate
                container.mux(video.encode(frame))
            if audio is not None:
                # sound and picture are encoded in step, so that the muxer buffers little
                until = len(sound) if chunk[-1] == times[-1] else int(chunk[-1] * synthfoley.SAMPLE_RATE)
                for block in _blocks(sound, heard, until):
                    container.mux(audio.encode(block))
                    heard += block.samples
        container.mux(video.encode(None))
        if audio is not None:
            container.mux(audio.encode(None))
    return target.getvalue()


def _blocks(sound: np.ndarray, start: int, until: int) -> Iterable[av.AudioFrame]:
    """Whole encoder blocks of `sound` from `start`, and also the rest if `until` is its end."""
    while start < until and (start + _AAC_BLOCK <= until or until == len(sound)):
        part = sound[start : start + _AAC_BLOCK]
        block = av.AudioFrame.from_ndarray(part[None, :], format="fltp", layout="mono")
        block.sample_rate, block.pts = synthfoley.SAMPLE_RATE, start
        block.time_base = Fraction(1, synthfoley.SAMPLE_RATE)
        yield block
        start += len(part)


def write_clip(scene: synthfoley.Scene, root: str, *, strip_sound: bool = False) -> str:
    """Write the scene below `root` (local or s3://) unless it exists; returns its relative path.

    Writing is atomic, so an existing file is complete. Raises StorageError if it cannot be written.
    """
    path = clip_path(scene)
    uri = storage.join(root, path)
    if not storage.exists(uri):
        storage.makedirs(storage.join(root, path.rpartition("/")[0]))
        storage.write_atomic(uri, encode(scene, strip_sound=strip_sound))
    return path


def events_table(scenes: Iterable[synthfoley.Scene]) -> pa.Table:
    """One row per event, in the order of the scenes (EVENTS_SCHEMA)."""
    rows = [
        {
            "clip": clip_path(scene),
            "class": event.label,
            "onset_s": event.onset_s,
            "strength": event.strength,
            "caption": scene.caption,
            "split": scene.split,
            "index": scene.index,
            "duration_s": scene.duration_s,
        }
        for scene in scenes
        for event in scene.events
    ]
    return pa.Table.from_pylist(rows, schema=EVENTS_SCHEMA)


def write_events(root: str, table: pa.Table) -> str:
    """Write `root`/events.parquet; returns its address."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    uri = storage.join(root, "events.parquet")
    storage.write_atomic(uri, sink.getvalue())
    return uri
