"""One segment of a film on its way between the stages of a dub job."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import arrow_rows
from pipelines.dub.job import DubTask
from pipelines.dub.segment_facts import SegmentFacts
from pipelines.media.errors import Failure
from v2a_models.longform import FrameSpan

FIRST = "_first"
"""Suffix of a view's name for the film's first picture, from which the ambience of still stretches is made."""

_PICTURES = ("semantic", "sync", "frames")
_ARRAYS = {
    **dict.fromkeys((*_PICTURES, *(name + FIRST for name in _PICTURES), "thumbs"), np.uint8),
    "sound": np.int16,
}
_NOTES = ("decoded_from_s", "thumb_times", "cuts", "border_cuts", "still_windows", "notices")
"""Fields that are JSON values already."""


@dataclass
class Item:
    """One segment on its way: its task, what the stages made of it so far, or the failure that ended it."""

    task: DubTask
    failure: Failure | None = None
    facts: SegmentFacts = SegmentFacts()
    """Facts for the report, collected so far."""
    decoded_from_s: float = 0.0
    """Time of the first decoded frame, in seconds from the film's start."""
    thumb_times: list[float] = field(default_factory=list)
    """Times of the thumbs, in seconds from the film's start."""
    cuts: list[int] = field(default_factory=list)
    """Hard cuts, in codec frames."""
    border_cuts: list[int] = field(default_factory=list)
    """Hard cuts found when the windows at the segment's borders are searched alone, in codec frames."""
    still_windows: list[FrameSpan] = field(default_factory=list)
    """Windows without motion, in codec frames."""
    notices: list[str] = field(default_factory=list)
    """Notices about records that were set aside (`storage.take_notices`)."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """The views of the job and thumbs: uint8 [frames, h, w, 3]; sound: int16 [channels, n]."""

    def spend(self, seconds: float, device: str = "cpu") -> None:
        """Add `seconds` of work on `device` to the facts."""
        self.facts += SegmentFacts(cost_s=seconds, gpu_s=seconds if device == "cuda" else 0.0)

    def to_table(self) -> pa.Table:
        """One row (`arrow_rows.pack`)."""
        notes = {
            **{name: getattr(self, name) for name in _NOTES},
            "task": self.task.to_json(),
            "failure": asdict(self.failure) if self.failure else None,
            "facts": self.facts.to_json(),
        }
        return arrow_rows.pack(notes, self.arrays, _ARRAYS)

    @classmethod
    def from_table(cls, table: pa.Table) -> list[Item]:
        """Inverse of `to_table`, for any number of rows. The arrays are views into the table."""
        return [cls._from_row(notes, arrays) for notes, arrays in arrow_rows.unpack(table, _ARRAYS)]

    @classmethod
    def _from_row(cls, notes: dict[str, Any], arrays: dict[str, np.ndarray]) -> Item:
        return cls(
            DubTask.from_json(notes["task"]),
            Failure(**notes["failure"]) if notes["failure"] else None,
            SegmentFacts.from_json(notes["facts"]),
            **{name: notes[name] for name in _NOTES},
            arrays=arrays,
        )
