"""Finish stage of a dub: parts of a film to its output, pictures and report row."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import memory, storage
from pipelines.dub import plan, track
from pipelines.dub.item import Item
from pipelines.dub.job import DubJob, DubTask
from pipelines.dub.output import _write_output, subtitles_at
from pipelines.dub.part_reader import PartReader, caption_columns
from pipelines.dub.seal import Proof, Sealer
from pipelines.dub.segment_facts import SegmentFacts
from pipelines.dub.state import Part, State
from pipelines.media.errors import Failure
from pipelines.media.video import DecodeFailed
from pipelines.mux import subtitles
from pipelines.mux.track import MuxResult
from pipelines.reports import contact_sheet, dub_rows
from pipelines.reports.dub_rows import failed_row, report_row
from pipelines.reports.film_card import CARD_S
from pipelines.soundtrack.levels import Meter


def finish(task: DubTask, job: DubJob) -> dict[str, Any]:
    """Mux a file of which every segment is there; its report row. Safe to do twice, even at once.

    Raises storage.StorageError if OUT cannot be written, storage.StorageNotFound if a part has gone.
    """
    started = time.perf_counter()
    state = State(job.out)
    failed = [index for index, is_failure in state.segments_done(task.video_id).items() if is_failure]
    if failed:
        return _of_run(failed_row(task.video, state.read_failure(task.video_id, min(failed))), job)
    if (whole := state.unseen(task.video_id, task.n_segments)) is not None:
        return _of_run(failed_row(task.video, whole), job)
    made: MuxResult | None = None
    words: list[subtitles.Cue] = []
    if job.subtitles:  # the muxer wants to know them from the start
        reader = PartReader(task, job)
        for _ in reader.sounds():
            pass
        words = reader.cues()
    for output in (task.output, task.fallback):
        reader, meter, proof = PartReader(task, job), Meter(), Proof()
        try:
            making = track.making(task, job, state)
            made = _write_output(task, job, making, reader, meter, output, proof, words)
            break
        except DecodeFailed as error:
            if error.error_class == "ContainerCannotHold" and output != task.fallback:
                continue
            failure = Failure(error.stage, error.error_class, error.message)
            row = failed_row(task.video, failure) | {"source_sha256_after": proof.source_sha256}
            return _of_run(row, job)
    assert made is not None
    Sealer(job.out, job.version).write_record(task.video_id, output, proof)
    card = _write_card(task, job, reader, making.made.rate)
    sheet = _write_sheet(task, job, reader)
    cost = reader.facts.cost_s + time.perf_counter() - started
    duration_s = float(task.video["duration_s"])
    loud = meter.r128.levels() if meter.r128 is not None else None
    known: dict[str, Any] = {
        **reader.columns(),
        "output": output,
        "output_size": made.size,
        "card": card,
        "contact_sheet": sheet,
        "model": job.model_name,
        "seed": task.seed(job),
        **job.texts(task.asked),
        **caption_columns(reader.cues(), subtitles_at(output, job) if words else ""),
        "sound_peak_dbfs": meter.peak_dbfs,
        "sound_rms_dbfs": meter.rms_dbfs,
        "sound_lufs": loud.lufs if loud is not None and loud.loud else None,
        "sound_true_peak_dbtp": loud.true_peak_dbtp if loud is not None else None,
        **(meter.flags.columns() if meter.flags is not None else {}),
        "treatment": making.words,
        "heard_s": making.heard_s,
        "tracks": job.keep_top,
        "core_seconds": cost,
        "x_realtime": duration_s / cost,
        "source_sha256_after": proof.source_sha256,
        "output_sha256": proof.output_sha256,
        "signer": proof.signer,
    }
    return _of_run(report_row(task.video, "dubbed", **known), job)


def _of_run(row: dict[str, Any], job: DubJob) -> dict[str, Any]:
    return row | {"run_id": job.run_id}


def _write_card(task: DubTask, job: DubJob, reader: PartReader, rate: int) -> str:
    """Draw the report's picture of the file; its path relative to OUT, or nothing if it cannot be drawn."""
    relative = f"_v2a/cards/{task.video_id}.webp"
    duration_s = min(float(task.video["duration_s"]), CARD_S)
    try:
        from pipelines.reports import dub_page  # loads matplotlib: only where a file is finished

        with tempfile.TemporaryDirectory() as scratch:
            local = str(Path(scratch, "card.webp"))
            sound = np.concatenate(reader.opening, axis=1)
            dub_page.card(reader.strip(duration_s), sound, rate, duration_s, local)
            storage.put_atomic(local, storage.join(job.out, relative))
    except (storage.StorageError, MemoryError):
        raise
    except Exception:  # a dubbed file without its picture is still a dubbed file
        return ""
    return relative


def _write_sheet(task: DubTask, job: DubJob, reader: PartReader) -> str:
    """Draw frames over the whole of a film that is longer than its card; the picture's path relative to OUT, or nothing
    if there is none."""
    relative = f"_v2a/cards/{task.video_id}.sheet.webp"
    frames = reader.sheet.frames
    if float(task.video["duration_s"]) <= CARD_S or not frames:
        return ""
    try:
        picture = io.BytesIO()
        contact_sheet.draw(frames).save(picture, "webp", quality=80, method=4)
        storage.write_atomic(storage.join(job.out, relative), picture.getvalue())
    except (storage.StorageError, MemoryError):
        raise
    except Exception:  # as for the card
        return ""
    return relative


def close(batch: pa.Table, job: DubJob) -> Iterator[pa.Table]:
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
            row = _keep(dub_rows.failed_row(item.task.video, failure), job)
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


def _keep(row: dict[str, Any], job: DubJob) -> dict[str, Any]:
    """The row, written down if it can be."""
    row |= {"run_id": job.run_id}
    with contextlib.suppress(storage.StorageError):
        State(job.out).write_row(row)
    return row


def only_this_part_is_damaged(item: Item) -> bool:
    """Whether only this part of a longer film is damaged: the others are dubbed, and this one is silent."""
    failure = item.failure
    return (
        failure is not None
        and (failure.stage, failure.error_class) == ("decode", "InvalidData")
        and item.task.n_segments > 1
    )


def silence(item: Item, job: DubJob) -> Part:
    """The part of a segment that cannot be seen."""
    assert item.failure is not None
    segment = item.task.segment
    sound = np.zeros((job.made_channels, segment.stop - segment.start), np.int16)
    return Part(sound, facts=SegmentFacts(cost_s=item.facts.cost_s, unseen=item.failure.message))


def close_item(item: Item, job: DubJob) -> dict[str, Any] | None:
    """Keep what a segment gave; if it was the film's last, finish the file and return its report row."""
    state, task = State(job.out), item.task
    row = state.read_row(task.video_id)
    if row is not None and row.get("run_id") == job.run_id:
        return row  # a retried task, or one that came second: all is done
    if item.failure is not None and only_this_part_is_damaged(item):
        state.write_part(task.video_id, task.segment.index, silence(item, job))
    elif item.failure is not None:
        state.write_failure(task.video_id, task.segment.index, item.failure)
    elif not task.have_part:
        part = Part(item.arrays["sound"], item.arrays["thumbs"], np.array(item.thumb_times), item.facts)
        state.write_part(task.video_id, task.segment.index, part)
    if len(state.segments_done(task.video_id)) < task.n_segments:
        return None
    try:
        row = finish(task, job)
    except storage.StorageNotFound:
        # Another task finished the same file between our listing and our reading.
        row = state.read_row(task.video_id)
        if row is None:
            raise
        return row
    state.write_row(row)
    state.drop_parts(task.video_id)
    return row


def given_up(item: Item, job: DubJob, error: storage.StorageError) -> dict[str, Any] | None:
    """The report row of a film of which something cannot be written although OUT can; None if OUT cannot.

    Its parts stay: once the place is put right, the next run only has to finish the film.
    """
    if not plan.own_trouble(error) or not State(job.out).writable():
        return None
    words = f"{error}; put that right and run the command again: what was generated is kept"
    return _keep(dub_rows.unwritable_row(item.task.video, type(error)(words)), job)
