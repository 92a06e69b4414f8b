"""Showing how far a job is: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from jobs.common.terminal import clock

PLAIN_EVERY_S = 10.0
PLAIN_EVERY_SHARE = 0.05


class Progress:
    """Counts files (or other units) and seconds of footage against what there is to do."""

    def __init__(
        self,
        console: Console,
        total_files: int,
        total_s: float,
        *,
        doing: str = "dubbing",
        unit: str = "files",
    ) -> None:
        self.console, self.total_files, self.total_s, self.unit = console, total_files, total_s, unit
        self.files, self.footage_s, self.failed = 0, 0.0, 0
        self.started = time.perf_counter()
        self._last_line = (self.started, 0.0)
        self._bar: Bar | None = None
        if console.is_terminal:
            self._bar = Bar(
                TextColumn(doing),
                BarColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._line = self._bar.add_task(doing, total=max(total_s, 1e-9), note=self.note())

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self.started

    @property
    def x_realtime(self) -> float:
        """Footage per time, since the start."""
        return self.footage_s / max(self.elapsed_s, 1e-9)

    @property
    def left_s(self) -> float | None:
        """Estimated time left; None before enough is done to tell."""
        if self.footage_s < 0.03 * self.total_s or not self.footage_s:
            return None
        return (self.total_s - self.footage_s) / self.x_realtime

    def note(self) -> str:
        """Files, footage and speed in words."""
        done = f"{self.files}/{self.total_files} {self.unit}"
        if self.failed:
            done += f" ({self.failed} failed)"
        if not self.total_s:
            return done
        unit, name = (3600, "h") if self.total_s >= 3600 else (60, "min")
        footage = f"{self.footage_s / unit:.1f}/{self.total_s / unit:.1f} {name}"
        return f"{done} · {footage} · {self.x_realtime:.1f}x real time"

    def reach(self, footage_s: float, units: int, failed: int) -> None:
        """So much is done in all."""
        grown = (footage_s, units, failed) != (self.footage_s, self.files, self.failed)
        self.files, self.failed = units, failed
        if grown:
            self.advance(footage_s - self.footage_s)

    def advance(self, seconds: float, *, finished: bool = False, failed: bool = False) -> None:
        """`seconds` of footage more are done; `finished` if that ended a file."""
        self.footage_s += seconds
        self.files += finished
        self.failed += failed
        if self._bar:
            self._bar.update(self._line, completed=self.footage_s, note=self.note())
            return
        now = time.perf_counter()
        since, share = (
            now - self._last_line[0],
            (self.footage_s - self._last_line[1]) / max(self.total_s, 1e-9),
        )
        complete = self.files >= self.total_files
        if since >= PLAIN_EVERY_S or (share >= PLAIN_EVERY_SHARE and since >= 1.0) or complete:
            self._last_line = (now, self.footage_s)
            left = f" · {clock(self.left_s)} left" if self.left_s is not None and not complete else ""
            self.console.print(f"{self.note()}{left}", highlight=False, soft_wrap=True)
            sys.stdout.flush()
