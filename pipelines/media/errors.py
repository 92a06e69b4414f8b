"""Failures of a file, as the report lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class DecodeFailed(Exception):
    """The file cannot be read as requested, and the file is the reason.

    `error_class` is a short name (`EmptyFile`, `NotAVideo`, `ForbiddenFormat`, `Encrypted`,
    `NoVideoStream`, `NoFrames`, `ZeroDuration`, `BadSize`, `BadTimestamps`, `InvalidData`, and from the
    sandbox `DecoderCrashed`, `DecoderTimeout`, `DecoderOutOfMemory`); `stage` is `open`, `probe`,
    `decode` or `sound`.
    """

    def __init__(self, error_class: str, message: str, stage: str) -> None:
        super().__init__(f"{error_class}: {message}")
        self.error_class = error_class
        self.message = message
        self.stage = stage

    def __reduce__(self) -> tuple[type[DecodeFailed], tuple[str, str, str]]:
        return type(self), (self.error_class, self.message, self.stage)


class DecoderNotStarted(RuntimeError):
    """The decoding process could not be started, several times in a row: the machine is the reason, and no file."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"the decoding process failed to start, several times in a row: {self.reason}\n"
            "Mostly memory is short: use fewer --num-workers, or give the machine or container more memory and a "
            "larger /dev/shm (docker run --shm-size=2g); then run the command again"
        )


@dataclass(frozen=True)
class Failure:
    """The reason why a file has no new sound."""

    stage: str
    """Stage of the work that failed, such as scan, decode, generate, mux or storage (docs/operations.md lists them)."""
    error_class: str
    message: str


def first_line(error: object) -> str:
    """The first line of a message, cut where it gets long; the error's class if it has no message."""
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return line if len(line) <= 200 else line[:199] + "…"


def damage_within(
    damage: Sequence[tuple[float, float]], start_s: float, end_s: float, join_s: float = 0.5
) -> list[tuple[float, float]]:
    """Damaged stretches between `start_s` and `end_s`, in seconds; those less than `join_s` apart are joined."""
    joined: list[tuple[float, float]] = []
    for first, last in sorted(damage):
        first, last = max(first, start_s), min(last, end_s)
        if first >= last:
            continue
        if joined and first - joined[-1][1] < join_s:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined
