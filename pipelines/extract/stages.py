"""Stages of an extraction, as Ray Data calls them: decode, Encoder, and the row of a failure.

A stage answers every clip with a row, even if its file is damaged. If storage does not answer, the stage asks again
with growing pauses; clips that storage still withholds are left to the next run and do not count as failures.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import arrow_rows, retry, storage
from pipelines.extract import windows as extract_windows
from pipelines.extract.job import ExtractJob
from pipelines.extract.windows import Clip
from pipelines.media.errors import DecodeFailed, DecoderNotStarted, Failure
from pipelines.media.shots import mean_motion
from pipelines.sandbox.decoder import Sandbox, shared_sandbox
from v2a_models import grid, pcm
from v2a_models.grid import decode_start

FRAMES = {"semantic": np.uint8, "sync": np.uint8, "frames": np.uint8, "sound": np.int16}
"""Array types of decoded windows, by name."""

FEATURES = {
    "semantic": np.float16,
    "sync": np.float16,
    "audio": np.float16,
    "codes": np.uint16,
    "frames": np.uint8,
    "waveform": np.int16,
}
"""Array types of encoded windows, by column of the store."""


@dataclass
class Window:
    """Message between the stages: a clip with its arrays, or the reason why it has none."""

    clip: Clip
    failure: Failure | None = None
    left_out: str = ""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def to_table(self, kinds: dict[str, Any]) -> pa.Table:
        """One row (`arrow_rows.pack`); the clip_id is a column of its own, as Ray's checkpoints want it."""
        failure = asdict(self.failure) if self.failure else None
        notes = {"clip": asdict(self.clip), "failure": failure, "left_out": self.left_out}
        return arrow_rows.pack(notes, self.arrays, kinds, clip_id=self.clip.clip_id)

    @classmethod
    def from_table(cls, table: pa.Table, kinds: dict[str, Any]) -> list[Window]:
        """Inverse of `to_table`, for any number of rows."""
        return [
            cls(
                Clip(**notes["clip"]),
                Failure(**notes["failure"]) if notes["failure"] else None,
                notes["left_out"],
                arrays,
            )
            for notes, arrays in arrow_rows.unpack(table, kinds)
        ]


def report_progress(ledger: Any, **facts: Any) -> None:
    """Report progress to the driver; errors are ignored."""
    if ledger is not None:
        with contextlib.suppress(Exception):
            ledger.add.remote(facts)


class Meter:
    """Measures the time that a stage spends on windows, without its waiting for other stages."""

    def __init__(self, stage: str) -> None:
        self.stage, self.rows, self.seconds, self.footage_s = stage, 0, 0.0, 0.0
        self.start()

    def start(self) -> None:
        self.started = time.perf_counter()

    def stop(self, *footage_s: float) -> None:
        """Windows of these lengths are done."""
        self.seconds += time.perf_counter() - self.started
        self.rows += len(footage_s)
        self.footage_s += sum(footage_s)

    def facts(self) -> dict[str, Any]:
        return {"stage": self.stage, "rows": self.rows, "seconds": self.seconds, "footage_s": self.footage_s}


# decode


def decode(batch: pa.Table, job: ExtractJob, ledger: Any = None) -> Iterator[pa.Table]:
    """Decode rows of the plan into rows with pictures and sound."""
    sandbox = shared_sandbox(job.decode_threads)
    per_segment = extract_windows.windows_per_segment(job.recipe)
    for segment in extract_windows.segments_of(extract_windows.from_table(batch), per_segment):
        for window in decode_segment(segment, job, sandbox, ledger):
            yield window.to_table(FRAMES)


def decode_segment(
    clips: Sequence[Clip], job: ExtractJob, sandbox: Sandbox, ledger: Any = None
) -> Iterator[Window]:
    """Windows of one segment, in order. Windows that storage withholds are left out."""
    left = list(clips)
    try:
        for attempt in retry.storage_attempts(retry.EXTRACTION):
            with attempt:
                meter = Meter("decode")
                for window in _decoded(left, job, sandbox):
                    left.pop(0)
                    meter.stop(window.clip.duration_s)
                    yield window
                    meter.start()
                report_progress(ledger, **meter.facts())
        return
    except retry.FINAL as error:
        failure = Failure("storage", type(error).__name__, str(error))
    except storage.StorageError as error:
        report_progress(ledger, put_off=[clip.clip_id for clip in left], reason=str(error))
        return
    except DecodeFailed as error:
        failure = Failure(error.stage, error.error_class, error.message)
    except DecoderNotStarted:  # no fault of the file
        raise
    except Exception as error:  # one file never stops a run, whatever the error
        failure = Failure("decode", type(error).__name__, str(error))
    yield from (Window(clip, failure) for clip in left)


def _decoded(clips: Sequence[Clip], job: ExtractJob, sandbox: Sandbox) -> Iterator[Window]:
    recipe = job.recipe
    per_segment = extract_windows.windows_per_segment(recipe)
    first = clips[0].index // per_segment * per_segment
    hop = recipe.window - recipe.overlap
    start_s = grid.seconds(first * hop, recipe.sample_rate)
    sound = _sound(clips, start_s, job, sandbox)
    by_index = {clip.index: clip for clip in clips}
    for index, frames in enumerate(_pictures(clips, first, start_s, job, sandbox), first):
        if index not in by_index:
            continue
        window = Window(by_index[index])
        arrays = dict(frames)
        if sound is not None:
            at = (index - first) * hop
            arrays["sound"] = sound[:, at : at + recipe.window]
        window.left_out = _reason_to_leave_out(arrays, job)
        if not window.left_out:
            window.arrays = arrays
        yield window


def _sound(clips: Sequence[Clip], start_s: float, job: ExtractJob, sandbox: Sandbox) -> np.ndarray | None:
    """Sound of a segment up to its last wanted window: int16 [channels, n]; None if the recipe has no use."""
    recipe = job.recipe
    if not recipe.waveform and recipe.encoder("codec") is None and recipe.encoder("audio") is None:
        return None
    clip = clips[-1]
    sound = sandbox.decode_sound(
        clip.uri,
        start_s,
        clip.start_s + recipe.window_s,
        recipe.sample_rate,
        origin_s=clip.video_start_s,
        channels=recipe.channels,
        seeks=clip.seeks,
    )
    return pcm.quantise(np.nan_to_num(sound))


def _pictures(
    clips: Sequence[Clip], first: int, start_s: float, job: ExtractJob, sandbox: Sandbox
) -> Iterator[dict[str, np.ndarray]]:
    """Frames of every window from `first` to the last wanted one, by view, from one decoding pass.

    Holds the frames of one window and of the one that is coming.
    """
    recipe = job.recipe
    views = recipe.views
    hop_s = grid.seconds(recipe.window - recipe.overlap, recipe.sample_rate)
    starts_s = [start_s + k * hop_s for k in range(clips[-1].index - first + 1)]
    from_s = decode_start(start_s, [view.fps for view in views.values()])
    ends_s = [start + recipe.window_s for start in starts_s]
    held = {name: np.empty((0, view.height, view.width, 3), np.uint8) for name, view in views.items()}
    begins = dict.fromkeys(views, 0)
    stretches = sandbox.iter_views(clips[0].uri, list(views.values()), from_s, ends_s, clips[0].seeks)
    with contextlib.closing(stretches):  # type: ignore[type-var]
        for window_start_s, arrays in zip(starts_s, stretches, strict=True):
            window = {}
            for (name, view), fresh in zip(views.items(), arrays, strict=True):
                begin = grid.frame_index(window_start_s - from_s, view.fps)
                count = grid.frame_count(recipe.window_s, view.fps)
                # A copy: `fresh` is reused memory. Frames before this window are no longer needed.
                held[name] = np.concatenate([held[name], fresh])[begin - begins[name] :]
                begins[name] = begin
                window[name] = held[name][:count]
                if len(window[name]) < count:
                    raise ValueError(f"the decoder gave {len(window[name])} of {count} {name} frames")
            yield window


def _reason_to_leave_out(arrays: dict[str, np.ndarray], job: ExtractJob) -> str:
    if job.silence_dbfs is not None and "sound" in arrays:
        peak = int(np.abs(arrays["sound"].astype(np.int32)).max(initial=0)) / pcm.SYMMETRIC_SCALE
        if peak < 10 ** (job.silence_dbfs / 20):
            return "silence"
    if job.static_below is not None:
        frames = next(arrays[name] for name in ("sync", "frames", "semantic") if name in arrays)
        if mean_motion(frames) < job.static_below:
            return "static picture"
    return ""


# encode


class Encoder:
    """Holds all encoders of the recipe; turns pictures and sound into the columns of the store."""

    def __init__(self, job: ExtractJob, ledger: Any = None) -> None:
        self.job, self.ledger = job, ledger
        self.encoders: Any = None
        if job.recipe.encoders:
            import torch  # a recipe of pixels and samples only does without

            from v2a_models.encoders.encoders import load_encoders

            if job.device == "cpu":
                torch.set_num_threads(1)  # one core each: as fast, and sums do not depend on the machine
            self.encoders = load_encoders(job.recipe, job.files, job.device, job.precision)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        windows = Window.from_table(batch, FRAMES)
        todo = [window for window in windows if window.arrays]
        meter = Meter("encode")
        for first in range(0, len(todo), self.job.batch_size):
            chunk = todo[first : first + self.job.batch_size]
            meter.start()
            try:
                columns = self._encode(chunk)
                for k, window in enumerate(chunk):
                    window.arrays = {name: column[k] for name, column in columns.items()}
            except Exception as error:  # a failed row, tried again by the next run; the others go on
                for window in chunk:
                    window.failure = Failure("encode", type(error).__name__, str(error))
                    window.arrays = {}
            meter.stop(*(window.clip.duration_s for window in chunk))
        report_progress(self.ledger, **meter.facts())
        for window in windows:
            yield window.to_table(FEATURES)

    def _encode(self, chunk: list[Window]) -> dict[str, np.ndarray]:
        if self.encoders is None:
            raw_columns = {"frames": "frames", "waveform": "sound"}
            return {
                column: np.stack([window.arrays[name] for window in chunk])
                for column, name in raw_columns.items()
                if name in chunk[0].arrays
            }
        import torch

        filled = chunk + [chunk[-1]] * (self.job.batch_size - len(chunk))
        frames = {
            name: torch.from_numpy(np.stack([window.arrays[name] for window in filled]))
            for name in self.job.recipe.views
        }
        sound = None
        if "sound" in chunk[0].arrays:
            sound = torch.from_numpy(np.stack([window.arrays["sound"] for window in filled]))
        columns = self.encoders(frames, sound)
        return {name: np.ascontiguousarray(column[: len(chunk)]) for name, column in columns.items()}


def failure_row(clip: Clip, failure: Failure) -> dict[str, Any]:
    """A row of the store's table of failures."""
    return {
        "clip_id": clip.clip_id,
        "video_id": clip.video_id,
        "path": clip.path,
        "start_s": clip.start_s,
        "stage": failure.stage,
        "error_class": failure.error_class,
        "error": failure.message,
    }
