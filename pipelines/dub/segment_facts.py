"""One generated segment as it is kept: its sound, and facts for the report; those of a film are the sum over its
segments."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, BinaryIO

import numpy as np

from pipelines.media.errors import first_line
from pipelines.mux.subtitles import Cue
from pipelines.soundtrack.mixing import Seconds

LARGEST_PART = 4 << 30
"""Bytes of the arrays of a part at most."""


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
        """Inverse of `to_json`; absent fields get their default.

        Raises TypeError for an unknown field, ValueError for one of another kind.
        """
        facts = cls(**{name: _frozen(value) for name, value in values.items()})
        for f in fields(cls):
            value = getattr(facts, f.name)
            if not _fits(value, f.default, ENTRIES.get(f.name, ())):
                raise ValueError(f"{f.name} is {str(value)[:80]}")
        return facts


ENTRIES: dict[str, tuple[type, ...]] = {
    "captions": (float, float, str),
    **dict.fromkeys(("damage", "still", "seams"), (float, float)),
}
"""Types of the entries of each list."""


def _fits(value: Any, default: Any, entry: tuple[type, ...]) -> bool:
    """True if a value can be added up with others of its field."""
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(
            isinstance(item, tuple)
            and len(item) == len(entry)
            and all(_fits(part, kind(), ()) for part, kind in zip(item, entry, strict=True))
            for item in value
        )
    if isinstance(default, str):
        return isinstance(value, str)
    kinds = (int, float) if isinstance(default, float) else (int,)
    if not isinstance(value, kinds) or isinstance(value, bool):
        return False
    return isinstance(value, float) or abs(value) < 1 << 31  # fits the columns of the report


def _joined(first: Any, second: Any) -> Any:
    return (first or second) if isinstance(first, str) else first + second


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


@dataclass
class Part:
    """Generated sound of one segment, a few frames for the report, and the facts about it."""

    sound: np.ndarray
    """int16 [channels, n]."""
    thumbs: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1, 3), np.uint8))
    """uint8 [frames, height, width, 3]."""
    thumb_times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """float64 [frames], seconds from the film's start."""
    facts: SegmentFacts = SegmentFacts()

    def to_bytes(self) -> bytes:
        """An uncompressed npz; the facts are JSON."""
        stream = io.BytesIO()
        facts = np.str_(json.dumps(self.facts.to_json()))
        np.savez(stream, sound=self.sound, thumbs=self.thumbs, thumb_times=self.thumb_times, facts=facts)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, sound: tuple[int, int] | None = None) -> Part:
        """Inverse of `to_bytes`. sound: channels and samples that the part must have; None for any.

        Raises ValueError if `data` is not a part.
        """
        check_part(io.BytesIO(data), sound)
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                if "facts" in arrays:
                    facts = SegmentFacts.from_json(json.loads(str(arrays["facts"])))
                else:
                    facts = _facts_from_arrays(arrays)
                return cls(arrays["sound"], arrays["thumbs"], arrays["thumb_times"], facts)
        except _UNREADABLE as error:
            raise ValueError(f"not a part: {first_line(error)}") from error


# What zipfile, zlib and numpy raise for bytes that they cannot read. Errors of storage are none of these.
_UNREADABLE = (
    *(
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        EOFError,
        OverflowError,
        NotImplementedError,
    ),
    *(RecursionError, struct.error, zlib.error, zipfile.BadZipFile),
)


def check_part(file: BinaryIO, sound: tuple[int, int] | None) -> None:
    """Check the headers of a part, without reading its arrays: nothing is allocated for what they claim.

    Raises ValueError for a file that is no part with `sound` (channels and samples; None for any).
    """
    try:
        with zipfile.ZipFile(file) as archive:
            shapes = _shapes(archive)
    except _UNREADABLE as error:
        raise ValueError(f"not a part: {first_line(error)}") from error
    if shapes["thumbs"][0] != shapes["thumb_times"][0]:
        raise ValueError("not a part: it has more pictures than times of them, or fewer")
    if sound is not None and shapes["sound"] != tuple(sound):
        raise ValueError(f"its sound is {list(shapes['sound'])}, not {list(sound)}: another segment's")


def _shapes(archive: zipfile.ZipFile) -> dict[str, tuple[int, ...]]:
    """Shapes of a part's arrays, as their headers and their sizes have them. Raises one of `_UNREADABLE`."""
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if sum(info.file_size for info in members.values()) > LARGEST_PART:
        raise ValueError("larger than any part")
    if any(info.flag_bits & 1 for info in members.values()):
        raise ValueError("it is encrypted")
    shapes = {}
    for name, kind, axes in (("sound", np.int16, 2), ("thumbs", np.uint8, 4), ("thumb_times", np.float64, 1)):
        with archive.open(members[name]) as member:
            version = np.lib.format.read_magic(member)
            if version != (1, 0):
                raise ValueError(f"{name} is of version {version}")
            shape, _, dtype = np.lib.format.read_array_header_1_0(member)
            whole = member.tell() + math.prod(shape) * dtype.itemsize == members[name].file_size
        if dtype != kind or len(shape) != axes or not whole:
            raise ValueError(f"{name} is {dtype} {list(shape)}")
        shapes[name] = shape
    return shapes


def _facts_from_arrays(arrays: Mapping[str, np.ndarray]) -> SegmentFacts:
    """Facts of a part that v2a wrote before they were JSON: one array each."""
    scenes, windows = arrays["counts"].tolist()
    captions = zip(arrays["caption_times"].tolist(), arrays["captions"].tolist(), strict=True)
    values = {
        name: arrays[name].tolist() for name in ("cost_s", "gpu_s", "unseen", "damage", "still", "seams")
    }
    values |= {"captions": [(*times, text) for times, text in captions]}
    return SegmentFacts.from_json(values | {"scenes": scenes, "windows": windows})
