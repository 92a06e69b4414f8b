"""Plan a dub: sort the files of a scan into finished, skipped, failed and to do, and cut the latter into tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines import storage
from pipelines.archive import scan
from pipelines.archive.scan import SILENT_STATES
from pipelines.archive.selection import Selection
from pipelines.dub import manifest, segments
from pipelines.dub.job import DubJob, DubTask, file_segments, first_missing, part_shapes, turn, within
from pipelines.dub.manifest import BEYOND_S, ManifestRow
from pipelines.dub.output_names import UsedNames, output_names, used_names
from pipelines.dub.state import State, concerns_one_film
from pipelines.media.errors import Failure
from pipelines.mux.streams import left_out
from pipelines.reports import dub_rows
from pipelines.soundtrack import mixing
from pipelines.soundtrack.mixing import Seconds
from pipelines.soundtrack.silence import Silence
from v2a_models import grid

NOT_LOOKED_AT = "not looked at"
"""Beginning of the reason of a row that is no file, or is v2a's own."""


@dataclass
class DubPlan:
    """Tasks of a run, and the report rows that are known before it."""

    tasks: list[DubTask] = field(default_factory=list)
    """Segments to generate, film by film: in the order of the archive, but by `turn` first."""
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """video_id -> report row of files that are finished, skipped or failed."""
    to_dub: dict[str, dict[str, Any]] = field(default_factory=dict)
    """video_id -> scan row of the files with tasks."""
    order: list[str] = field(default_factory=list)
    """video_ids of all files, in the order of the report."""
    kept: int = 0
    """Number of files that an earlier run dubbed."""
    others: list[dict[str, Any]] = field(default_factory=list)
    """Report rows of earlier runs for files that this one does not take."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Number of files that hold no footage, by kind (`pipelines.archive.kinds`)."""
    notices: list[str] = field(default_factory=list)
    """Notices about records that were set aside, as they were printed."""

    @property
    def footage_s(self) -> float:
        return float(sum(task.seconds for task in self.tasks))


def make_plan(
    job: DubJob,
    scanned: Iterable[dict[str, Any]],
    only: str,
    *,
    restart: bool = False,
    dry_run: bool = False,
    requests: Mapping[str, ManifestRow] | None = None,
    silences: Mapping[str, Silence] | None = None,
    selection: Selection | None = None,
) -> DubPlan:
    """Plan the files of a scan. Finished files are kept, begun ones resumed and failed ones tried again; a file is done
    afresh with `restart`, or if its request has changed. A `dry_run` changes nothing on disk.

    requests: manifest rows by path; silences: silent stretches of the films that need them (`wants_silence`), by
    video_id; selection: the files that were scanned, by default the whole archive. Raises StorageError if OUT as a
    whole cannot be written.
    """
    plan = DubPlan()
    scanned = list(scanned)
    used = used_names(
        job, scanned, lambda video_id: None if restart else _row_before(job, video_id), tries=not dry_run
    )
    requests, silences = manifest.resolved(requests or {}, scanned), silences or {}
    paths = {path for video in scanned for path in (video["path"], *(video.get("parts") or ()))}
    if selection is not None and not selection.whole and not restart:
        ids = {video["video_id"] for video in scanned}
        plan.others = State(job.out, mends=not dry_run).rows_of_others(ids, paths)
        for row in plan.others:
            if row["output"]:
                used.reserve(row["output"], row["video_id"])
                used.add_folder(row["output"])
    for video in scanned:
        video_id = video["video_id"]
        plan.order.append(video_id)
        if kind := scan.kind_passed_over(video):
            plan.passed_over[kind] += 1
        request, silence = requests.get(video["path"], ManifestRow()), silences.get(video_id)
        try:
            _add(plan, job, video, only, request, silence, used, restart=restart, dry_run=dry_run)
        except storage.StorageError as error:
            if not concerns_one_film(error) or not (dry_run or State(job.out).writable()):
                raise
            plan.rows[video_id] = dub_rows.unwritable_row(video, error)
        except Exception as error:  # one film never stops a run, whatever is wrong with it
            failure = Failure("plan", type(error).__name__, str(error) or type(error).__name__)
            plan.rows[video_id] = dub_rows.failed_row(video, failure)
    for path in sorted(requests.keys() - paths):
        if selection is not None and not selection.names_all(path):
            continue
        row = dub_rows.failed_row(unknown(path), Failure("manifest", "UnknownPath", UNKNOWN.format(path)))
        plan.order.append(row["video_id"])
        plan.rows[row["video_id"]] = row
    plan.tasks.sort(key=lambda task: turn(task.video))
    return plan


def _row_before(job: DubJob, video_id: str) -> dict[str, Any] | None:
    try:
        return State(job.out).read_row(video_id)
    except storage.StorageError as error:
        if not concerns_one_film(error):
            raise
        return None  # the plan of this film will fail, and say why


UNKNOWN = "the manifest names {!r}, which is not in the archive; give its path relative to the archive"


def unknown(path: str) -> dict[str, Any]:
    """Stand-in for the scan row of a film that the manifest names and the archive lacks."""
    return {"video_id": scan.video_id(path, 0, "manifest"), "path": path}


def _add(
    plan: DubPlan,
    job: DubJob,
    video: dict[str, Any],
    only: str,
    request: ManifestRow,
    silence: Silence | None,
    used: UsedNames,
    *,
    restart: bool,
    dry_run: bool,
) -> None:
    """Add the tasks of one scanned film to the plan, or its report row. `used`: output names so far.

    Raises StorageError if its output or its state cannot be read or written.
    """
    state, video_id = State(job.out, mends=not dry_run), video["video_id"]
    long = scan.too_long(video, job.max_hours)
    if long and silence is None and wants_silence(video, job.treatment.existing, request):
        plan.rows[video_id] = dub_rows.failed_row(video, Failure("plan", "TooLong", long))
        return
    action, reason = decide(video, only, request, silence)
    if action == "skipped":
        plan.rows[video_id] = dub_rows.report_row(video, "skipped", reason)
        return
    if action == "failed":
        plan.rows[video_id] = dub_rows.failed_row(video, why_failed(video, request, silence))
        return
    spans = spans_of(video, request, silence)
    if spans == ():
        plan.rows[video_id] = dub_rows.report_row(video, "skipped", "not silent between in and out time")
        return
    try:
        output, fallback = output_names(job, video, used)
    except ValueError as error:
        plan.rows[video_id] = dub_rows.failed_row(video, Failure("plan", "ContainerCannotHold", str(error)))
        return
    overrides = request.overrides()
    requested = overrides | ({} if spans is None else {"spans": [list(span) for span in spans]})
    if state.read_request(video_id) != requested and not dry_run:
        state.drop_row(video_id)
        state.drop_parts(video_id)
        state.write_request(video_id, requested)
    row = None if restart or state.read_request(video_id) != requested else state.read_row(video_id)
    lost = [] if row is None else [text for text in row.get("left_out") or [] if not left_out.is_kept(text)]
    complete = row is not None and not (job.strict and lost)
    if row is not None and complete and row.get("status") == "dubbed" and _still_there(job.out, row):
        plan.rows[video_id] = row
        plan.kept += 1
        return
    if long:
        plan.rows[video_id] = dub_rows.failed_row(video, Failure("plan", "TooLong", long))
        return
    storage.check_name(storage.join(job.out, output))
    if job.treatment.existing == "mix" and unreadable(video):
        message = "its sound track cannot be decoded, so nothing can be mixed with it: use --existing keep"
        plan.rows[video_id] = dub_rows.failed_row(video, Failure("sound", "InvalidData", message))
        return
    if not dry_run:
        state.drop_row(video_id)
    done: frozenset[int] = frozenset()
    if not restart:
        done = kept_parts(state, job, video)
    try:
        plan.tasks += plan_file(job, video, output, fallback, done, overrides, spans)
    except ValueError as error:
        plan.rows[video_id] = dub_rows.failed_row(video, Failure("scan", "ZeroDuration", str(error)))
        return
    plan.to_dub[video_id] = video


def kept_parts(state: State, job: DubJob, video: dict[str, Any]) -> frozenset[int]:
    """Segments of a film that have a part of the right shape. Forgets failures, and sets other parts aside."""
    video_id, shapes = video["video_id"], part_shapes(job, video["duration_s"])
    segments_done = state.segments_done(video_id)
    if any(segments_done.values()) and state.mends:
        state.drop_parts(video_id, failures_only=True)
    return frozenset(
        index
        for index, is_failure in segments_done.items()
        if not is_failure and index < len(shapes) and state.has_part(video_id, index, shapes[index])
    )


def plan_again(job: DubJob, plan: DubPlan, video_ids: Iterable[str]) -> list[DubTask]:
    """Tasks of begun films of the plan of which a part was set aside."""
    firsts = {task.video_id: task for task in reversed(plan.tasks)}
    state, tasks = State(job.out), list[DubTask]()
    for video_id in video_ids:
        first = firsts[video_id]
        done, spans = kept_parts(state, job, first.video), state.read_request(video_id).get("spans")
        tasks += plan_file(job, first.video, first.output, first.fallback, done, first.overrides, spans)
    return tasks


def wants_silence(video: dict[str, Any], existing: str, request: ManifestRow, max_hours: float = 0.0) -> bool:
    """True if the silent stretches of the film's own sound are needed for its plan; not for a film of more than
    `max_hours` (0: any length), which is not dubbed."""
    if scan.too_long(video, max_hours):
        return False
    audible = video["status"] == "ok" and video["audio_state"] not in SILENT_STATES
    return existing == "replace-silent-parts" and audible and not request.skip


def decide(
    video: dict[str, Any], only: str, request: ManifestRow, silence: Silence | None
) -> tuple[str, str]:
    """Decide on a scanned file and its request: (dub | skipped | failed, reason). `silence`: silent stretches of a film
    that gets sound only there."""
    action, reason = classify(video, "all" if silence is not None else only)
    if action != "failed" and request.skip:
        return "skipped", "the manifest says skip"
    if action != "dub":
        return action, reason
    if silence is not None:
        if silence.error:
            return "failed", "its sound cannot be read"
        if not silence.parts:
            return "skipped", "has sound throughout"
        reason = f"sound track: silent for {silence.seconds:.1f} s"
    if max(request.start_s or 0.0, request.end_s or 0.0) > float(video["duration_s"]) + BEYOND_S:
        return "failed", "the manifest's in or out time lies beyond its end"
    return "dub", reason


def classify(row: dict[str, Any], only: str) -> tuple[str, str]:
    """Decide on a scanned file by itself: (dub | skipped | failed, reason)."""
    if row["status"] == "not_video":
        kind = scan.kind_passed_over(row)
        return "skipped", f"not a video ({kind})" if kind else f"{NOT_LOOKED_AT}: {row['error']}"
    if row["status"] == "audio_only":
        return "skipped", "sound without a picture"
    if row["status"] != "ok":
        return "failed", "cannot be read"
    if only == "silent" and row["audio_state"] not in SILENT_STATES:
        detail = "it cannot be decoded" if unreadable(row) else f"peak {row['peak_dbfs']:.1f} dBFS"
        return "skipped", f"has sound ({detail})"
    return "dub", f"sound track: {row['audio_state']}"


def unreadable(video: dict[str, Any]) -> bool:
    """True if not one sample of the film's own sound can be decoded."""
    return video["audio_state"] not in SILENT_STATES and video["peak_dbfs"] is None


def why_failed(video: dict[str, Any], request: ManifestRow, silence: Silence | None) -> Failure:
    """The failure of a film for which `decide` says "failed"."""
    if video["status"] != "ok":
        return Failure("scan", video["error_class"], video["error"])
    if silence is not None and silence.error:
        return Failure("sound", silence.error_class, silence.error)
    times = f"{request.start_s or 0:g} to {'the end' if request.end_s is None else f'{request.end_s:g}'}"
    length = f"the film lasts {video['duration_s']:.3f} s"
    return Failure(
        "manifest", "BeyondTheEnd", f"in and out times {times} s, and {length}: correct the manifest"
    )


def spans_of(
    video: dict[str, Any], request: ManifestRow, silence: Silence | None
) -> tuple[mixing.Seconds, ...] | None:
    """Stretches of the film that get sound, in seconds; None for all of it."""
    silent = None if silence is None else silence.parts
    if request.start_s is None and request.end_s is None:
        return silent
    end_s = float(video["duration_s"]) if request.end_s is None else request.end_s
    requested = (request.start_s or 0.0, end_s)
    return (requested,) if silent is None else tuple(mixing.intersection(silent, [requested]))


def _still_there(out: str, row: dict[str, Any]) -> bool:
    try:
        return storage.size(storage.join(out, row["output"])) == row.get("output_size")
    except (storage.StorageNotFound, KeyError, ValueError):
        return False


def plan_file(
    job: DubJob,
    video: dict[str, Any],
    output: str,
    fallback: str,
    done: frozenset[int] = frozenset(),
    overrides: dict[str, Any] | None = None,
    spans: Sequence[Seconds] | None = None,
) -> list[DubTask]:
    """The tasks of one file. done: segments with a part; overrides: of the job's texts and seed; spans: stretches
    that get sound, in seconds, None for the whole film.

    Raises ValueError if the film is too short for a single sample.
    """
    whole = file_segments(job, video["duration_s"])
    if not whole:
        raise ValueError(f"a film of {video['duration_s']} s is too short for a single sample")
    if job.streams:
        done = frozenset(range(first_missing(done)))
    n_windows = sum(segment.n_windows for segment in whole)

    def task(segment: segments.Segment) -> DubTask:
        fresh = segment.stop - segment.start - (0 if segment.is_first else job.overlap)
        seconds = grid.seconds(fresh, job.rate)
        return DubTask(
            video, output, fallback, segment, len(whole), n_windows, seconds, segment.index in done,
            needless=not (job.streams or spans is None or any(within(job, segment, span) for span in spans)),
            overrides=overrides or {},
        )  # fmt: skip

    todo = [task(segment) for segment in whole if segment.index not in done]
    # With all parts and no row, the earlier run ended between its last part and the mux.
    return todo or [task(whole[-1])]
