"""Notices on the console while a job brings no results: which processes work, and which are stopped."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType

import psutil

EVERY_S = 120.0


class Watchdog:
    """Reports what the processes of this job do whenever no result has come for `every_s` seconds.

    A context manager. It only reports; the job goes on.
    """

    def __init__(self, report: Callable[[str], None], every_s: float | None = None) -> None:
        self._report, self._every_s = report, EVERY_S if every_s is None else every_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.reset()

    def reset(self) -> None:
        """Start counting anew, because a result has come."""
        self._result_at = time.monotonic()

    def __enter__(self) -> Watchdog:
        self.reset()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        result_at, notices = self._result_at, 0
        while True:
            deadline = result_at + (notices + 1) * self._every_s
            if self._done.wait(max(0.0, deadline - time.monotonic())):
                return
            if self._result_at != result_at:
                result_at, notices = self._result_at, 0
                continue
            quiet_s = time.monotonic() - result_at
            self._report(notice(quiet_s, psutil.Process().children(recursive=True)))
            notices = int(quiet_s // self._every_s)


def notice(quiet_s: float, processes: Iterable[psutil.Process]) -> str:
    """Notice of a job whose last result came `quiet_s` seconds ago. `processes`: those that it started."""
    at_work, stopped = Counter[str](), list[tuple[str, int]]()
    for process in processes:
        try:
            command = process.cmdline()
            title = command[0] if command else ""
            if process.status() == psutil.STATUS_STOPPED:
                stopped.append((_stage(title) or process.name(), process.pid))
            elif (stage := _stage(title)) and not _waits(title):
                at_work[stage] += 1
        except psutil.Error:  # it ended meanwhile
            continue
    lines = [
        f"No result for {round(quiet_s / 60)} minutes. The job continues; a slow film can take that long."
    ]
    if at_work:
        counts = [f"{stage} ({n} process{'es' if n > 1 else ''})" for stage, n in sorted(at_work.items())]
        lines.append(f"  Running: {', '.join(counts)}.")
    else:
        lines.append(
            "  No stage is running on this machine: the job waits for free cores or memory, or for other machines."
        )
    if stopped:
        names = ", ".join(f"{name} (process {pid})" for name, pid in stopped)
        lines.append(f"  Suspended by a terminal or a signal: {names}.")
        lines.append(f"  To resume them: kill -CONT {' '.join(str(pid) for _, pid in stopped)}")
    return "\n".join(lines)


def _stage(title: str) -> str:
    """Stages in the title of a Ray worker, such as decode in ray::MapBatches(decode); empty if there are none."""
    return " and ".join(re.findall(r"Map\w*\((\w+)\)", title)) if title.startswith("ray::") else ""


def _waits(title: str) -> bool:
    """True for the title of an idle actor. While it works, the title ends with the name of the method."""
    return title.startswith("ray::MapWorker(") and title.rstrip().endswith(")")
