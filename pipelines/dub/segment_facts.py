"""Facts about one generated segment, for the report; those of a film are the sum over its segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pipelines.mux.subtitles import Cue
from pipelines.soundtrack.mixing import Seconds


@dataclass(frozen=True)
class SegmentFacts:
    """Facts that a segment collects on its way through the stages. Times are seconds from the film's start.

    A new fact is one more field here, with a default: items and parts carry it, and parts of older runs read.
    """

    cost_s: float = 0.0
    """Core-seconds spent on the segment."""
    gpu_s: float = 0.0
    """GPU-seconds spent on the segment, included in `cost_s`."""
    windows: int = 0
    """Windows generated, counting those that start within the segment."""
    scenes: int = 0
    """Hard cuts that end a window."""
    captions: tuple[Cue, ...] = ()
    """Sound captions by the model, and the stretches that they describe."""
    damage: tuple[Seconds, ...] = ()
    """Stretches in which the last good frame stands in for damaged ones."""
    still: tuple[Seconds, ...] = ()
    """Stretches without motion, which share one ambience instead of windows of their own."""
    seams: tuple[tuple[float, float], ...] = ()
    """Worst joins between windows: time, and size of the jump relative to the usual one."""
    unseen: str = ""
    """Reason why no frame can be decoded, so that the segment is silent; empty otherwise."""

    def __add__(self, other: SegmentFacts) -> SegmentFacts:
        """Both together: numbers add up, lists follow each other, and the first reason stays."""
        return SegmentFacts(
            **{f.name: _joined(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values by field."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SegmentFacts:
        """Inverse of `to_json`; absent fields get their default. Raises TypeError for an unknown field."""
        return cls(**{name: _frozen(value) for name, value in values.items()})


def _joined(first: Any, second: Any) -> Any:
    return (first or second) if isinstance(first, str) else first + second


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value
