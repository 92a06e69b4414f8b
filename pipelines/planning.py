"""What a dub job will do: the files of a scan sorted into finished, not to be dubbed, and to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pipelines import containers, dub, storage
from pipelines.parts import Failure, State


@dataclass
class Plan:
    """What a run will do."""

    tasks: list[dub.Task] = field(default_factory=list)
    """In the order of the archive."""
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """video_id -> report row of every finished file."""
    to_dub: dict[str, dict[str, Any]] = field(default_factory=dict)
    """video_id -> scan row of the files that `tasks` are about."""
    order: list[str] = field(default_factory=list)
    """All video_ids."""
    kept: int = 0
    """Files that an earlier run dubbed."""

    @property
    def footage_s(self) -> float:
        return float(sum(task.seconds for task in self.tasks))


def make_plan(
    job: dub.Job,
    scanned: Iterable[dict[str, Any]],
    only: str,
    *,
    restart: bool = False,
    dry_run: bool = False,
) -> Plan:
    """Sort the files of a scan. What earlier runs finished is kept, what they began is taken up, and what
    failed is tried again, unless `restart`. A `dry_run` changes nothing on disk.
    """

    state, plan = State(job.out), Plan()
    taken: set[str] = set()
    for video in scanned:
        video_id = video["video_id"]
        plan.order.append(video_id)
        action, reason = dub.decide(video, only)
        if action == "skipped":
            plan.rows[video_id] = dub.report_row(video, "skipped", reason)
            continue
        if action == "failed":
            plan.rows[video_id] = dub.failed_row(video, Failure("scan", video["error_class"], video["error"]))
            continue
        wanted = containers.output_name(
            video["path"], container=video["container"], video_codec=video["video_codec"]
        )
        output = dub.unique_output(wanted, video_id, taken)
        fallback = dub.unique_output(f"{video['path']}.mkv", video_id, taken)
        row = None if restart else state.read_row(video_id)
        if row is not None and row["status"] == "dubbed" and _still_there(job.out, row):
            plan.rows[video_id] = row
            plan.kept += 1
            continue
        done: frozenset[int] = frozenset()
        if not dry_run:
            state.drop_row(video_id)
        if not restart:
            left = state.segments_done(video_id)
            if any(left.values()) and not dry_run:
                state.drop_parts(video_id, failures_only=True)
            done = frozenset(index for index, is_failure in left.items() if not is_failure)
        try:
            plan.tasks += dub.plan_file(job, video, output, fallback, done)
        except ValueError as error:
            plan.rows[video_id] = dub.failed_row(video, Failure("scan", "ZeroDuration", str(error)))
            continue
        plan.to_dub[video_id] = video
    return plan


def _still_there(out: str, row: dict[str, Any]) -> bool:
    try:
        return storage.size(storage.join(out, row["output"])) == row.get("output_size")
    except (storage.StorageNotFound, ValueError):
        return False
