"""Finish stage of a dub: keep the sound of each segment; after a film's last, write its output and report row."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import memory, scratch, storage
from pipelines.dub.item import Item
from pipelines.dub.job import DubJob, DubTask
from pipelines.dub.output import Proof, WrittenFilm, write_film
from pipelines.dub.part_reader import PartReader, caption_columns
from pipelines.dub.segment_facts import Part, SegmentFacts
from pipelines.dub.state import BrokenState, State, concerns_one_film
from pipelines.media.errors import DecodeFailed, DecoderNotStarted, Failure
from pipelines.mux import subtitles
from pipelines.reports import contact_sheet, film_card
from pipelines.reports.dub_rows import failed_row, report_row, unwritable_row
from pipelines.reports.film_card import CARD_S


def finish(batch: pa.Table, job: DubJob) -> Iterator[pa.Table]:
    """Items with sound to one row each: video_id, segment, seconds, row (JSON, empty unless the film is finished),
    fatal (a message if OUT can no longer be written), again (the film has a segment that must be made again) and
    notices (about what was set aside)."""
    for item in Item.from_table(batch):
        row: dict[str, Any] | None = None
        fatal, again = "", False
        try:
            row = finish_item(item, job)
        except BrokenState:
            again = True
        except storage.StorageError as error:
            row = _unwritable(item, job, error)
            fatal = "" if row is not None else str(error)
        except (MemoryError, DecoderNotStarted):
            raise
        except Exception as error:
            # Whatever it is, the parts may have to do with it: the next run generates them again.
            failure = Failure("finish", type(error).__name__, str(error))
            row = _write_row(failed_row(item.task.video, failure), job)
            with contextlib.suppress(storage.StorageError):
                State(job.out).drop_parts(item.task.video_id)
        yield pa.table(
            {
                "video_id": [item.task.video_id],
                "segment": [item.task.segment.index],
                "seconds": [item.task.seconds],
                "row": [json.dumps(row) if row else ""],
                "fatal": [fatal],
                "again": [again],
                "notices": pa.array([item.notices + storage.take_notices()], pa.list_(pa.string())),
            }
        )
    memory.give_back()


def finish_item(item: Item, job: DubJob) -> dict[str, Any] | None:
    """Keep the part of a segment; after the film's last segment, finish the film and return its report row.

    Raises BrokenState if a part of the film could not be read, so that it has to be made again.
    """
    state, task = State(job.out), item.task
    row = state.read_row(task.video_id)
    if row is not None and row.get("run_id") == job.run_id:
        return row  # a retried task, or the second of two: everything is done
    if item.failure is not None and item.failure.error_class == BrokenState.__name__:
        raise BrokenState(item.failure.message)
    _write_part(item, job)
    if sum(index < task.n_segments for index in state.segments_done(task.video_id)) < task.n_segments:
        return None
    try:
        row = finish_film(task, job)
    except (storage.StorageNotFound, BrokenState):
        # Another task finished the same film after this one listed its parts, or found that one cannot be read.
        row = state.read_row(task.video_id)
        if row is None:
            raise
        return row
    state.write_row(row)
    state.drop_parts(task.video_id)
    return row


def _write_part(item: Item, job: DubJob) -> None:
    """Write the part of a segment, or its failure, into the state folder."""
    state, task, at = State(job.out), item.task, item.task.segment.index
    if item.failure is not None and _is_damaged_part(item):
        silent = np.zeros((job.made_channels, task.segment.stop - task.segment.start), np.int16)
        facts = SegmentFacts(cost_s=item.facts.cost_s, unseen=item.failure.message)
        state.write_part(task.video_id, at, Part(silent, facts=facts))
    elif item.failure is not None:
        state.write_failure(task.video_id, at, item.failure)
    elif not task.have_part:
        part = Part(item.arrays["sound"], item.arrays["thumbs"], np.array(item.thumb_times), item.facts)
        state.write_part(task.video_id, at, part)


def _is_damaged_part(item: Item) -> bool:
    """True for a damaged segment of a longer film: it becomes silent, and the others are dubbed."""
    failure = item.failure
    return (
        failure is not None
        and (failure.stage, failure.error_class) == ("decode", "InvalidData")
        and item.task.n_segments > 1
    )


def finish_film(task: DubTask, job: DubJob) -> dict[str, Any]:
    """Write the output of a film of which every segment is done; its report row. Safe to repeat, even concurrently.

    Raises StorageError if OUT cannot be written, StorageNotFound if a part is gone, BrokenState if one cannot be read.
    """
    started = time.perf_counter()
    if (failure := _failure_of_segments(task, job)) is not None:
        return _of_run(failed_row(task.video, since_scan(failure, task.video)), job)
    captions: list[subtitles.Cue] = []
    if job.subtitles:  # the muxer needs them before the first sample
        reader = PartReader(task, job)
        reader.read_facts()
        captions = reader.cues()
    proof = Proof()
    try:
        try:
            film = write_film(task, job, task.output, captions, proof)
        except DecodeFailed as error:
            # With --strict, Matroska may hold what the film's own container does not.
            too_little = ("ContainerCannotHold", "StreamLeftOut")
            if error.error_class not in too_little or task.output == task.fallback:
                raise
            proof = Proof()
            film = write_film(task, job, task.fallback, captions, proof)
    except DecodeFailed as error:
        failure = Failure(error.stage, error.error_class, error.message)
        failure = since_scan(failure, task.video)
        row = failed_row(task.video, failure) | {"source_sha256_after": proof.source_sha256}
        return _of_run(row, job)
    pictures = {"card": _write_card(film, task, job), "contact_sheet": _write_contact_sheet(film, task, job)}
    seconds = film.parts.facts.cost_s + time.perf_counter() - started
    columns = _columns(film, task, job) | pictures | {"core_seconds": seconds}
    return _of_run(
        report_row(task.video, "dubbed", **columns, x_realtime=film.plan.duration_s / seconds), job
    )


def _failure_of_segments(task: DubTask, job: DubJob) -> Failure | None:
    """The failure of a film's first failed segment, or of a film of which no frame can be decoded; None if it can be
    finished."""
    state = State(job.out)
    done = state.segments_done(task.video_id)
    failed = [index for index, is_failure in done.items() if is_failure and index < task.n_segments]
    if failed:
        return state.read_failure(task.video_id, min(failed))
    return state.unseen(task.video_id, task.n_segments)


def since_scan(failure: Failure, video: dict[str, Any]) -> Failure:
    """The failure of a film, which is that of its source if that was changed or removed after the scan."""
    try:
        now = storage.stat_file(video["uri"])
    except storage.StorageNotFound:
        gone = f"the source was removed after the scan ({video['uri']}): {failure.message}"
        return Failure(failure.stage, "SourceGone", gone)
    except storage.StorageError:
        return failure
    if (now.size, now.version) == (video["size"], video["version"]):
        return failure
    changed = (
        f"the source was changed after the scan (from {video['size']} to {now.size} bytes): {failure.message}; run the "
        "command again once nothing writes to it"
    )
    return Failure(failure.stage, "SourceChanged", changed)


def _columns(film: WrittenFilm, task: DubTask, job: DubJob) -> dict[str, Any]:
    """Columns of the report that differ from an undubbed film's, but for pictures and costs."""
    levels = film.levels
    loudness = levels.r128.levels() if levels.r128 is not None else None
    columns = film.parts.columns()
    return {
        **columns,
        "reason": "; ".join(filter(None, (task.video.get("error"), columns["reason"]))),
        **caption_columns(film.parts.cues(), film.subtitles),
        **(levels.flags.columns() if levels.flags is not None else {}),
        **job.texts(task.overrides),
        "output": film.name,
        "output_size": film.result.size,
        "left_out": list(film.result.dropped),
        "converted": list(film.result.converted),
        "model": job.model_name,
        "seed": task.seed(job),
        "sound_peak_dbfs": levels.peak_dbfs,
        "sound_rms_dbfs": levels.rms_dbfs,
        "sound_lufs": loudness.lufs if loudness is not None and loudness.loud else None,
        "sound_true_peak_dbtp": loudness.true_peak_dbtp if loudness is not None else None,
        "treatment": film.plan.summary(),
        "heard_s": film.plan.generated_s,
        "tracks": job.keep_top,
        "source_sha256_after": film.proof.source_sha256,
        "output_sha256": film.proof.output_sha256,
        "signer": film.proof.signer,
    }


def _write_card(film: WrittenFilm, task: DubTask, job: DubJob) -> str:
    """Draw the report's picture of a film; its path relative to OUT, empty if it cannot be drawn."""
    relative = f"{storage.PRIVATE_FOLDER}/cards/{task.video_id}.webp"
    duration_s = min(film.plan.duration_s, CARD_S)
    try:
        with scratch.folder() as folder:
            local = str(folder / "card.webp")
            sound = np.concatenate(film.parts.opening, axis=1)
            picture = film_card.draw_card(film.parts.strip(duration_s), sound, film.plan.fmt.rate, duration_s)
            film_card.save(picture, local)
            storage.put_atomic(local, storage.join(job.out, relative))
    except (storage.StorageError, MemoryError):
        raise
    except Exception:  # a dubbed film without its picture is still a dubbed film
        return ""
    return relative


def _write_contact_sheet(film: WrittenFilm, task: DubTask, job: DubJob) -> str:
    """Draw frames over the whole of a film longer than its card; the path relative to OUT, empty for none."""
    relative = f"{storage.PRIVATE_FOLDER}/cards/{task.video_id}.sheet.webp"
    frames = film.parts.sheet.frames
    if film.plan.duration_s <= CARD_S or not frames:
        return ""
    try:
        picture = io.BytesIO()
        contact_sheet.draw_sheet(frames).save(picture, "webp", quality=80, method=4)
        storage.write_atomic(storage.join(job.out, relative), picture.getvalue())
    except (storage.StorageError, MemoryError):
        raise
    except Exception:  # as for the card
        return ""
    return relative


def _unwritable(item: Item, job: DubJob, error: storage.StorageError) -> dict[str, Any] | None:
    """The report row of a film that cannot be written although OUT can; None if OUT cannot.

    Its parts stay: once the cause is removed, the next run only has to finish the film.
    """
    if not concerns_one_film(error) or not State(job.out).writable():
        return None
    advice = f"{error}; fix this and run the command again: the generated sound is kept"
    return _write_row(unwritable_row(item.task.video, type(error)(advice)), job)


def _write_row(row: dict[str, Any], job: DubJob) -> dict[str, Any]:
    """Write the row into the state folder if that is possible; the row."""
    row = _of_run(row, job)
    with contextlib.suppress(storage.StorageError):
        State(job.out).write_row(row)
    return row


def _of_run(row: dict[str, Any], job: DubJob) -> dict[str, Any]:
    return row | {"run_id": job.run_id}
