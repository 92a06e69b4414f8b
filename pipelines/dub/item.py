"""What travels between the stages of a dub job: one segment of a film on its way."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import arrow_rows
from pipelines.dub.job import DubTask
from pipelines.media.errors import Failure
from pipelines.mux.subtitles import Cue

FIRST = "_first"
"""Added to the name of a view: the film's first picture, which stands for pictures in which nothing moves."""

_PICTURES = ("semantic", "sync", "frames")
_ARRAYS = {
    **dict.fromkeys((*_PICTURES, *(name + FIRST for name in _PICTURES), "thumbs"), np.uint8),
    "sound": np.int16,
}


@dataclass
class Item:
    """What travels between the stages: the task, the arrays it has so far, or the failure that ended it."""

    task: DubTask
    failure: Failure | None = None
    cost_s: float = 0.0
    """Core-seconds spent so far."""
    gpu_s: float = 0.0
    """Of them with a GPU to itself."""
    decoded_from_s: float = 0.0
    thumb_times: list[float] = field(default_factory=list)
    captions: list[Cue] = field(default_factory=list)
    """What stretches of the film should sound like."""
    damage: list[tuple[float, float]] = field(default_factory=list)
    """Stretches of the film, in seconds, whose pictures are damaged."""
    cuts: list[int] = field(default_factory=list)
    """Codec frames at which hard cuts lie."""
    border_cuts: list[int] = field(default_factory=list)
    """Those that are found in the windows at its borders, by themselves."""
    still: list[tuple[int, int]] = field(default_factory=list)
    """Codec frames of windows in which nothing moves."""
    seams: list[tuple[float, float]] = field(default_factory=list)
    """The worst joins between its windows: where, in seconds, and how many times the usual jump of the sound."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """The views of the job and thumbs: uint8 [frames, h, w, 3]; sound: int16 [channels, n]."""

    def spend(self, seconds: float, device: str = "cpu") -> None:
        """Note what was spent on it."""
        self.cost_s += seconds
        self.gpu_s += seconds if device == "cuda" else 0.0

    def to_table(self) -> pa.Table:
        """One row (`rows.pack`)."""
        notes = {
            "task": self.task.to_json(),
            "failure": asdict(self.failure) if self.failure else None,
            "cost_s": self.cost_s,
            "gpu_s": self.gpu_s,
            "decoded_from_s": self.decoded_from_s,
            "thumb_times": self.thumb_times,
            "captions": self.captions,
            "damage": self.damage,
            "cuts": self.cuts,
            "border_cuts": self.border_cuts,
            "still": self.still,
            "seams": self.seams,
        }
        return arrow_rows.pack(notes, self.arrays, _ARRAYS)

    @classmethod
    def from_table(cls, table: pa.Table) -> list[Item]:
        """Inverse of `to_table`, for any number of rows. The arrays are views into the table."""
        return [cls._from_row(notes, arrays) for notes, arrays in arrow_rows.unpack(table, _ARRAYS)]

    @classmethod
    def _from_row(cls, notes: dict[str, Any], arrays: dict[str, np.ndarray]) -> Item:
        failure = Failure(**notes["failure"]) if notes["failure"] else None
        task = DubTask.from_json(notes["task"])
        names = (
            "cost_s", "gpu_s", "decoded_from_s", "thumb_times", "damage", "cuts", "border_cuts", "still", "seams",
        )  # fmt: skip
        captions = [(first, last, text) for first, last, text in notes["captions"]]
        return cls(task, failure, captions=captions, **{name: notes[name] for name in names}, arrays=arrays)
