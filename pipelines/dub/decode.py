"""First and last stage of a dub, as Ray Data calls them: decode and close. Between them: `pipelines.dub.generate`.

Whatever a file does, a stage answers with a row. Only a full disk, or an output folder that can no longer
be written, ends the job (`fatal`): nothing that follows could be kept either. A single output that cannot be
written is a failed film.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import memory, storage
from pipelines.dub import output, pipeline, segments
from pipelines.dub.generate import token_canvas
from pipelines.dub.item import FIRST, Item
from pipelines.dub.job import CARD_S, THUMB_HEIGHT, THUMBS, Job, Task
from pipelines.dub.state import Failure, Part, State
from pipelines.media import video as media_video
from pipelines.sandbox.decoder import DecodeFailed, Sandbox
from pipelines.worker import shared_sandbox
from v2a_models import grid

STORAGE_TRIES = 3
STORAGE_WAIT_S = 2.0
"""Before the second try; twice as long before each further one."""

# decode


def decode(batch: pa.Table, job: Job) -> Iterator[pa.Table]:
    """Tasks (JSON) to items with pictures."""
    for text in batch["task"].to_pylist():
        yield decode_task(Task.from_json(text), job, shared_sandbox()).to_table()
    memory.give_back()


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
    first_s, end_s = (grid.seconds(at, job.rate) for at in pipeline.stretch(job, segment))
    start_s = segments.decode_start(first_s, [view.fps for view in job.views.values()])
    film_s = grid.seconds(segment.stop, job.rate) - start_s
    shown_s = min(float(video["duration_s"]), CARD_S)
    n_thumbs = math.ceil(THUMBS * film_s / shown_s) if start_s < shown_s else 1
    width = round(THUMB_HEIGHT * video["width"] / max(1, video["height"]))
    strip = media_video.View(n_thumbs / film_s, min(max(16, width), 4 * THUMB_HEIGHT), THUMB_HEIGHT)
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
    if job.layout is not None:
        token_canvas.look(item, job)
        if token_canvas.wants_first(item, job):
            _add_first(item, job, sandbox, pictures if start_s == 0 else None)
        token_canvas.drop_pictures(item, job)


def _add_first(item: Item, job: Job, sandbox: Sandbox, there: list[np.ndarray] | None) -> None:
    """The film's first picture in every view, out of the pictures that are `there`, or decoded for it."""
    rate = min(view.fps for view in job.views.values())
    try:
        first = there or sandbox.decode_views(item.task.video["uri"], list(job.views.values()), 0.0, 1 / rate)
    except DecodeFailed:  # of a film whose beginning is damaged: everything is generated, in all its segments
        item.still = []
        return
    item.arrays |= {name + FIRST: p[:1] for name, p in zip(job.views, first, strict=True)}


# close


def close(batch: pa.Table, job: Job) -> Iterator[pa.Table]:
    """Items with sound to finished files: video_id, seconds, row (JSON or empty), fatal."""
    for item in Item.from_table(batch):
        row: dict[str, Any] | None = None
        fatal = ""
        try:
            row = close_item(item, job)
        except storage.StorageError as error:
            row = given_up(item, job, error)
            fatal = "" if row is not None else str(error)
        except MemoryError:
            raise
        except Exception as error:  # a damaged part, say: it goes, so that the next run makes it again
            failure = Failure("close", type(error).__name__, str(error))
            row = _keep(pipeline.failed_row(item.task.video, failure), job)
            with contextlib.suppress(storage.StorageError):
                State(job.out).drop_parts(item.task.video_id)
        yield pa.table(
            {
                "video_id": [item.task.video_id],
                "segment": [item.task.segment.index],
                "seconds": [item.task.seconds],
                "row": [json.dumps(row) if row else ""],
                "fatal": [fatal],
            }
        )
    memory.give_back()


def given_up(item: Item, job: Job, error: storage.StorageError) -> dict[str, Any] | None:
    """The report row of a film of which something cannot be written although OUT can; None if OUT cannot.

    Its parts stay: once the place is put right, the next run only has to finish the film.
    """
    if not pipeline.own_trouble(error) or not State(job.out).writable():
        return None
    words = f"{error}; put that right and run the command again: what was generated is kept"
    return _keep(pipeline.unwritable_row(item.task.video, type(error)(words)), job)


def _keep(row: dict[str, Any], job: Job) -> dict[str, Any]:
    """The row, written down if it can be."""
    row |= {"run_id": job.run_id}
    with contextlib.suppress(storage.StorageError):
        State(job.out).write_row(row)
    return row


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
        told = token_canvas.told(item, job)
        part = Part(
            item.arrays["sound"], thumbs, np.array(item.thumb_times), item.cost_s, item.gpu_s, item.captions,
            damage=item.damage, still=told.still, scenes=told.scenes, windows=told.windows, seams=item.seams,
        )  # fmt: skip
        state.write_part(task.video_id, task.segment.index, part)
    if len(state.segments_done(task.video_id)) < task.n_segments:
        return None
    try:
        row = output.finish(task, job)
    except storage.StorageNotFound:
        # Another task finished the same file between our listing and our reading.
        row = state.read_row(task.video_id)
        if row is None:
            raise
        return row
    state.write_row(row)
    state.drop_parts(task.video_id)
    return row
