"""Progress of a job: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from jobs.common.terminal import clock

PLAIN_EVERY_S = 10.0
PLAIN_EVERY_FRACTION = 0.05
FIRST_ESTIMATE = 0.03
"""Fraction done before the time left is estimated."""


class Progress:
    """Counts files (or other units) and seconds of footage against their totals. A context manager.

    The bar measures footage, or units if `total_s` is 0. `plain=False` prints nothing where there is no terminal.
    """

    def __init__(
        self,
        console: Console,
        total_files: int | None,
        total_s: float = 0.0,
        *,
        doing: str = "dubbing",
        unit: str = "files",
        plain: bool = True,
    ) -> None:
        self.console, self.total_files, self.total_s, self.unit = console, total_files, total_s, unit
        self.files, self.footage_s, self.failed = 0, 0.0, 0
        self.started = time.perf_counter()
        self._plain, self._last_line = plain, (self.started, 0.0)
        self._bar: Bar | None = None
        if console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._line = self._bar.add_task(doing, total=self._total, note=self.note())

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
    def _total(self) -> float | None:
        return self.total_s or self.total_files

    @property
    def _done(self) -> float:
        return self.footage_s if self.total_s else self.files

    @property
    def fraction(self) -> float:
        """Fraction of the work that is done; 0 while the total is unknown."""
        return self._done / self._total if self._total else 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    @property
    def x_realtime(self) -> float:
        """Seconds of footage per second, since the start."""
        return self.footage_s / max(self.elapsed_s, 1e-9)

    @property
    def left_s(self) -> float | None:
        """Estimated seconds left; None until `FIRST_ESTIMATE` is done."""
        done = self.fraction
        return self.elapsed_s * (1 - done) / done if done >= FIRST_ESTIMATE else None

    def note(self) -> str:
        """Files, footage and speed so far, as text."""
        total = "" if self.total_files is None else f"/{self.total_files}"
        done = f"{self.files}{total} {self.unit}"
        if self.failed:
            done += f" ({self.failed} failed)"
        if not self.total_s:
            return done
        unit, name = (3600, "h") if self.total_s >= 3600 else (60, "min")
        footage = f"{self.footage_s / unit:.1f}/{self.total_s / unit:.1f} {name}"
        return f"{done} · {footage} · {self.x_realtime:.1f}x real time"

    def expect(self, total_files: int | None, doing: str) -> None:
        """Correct the total, and the word for the work, as more is known."""
        self.total_files = total_files
        if self._bar:
            self._bar.update(self._line, total=self._total, description=doing)

    def reach(self, footage_s: float, units: int, failed: int) -> None:
        """Set the totals done so far."""
        grown = (footage_s, units, failed) != (self.footage_s, self.files, self.failed)
        self.files, self.failed = units, failed
        if grown:
            self.advance(footage_s - self.footage_s)

    def advance(self, seconds: float = 0.0, *, finished: int = 0, failed: bool = False) -> None:
        """Add `seconds` of footage and `finished` files."""
        self.footage_s += seconds
        self.files += finished
        self.failed += failed
        if self._bar:
            self._bar.update(self._line, completed=self._done, note=self.note())
        elif self._plain:
            self._print()

    def _print(self) -> None:
        """One plain line, if the last one is long enough ago or the work is complete."""
        now = time.perf_counter()
        since, fraction = now - self._last_line[0], self.fraction - self._last_line[1]
        complete = self.total_files is not None and self.files >= self.total_files
        if since >= PLAIN_EVERY_S or (fraction >= PLAIN_EVERY_FRACTION and since >= 1.0) or complete:
            self._last_line = (now, self.fraction)
            left = f" · {clock(self.left_s)} left" if self.left_s is not None and not complete else ""
            self.console.print(f"{self.note()}{left}", highlight=False, soft_wrap=True)
            sys.stdout.flush()
