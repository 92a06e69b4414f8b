"""The three stages of a dub job, as Ray Data calls them: decode, Dubber, close.

Whatever a file does, a stage answers with a row. Only a full disk, or an output folder that can no longer
be written, ends the job (`fatal`): nothing that follows could be kept either.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import closing, dub, rows, segments, storage
from pipelines import decode as decoding
from pipelines.dub import CARD_S, THUMB_HEIGHT, THUMBS, Job, Task
from pipelines.parts import Failure, Part, State
from pipelines.sandbox import DecodeFailed, Sandbox
from pipelines.worker import shared_sandbox
from v2a_models import grid

STORAGE_TRIES = 3
STORAGE_WAIT_S = 2.0
"""Before the second try; twice as long before each further one."""

_PICTURES = ("semantic", "sync", "frames", "thumbs")
_ARRAYS = {**dict.fromkeys(_PICTURES, np.uint8), "sound": np.int16}


@dataclass
class Item:
    """What travels between the stages: the task, the arrays it has so far, or the failure that ended it."""

    task: Task
    failure: Failure | None = None
    cost_s: float = 0.0
    """Core-seconds spent so far."""
    decoded_from_s: float = 0.0
    thumb_times: list[float] = field(default_factory=list)
    captions: dict[int, str] = field(default_factory=dict)
    """By number of the window in the film."""
    damage: list[tuple[float, float]] = field(default_factory=list)
    """Stretches of the film, in seconds, whose pictures are damaged."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """The views of the job and thumbs: uint8 [frames, h, w, 3]; sound: int16 [channels, n]."""

    def to_table(self) -> pa.Table:
        """One row (`rows.pack`)."""
        notes = {
            "task": self.task.to_json(),
            "failure": asdict(self.failure) if self.failure else None,
            "cost_s": self.cost_s,
            "decoded_from_s": self.decoded_from_s,
            "thumb_times": self.thumb_times,
            "captions": list(self.captions.items()),
            "damage": self.damage,
        }
        return rows.pack(notes, self.arrays, _ARRAYS)

    @classmethod
    def from_table(cls, table: pa.Table) -> list[Item]:
        """Inverse of `to_table`, for any number of rows. The arrays are views into the table."""
        return [cls._from_row(notes, arrays) for notes, arrays in rows.unpack(table, _ARRAYS)]

    @classmethod
    def _from_row(cls, notes: dict[str, Any], arrays: dict[str, np.ndarray]) -> Item:
        failure = Failure(**notes["failure"]) if notes["failure"] else None
        task = Task.from_json(notes["task"])
        names = ("cost_s", "decoded_from_s", "thumb_times", "damage")
        captions = {int(number): str(text) for number, text in notes["captions"]}
        known = {name: notes[name] for name in names}
        return cls(task, failure, captions=captions, **known, arrays=arrays)


# decode


def decode(batch: pa.Table, job: Job) -> Iterator[pa.Table]:
    """Tasks (JSON) to items with pictures."""
    for text in batch["task"].to_pylist():
        yield decode_task(Task.from_json(text), job, shared_sandbox()).to_table()


def decode_task(task: Task, job: Job, sandbox: Sandbox) -> Item:
    """Decode the frames of one segment, for the model and for the report's film strip."""
    item = Item(task)
    if task.have_part or task.needless:
        return item
    if task.n_segments > 1:
        # A long film that has failed already need not be decoded to its end.
        done = State(job.out).segments_done(task.video_id)
        failed = [index for index, is_failure in done.items() if is_failure]
        if failed:
            item.failure = State(job.out).read_failure(task.video_id, failed[0])
            return item
    return seen(item, job, sandbox)


def seen(item: Item, job: Job, sandbox: Sandbox) -> Item:
    """The item with its frames, or with the failure that kept them away."""
    started = time.perf_counter()
    try:
        _decode_into(item, job, sandbox)
    except DecodeFailed as error:
        item.failure = Failure("decode", error.error_class, error.message)
    except storage.StorageError as error:
        item.failure = Failure("storage", type(error).__name__, str(error))
    except Exception as error:  # one file never stops a run, whatever it trips over
        item.failure = Failure("decode", type(error).__name__, str(error))
    item.cost_s += time.perf_counter() - started
    return item


def _decode_into(item: Item, job: Job, sandbox: Sandbox) -> None:
    segment, video = item.task.segment, item.task.video
    first_s, end_s = (grid.seconds(at, job.rate) for at in dub.stretch(job, segment))
    start_s = segments.decode_start(first_s, [view.fps for view in job.views.values()])
    film_s = grid.seconds(segment.stop, job.rate) - start_s
    shown_s = min(float(video["duration_s"]), CARD_S)
    n_thumbs = math.ceil(THUMBS * film_s / shown_s) if start_s < shown_s else 1
    width = round(THUMB_HEIGHT * video["width"] / max(1, video["height"]))
    strip = decoding.View(n_thumbs / film_s, min(max(16, width), 4 * THUMB_HEIGHT), THUMB_HEIGHT)
    views = [*job.views.values(), strip]
    wait_s = STORAGE_WAIT_S
    for attempt in range(STORAGE_TRIES):
        try:
            *pictures, thumbs = sandbox.decode_views(video["uri"], views, start_s, end_s, item.damage)
            break
        except storage.StorageError:
            if attempt == STORAGE_TRIES - 1:
                raise
            time.sleep(wait_s)
            wait_s *= 2
    thumbs = thumbs[:n_thumbs]
    item.decoded_from_s = start_s
    item.thumb_times = [start_s + k / strip.fps for k in range(len(thumbs))]
    item.arrays = {**dict(zip(job.views, pictures, strict=True)), "thumbs": thumbs}


# generate


def loaded(job: Job, load: Callable[[str], Any], device: str) -> Any:
    """The job's generator, ready to work in this process."""
    import torch

    torch.set_num_threads(1)  # see `dub.dubbers_for`
    generator = load(job.model).to(device)
    generator.precision = job.precision
    return generator


def batch_of(starts: Sequence[tuple[Item, int]], job: Job, length: int, device: str) -> dict[str, Any]:
    """The frames of `length` samples of each item, from a sample of it on: by view, uint8 (B, T, H, W, 3).

    Raises ValueError if they are not all there.
    """
    import torch

    frames = {name: np.stack([_frames(*start, job, name, length) for start in starts]) for name in job.views}
    return {name: torch.from_numpy(stack).to(device) for name, stack in frames.items()}


def _frames(item: Item, start: int, job: Job, name: str, length: int) -> np.ndarray:
    wanted = segments.window_frames(start, length, item.decoded_from_s, job.views[name].fps, job.rate)
    frames = item.arrays[name][wanted]
    missing = wanted.stop - wanted.start - len(frames)
    if missing:
        raise ValueError(
            f"the decoder gave {missing} frames too few at {grid.seconds(start, job.rate):.2f} s"
        )
    return frames


class Dubber:
    """Holds the generator; turns pictures into sound. Writes nothing.

    Windows of all items of a call are generated in batches of exactly `job.batch_size`; the last batch is
    filled with repeats. So a window's sound depends on its own frames and seed only.
    """

    def __init__(self, job: Job, load: Callable[[str], Any], device: str = "cpu") -> None:
        self.job, self.device = job, device
        self.generator = loaded(job, load, device)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for item in self.generate(Item.from_table(batch)):
            yield item.to_table()

    def generate(self, items: list[Item]) -> list[Item]:
        """Give every item its sound, or a failure."""
        seen = [item for item in items if item.arrays.keys() >= self.job.views.keys()]
        todo = [(item, k) for item in seen for k in range(item.task.segment.n_windows)]
        sounds: dict[int, list[np.ndarray]] = {id(item): [] for item in items}
        for chunk in self._chunks(todo):
            started = time.perf_counter()
            try:
                made = self._batch(chunk)
            except Exception as error:  # a failed row, retried by the next run; the others go on
                for item, _ in chunk:
                    item.failure = Failure("generate", type(error).__name__, str(error))
                continue
            cost = (time.perf_counter() - started) / len(chunk)
            for (item, _), sound in zip(chunk, made, strict=True):
                sounds[id(item)].append(sound)
                item.cost_s += cost
        return [self._assembled(item, sounds[id(item)]) for item in items]

    def _chunks(self, todo: list[tuple[Item, int]]) -> Iterator[list[tuple[Item, int]]]:
        """Windows that are generated together: those that follow the same texts, at most `batch_size`."""
        alike: dict[str, list[tuple[Item, int]]] = {}
        for item, k in todo:
            alike.setdefault(json.dumps(self.job.texts(item.task.asked)), []).append((item, k))
        size = self.job.batch_size
        for group in alike.values():
            yield from (group[first : first + size] for first in range(0, len(group), size))

    def _batch(self, chunk: list[tuple[Item, int]]) -> np.ndarray:
        """float32 [windows, channels, samples]."""
        import torch

        from v2a_models.seeds import window_seed  # loads torch: not in workers that only decode or mux

        hop = self.job.window - self.job.overlap
        filled = chunk + [chunk[-1]] * (self.job.batch_size - len(chunk))
        starts = [(item, item.task.segment.start + k * hop) for item, k in filled]
        frames = batch_of(starts, self.job, self.job.window, self.device)
        seeds = [
            window_seed(item.task.seed(self.job), item.task.video_id, item.task.segment.first_window + k)
            for item, k in filled
        ]
        # Not every generator can choose among candidates; one that cannot is never asked to.
        options: dict[str, Any] = {"candidates": self.job.candidates} if self.job.candidates > 1 else {}
        options |= {"keep": self.job.keep_top} if self.job.keep_top > 1 else {}
        # The same of text.
        texts = self.job.texts(chunk[0][0].task.asked)
        options |= {{"prompt": "prompts"}.get(name, name): text for name, text in texts.items()}
        with torch.inference_mode():
            if self.job.captions:
                sound = self._captioned(chunk, frames, seeds, options)
            else:
                sound = self.generator.generate_from_frames(frames, seeds, **options)
        made = sound[: len(chunk)].float().cpu().numpy()
        if made.shape[1] != self.job.made_channels:
            raise ValueError(f"the generator gave {made.shape[1]} channels, not {self.job.made_channels}")
        return made

    def _captioned(
        self, chunk: list[tuple[Item, int]], frames: dict[str, Any], seeds: list[int], options: dict[str, Any]
    ) -> Any:
        """The sound, and what it should be in words: of every window where there are to be subtitles, else of the
        first of each segment."""
        batch = self.generator.features(frames)
        wanted = [self.job.subtitles or k == 0 for _, k in chunk]
        if any(wanted):
            for (item, k), wants, text in zip(chunk, wanted, self.generator.captions(batch), strict=False):
                if wants:
                    item.captions[item.task.segment.first_window + k] = text
        return self.generator.generate(batch, seeds=seeds, **options)

    def _assembled(self, item: Item, sounds: list[np.ndarray]) -> Item:
        kept = {"thumbs": item.arrays["thumbs"]} if "thumbs" in item.arrays else {}
        if item.task.needless and not item.task.have_part:
            segment = item.task.segment
            kept["sound"] = np.zeros((self.job.made_channels, segment.stop - segment.start), np.int16)
            kept["thumbs"] = np.zeros((0, 1, 1, 3), np.uint8)
        elif item.failure is None and not item.task.have_part:
            try:
                track = segments.overlap_add(sounds, item.task.segment, self.job.window, self.job.overlap)
                kept["sound"] = track
            except ValueError as error:
                item.failure = Failure("generate", type(error).__name__, str(error))
        item.arrays = kept
        return item


# close


def close(batch: pa.Table, job: Job) -> Iterator[pa.Table]:
    """Items with sound to finished files: video_id, seconds, row (JSON or empty), fatal."""
    for item in Item.from_table(batch):
        row: dict[str, Any] | None = None
        fatal = ""
        try:
            row = close_item(item, job)
        except storage.StorageError as error:
            fatal = str(error)
        yield pa.table(
            {
                "video_id": [item.task.video_id],
                "segment": [item.task.segment.index],
                "seconds": [item.task.seconds],
                "row": [json.dumps(row) if row else ""],
                "fatal": [fatal],
            }
        )


def damaged(item: Item) -> bool:
    """Whether only this part of a longer film is damaged: the others are dubbed, and this one is silent."""
    failure = item.failure
    return (
        failure is not None
        and (failure.stage, failure.error_class) == ("decode", "InvalidData")
        and item.task.n_segments > 1
    )


def silence(item: Item, job: Job) -> Part:
    """The part of a segment that cannot be seen."""
    assert item.failure is not None
    segment = item.task.segment
    sound = np.zeros((job.made_channels, segment.stop - segment.start), np.int16)
    nothing = np.zeros((0, 1, 1, 3), np.uint8)
    return Part(sound, nothing, np.zeros(0), item.cost_s, unseen=item.failure.message)


def close_item(item: Item, job: Job) -> dict[str, Any] | None:
    """Keep what a segment gave; if it was the film's last, finish the file and return its report row."""
    state, task = State(job.out), item.task
    row = state.read_row(task.video_id)
    if row is not None and row.get("run_id") == job.run_id:
        return row  # a retried task, or one that came second: all is done
    if item.failure is not None and damaged(item):
        state.write_part(task.video_id, task.segment.index, silence(item, job))
    elif item.failure is not None:
        state.write_failure(task.video_id, task.segment.index, item.failure)
    elif not task.have_part:
        thumbs = item.arrays["thumbs"]
        part = Part(item.arrays["sound"], thumbs, np.array(item.thumb_times), item.cost_s, item.captions)
        part.damage = [(float(first), float(last)) for first, last in item.damage]
        state.write_part(task.video_id, task.segment.index, part)
    if len(state.segments_done(task.video_id)) < task.n_segments:
        return None
    try:
        row = closing.finish(task, job)
    except storage.StorageNotFound:
        # Another task finished the same file between our listing and our reading.
        row = state.read_row(task.video_id)
        if row is None:
            raise
        return row
    state.write_row(row)
    state.drop_parts(task.video_id)
    return row
