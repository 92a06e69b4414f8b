"""Kinds of faults, and what a campaign of them found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

KILLS = (
    "driver",
    "worker",
    "actor",
    "decoder-segfault",
    "decoder-hang",
    "memory",
    "raylet",
    "mlflow",
    "s3-server",
)
STORMS = ("s3-errors", "s3-truncated", "s3-slow", "s3-gone")
TORN = ("torn-part", "torn-row", "torn-config", "source-gone")
DISK = ("disk-full",)
FILMS = ("film-segfault", "film-hang")
KINDS = KILLS + STORMS + TORN + DISK + FILMS
OFTEN = {
    **dict.fromkeys(KILLS, 6),
    **dict.fromkeys(STORMS, 5),
    **dict.fromkeys(TORN, 4),
    **{"raylet": 3, "mlflow": 3, "disk-full": 1},
}
"""Frequency of each kind. `FILMS` come once, together: to wait for a decoder that hangs takes two minutes."""


@dataclass
class Summary:
    """Faults of a campaign, and its findings."""

    injected: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    """Requests that failed while a kind of S3 fault went on: each of those counts as one fault."""
    rounds: int = 0
    runs: int = 0
    compared: int = 0
    lost: list[str] = field(default_factory=list)
    """Files that are not there, or are others than in the undisturbed run."""
    torn: list[str] = field(default_factory=list)
    """Files that could be seen before they were whole."""
    left: list[str] = field(default_factory=list)
    """Temporary files, parts and uploads that nobody will end."""
    stopped: str = ""
    """Reason why the campaign ended before it had injected all its faults; empty if it did not."""
    seconds: float = 0.0
    busy_s: float = 0.0
    """Processor seconds of all that was started: what the campaign takes on cores of its own."""

    @property
    def bad(self) -> bool:
        return bool(self.lost or self.torn or self.left)

    def lines(self) -> list[str]:
        total = sum(self.injected.values())
        told = [f"{total} faults in {self.rounds} rounds, {self.runs} runs, {self.seconds:.0f} s, "
                f"{self.busy_s:.0f} processor seconds"]  # fmt: skip
        told += [f"stopped: {self.stopped}"] if self.stopped else []
        told += [
            f"  {count:5d}  {name}" + (f" ({self.requests[name]} requests)" if self.requests[name] else "")
            for name, count in sorted(self.injected.items())
        ]
        told.append(f"files compared: {self.compared}; lost: {len(self.lost)}; torn: {len(self.torn)}; "
                    f"left over: {len(self.left)}")  # fmt: skip
        return told + self.lost + self.torn + self.left
