"""Decode stage of a dub: the frames of a segment, for the model and for the report.

Every task gives an item: an error becomes the item's failure, and never ends the job.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import memory, retry, storage
from pipelines.dub import segment_windows
from pipelines.dub.item import FIRST, Item
from pipelines.dub.job import DubJob, DubTask, stretch
from pipelines.dub.segment_facts import SegmentFacts
from pipelines.dub.state import BrokenState, State
from pipelines.media import clock
from pipelines.media import video as media_video
from pipelines.media.errors import DecodeFailed, DecoderNotStarted, Failure
from pipelines.reports.film_card import CARD_S, THUMB_HEIGHT, THUMBS
from pipelines.sandbox.decoder import Sandbox, shared_sandbox
from pipelines.soundtrack.mixing import Seconds
from v2a_models import grid
from v2a_models.grid import decode_start


def decode(batch: pa.Table, job: DubJob) -> Iterator[pa.Table]:
    """Tasks (JSON) to items with frames."""
    for text in batch["task"].to_pylist():
        yield decode_task(DubTask.from_json(text), job, shared_sandbox()).to_table()
    memory.give_back()


def decode_task(task: DubTask, job: DubJob, sandbox: Sandbox) -> Item:
    """The item of a task, with frames if it needs them; a film with a failed segment is not decoded any further."""
    item = Item(task)
    if task.have_part or task.needless:
        return item
    if task.n_segments > 1:
        done = State(job.out).segments_done(task.video_id)
        failed = [index for index, is_failure in done.items() if is_failure]
        with contextlib.suppress(BrokenState, storage.StorageNotFound):
            if failed:
                item.failure = State(job.out).read_failure(task.video_id, failed[0])
                return item
        item.notices += storage.take_notices()
    return decode_item(item, job, sandbox)


def decode_item(item: Item, job: DubJob, sandbox: Sandbox) -> Item:
    """The item with its frames, or with the failure to decode them. Raises DecoderNotStarted."""
    started = time.perf_counter()
    try:
        _decode_into(item, job, sandbox)
    except DecodeFailed as error:
        item.failure = Failure("decode", error.error_class, error.message)
    except storage.StorageError as error:
        item.failure = Failure("storage", type(error).__name__, str(error))
    except DecoderNotStarted:  # no fault of the film
        raise
    except Exception as error:  # one film never stops a run
        item.failure = Failure("decode", type(error).__name__, str(error))
    item.spend(time.perf_counter() - started)
    return item


def _decode_into(item: Item, job: DubJob, sandbox: Sandbox) -> None:
    segment, video = item.task.segment, item.task.video
    first_s, end_s = (grid.seconds(at, job.rate) for at in stretch(job, segment))
    start_s = decode_start(first_s, [view.fps for view in job.views.values()])
    strip, n_thumbs = film_strip(video, start_s, grid.seconds(segment.stop, job.rate) - start_s)
    views = [*job.views.values(), strip]
    for attempt in retry.storage_attempts(retry.DUB):
        with attempt:
            damage: list[Seconds] = []
            seeks = not clock.has_leaps(video.get("error"))
            *pictures, thumbs = sandbox.decode_views(video["uri"], views, start_s, end_s, damage, seeks)
    thumbs = thumbs[:n_thumbs]
    item.facts += SegmentFacts(damage=tuple(damage))
    item.decoded_from_s = start_s
    item.thumb_times = [start_s + k / strip.fps for k in range(len(thumbs))]
    item.arrays = {**dict(zip(job.views, pictures, strict=True)), "thumbs": thumbs}
    if job.layout is not None:
        segment_windows.annotate(item, job)
        if segment_windows.needs_first_picture(item, job):
            _add_first(item, job, sandbox, pictures if start_s == 0 else None)
        segment_windows.drop_pictures(item, job)


def film_strip(video: dict[str, Any], start_s: float, segment_s: float) -> tuple[media_video.View, int]:
    """View of the report's small frames of a segment, and their number.

    A film's card has `THUMBS` of them over its first `CARD_S` seconds; a segment behind those has one, for the contact
    sheet.
    """
    shown_s = min(float(video["duration_s"]), CARD_S)
    n_thumbs = math.ceil(THUMBS * segment_s / shown_s) if start_s < shown_s else 1
    width = round(THUMB_HEIGHT * video["width"] / max(1, video["height"]))
    return media_video.View(
        n_thumbs / segment_s, min(max(16, width), 4 * THUMB_HEIGHT), THUMB_HEIGHT
    ), n_thumbs


def _add_first(item: Item, job: DubJob, sandbox: Sandbox, decoded: list[np.ndarray] | None) -> None:
    """Add the film's first picture in every view: from `decoded` frames that start with it, or decoded for it."""
    rate = min(view.fps for view in job.views.values())
    try:
        first = decoded or sandbox.decode_views(
            item.task.video["uri"], list(job.views.values()), 0.0, 1 / rate
        )
    except DecodeFailed:  # the film's start is damaged, which every segment finds: all windows are generated
        item.still_windows = []
        return
    item.arrays |= {name + FIRST: p[:1] for name, p in zip(job.views, first, strict=True)}
