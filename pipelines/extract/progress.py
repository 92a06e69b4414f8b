"""Progress of an extraction: an actor that workers report to and that the driver polls.

The store alone decides which clips are done, so the actor may be lost and restarted without harm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LEAST_ROWS = 20
"""Minimum of rows before a fraction of failures counts."""

PUT_OFF_IN_A_ROW = 200
"""Number of successive windows withheld by storage after which the run stops."""


@dataclass
class Counts:
    """Progress that the workers of a run have reported so far."""

    rows: dict[str, int] = field(default_factory=dict)
    """Windows by stage: decode, encode, write, left_out."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Core-seconds by stage."""
    footage_s: dict[str, float] = field(default_factory=dict)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    """clip_id -> row of the store's table of failures."""
    put_off: dict[str, str] = field(default_factory=dict)
    """clip_id -> message of storage."""
    stop: str = ""
    """Reason to stop the run early; empty if there is none."""

    def merge(self, newer: Counts) -> None:
        """Merge a later report. The actor may have restarted in between, so totals never shrink."""
        self.failures |= newer.failures
        self.put_off |= newer.put_off
        self.stop = newer.stop or self.stop
        for name in ("rows", "seconds", "footage_s"):
            counted, newer_counts = getattr(self, name), getattr(newer, name)
            counted.update(
                {stage: max(value, counted.get(stage, 0)) for stage, value in newer_counts.items()}
            )

    def throughput(self) -> dict[str, float]:
        """Footage seconds per core-second, by stage."""
        return {
            stage: self.footage_s.get(stage, 0.0) / spent
            for stage, spent in self.seconds.items()
            if spent > 0 and self.footage_s.get(stage)
        }


class Ledger:
    """Sum of the reports of workers. `max_failed`: highest fraction of failed rows, or None for no limit."""

    def __init__(self, max_failed: float | None = None) -> None:
        self.counts, self.max_failed = Counts(), max_failed
        self._put_off_in_a_row = 0

    def add(self, facts: dict[str, Any]) -> str:
        """Add a report. The answer is the reason to stop the run; empty if there is none."""
        counts = self.counts
        stage = facts.get("stage")
        if stage is not None:
            counts.rows[stage] = counts.rows.get(stage, 0) + facts["rows"]
            counts.seconds[stage] = counts.seconds.get(stage, 0.0) + facts["seconds"]
            counts.footage_s[stage] = counts.footage_s.get(stage, 0.0) + facts["footage_s"]
            if facts["rows"]:
                self._put_off_in_a_row = 0
        for clip_id in facts.get("put_off", ()):
            counts.put_off[clip_id] = facts.get("reason", "")
            self._put_off_in_a_row += 1
        for row in facts.get("failures", ()):
            counts.failures[row["clip_id"]] = row
        counts.rows["left_out"] = counts.rows.get("left_out", 0) + facts.get("left_out", 0)
        counts.stop = counts.stop or self._reason_to_stop()
        return counts.stop

    def read(self) -> Counts:
        """Totals so far."""
        return self.counts

    def _reason_to_stop(self) -> str:
        counts = self.counts
        if self._put_off_in_a_row >= PUT_OFF_IN_A_ROW:
            return f"storage is not responding: {next(reversed(counts.put_off.values()))}"
        failed = len(counts.failures)
        finished = failed + counts.rows.get("write", 0) + counts.rows.get("left_out", 0)
        if self.max_failed is not None and finished >= LEAST_ROWS and failed > self.max_failed * finished:
            return f"{failed} of {finished} windows failed, more than --max-failed allows ({self.max_failed:.3g})"
        return ""
