"""Decoded pictures as arrays: scaled, upright and fitted to views, stretch after stretch.

`Scaler` turns one picture into RGB of a view's size; `Painter` copies pictures into the arrays of the current stretch.
`pipelines.media.video` chooses the picture for each place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from pipelines.media import geometry
from pipelines.media.pictures.cropping import Crop, cropped
from pipelines.media.pictures.fields import first_field
from pipelines.media.pictures.tone_mapping import is_hdr, to_standard
from v2a_models.recipe import View

_LONGEST = 16
"""Largest ratio of a scaled picture to its view before cropping: bounds the memory for long, thin pictures."""

_SCALING = Interpolation.AREA
"""Averages the source area of each pixel, so that fine texture does not flicker."""

Allocate = Callable[[Sequence[tuple[int, ...]]], list[np.ndarray]]
"""Returns the arrays to fill, uint8, for a list of shapes."""


def carve(memory: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Arrays of `shapes`, one after another in `memory`, uint8 [n]."""
    sizes = [math.prod(shape) for shape in shapes]
    ends = itertools.accumulate(sizes)
    return [
        memory[end - size : end].reshape(shape) for end, size, shape in zip(ends, sizes, shapes, strict=True)
    ]


class Pool:
    """Allocates arrays in memory that is reused: touching fresh pages costs more than scaling into them.

    The arrays of one call are valid until the next.
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def __call__(self, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        size = sum(math.prod(shape) for shape in shapes)
        if size > self._memory.size:
            self._memory = np.empty(0, np.uint8)  # give the old memory back before asking for more
            self._memory = np.empty(size, np.uint8)
        return carve(self._memory, shapes)


def _fresh(shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    return [np.empty(shape, np.uint8) for shape in shapes]


class Painter:
    """Fills the arrays of one stretch after another; scales a picture once per size.

    shapes: [T, height, width, 3] for every stretch and view. allocate: returns the arrays of one stretch; by default
    they are new.
    """

    def __init__(
        self,
        views: Sequence[View],
        shapes: Sequence[Sequence[tuple[int, ...]]],
        scaler: Scaler,
        allocate: Allocate | None = None,
    ) -> None:
        self.views, self.shapes, self.scaler = views, shapes, scaler
        self.allocate = allocate or _fresh
        self.index = 0
        self.begins = [0] * len(views)
        """Index of the current stretch's first target, by view."""
        self.filled = [0] * len(views)
        self.arrays: list[np.ndarray] | None = None
        self.held: list[tuple[Any, Sequence[slice]]] = []
        """Pictures that also fill places after the current stretch."""

    def add(self, frame: Any, slices: Sequence[slice]) -> Iterator[list[np.ndarray]]:
        """Take one result of `video.pick_frames`; yield the stretches that it completes."""
        self.held.append((frame, slices))
        self.filled = [span.stop for span in slices]
        return self.complete()

    def complete(self) -> Iterator[list[np.ndarray]]:
        """Yield the stretches that need no further picture."""
        while self.index < len(self.shapes):
            shapes = self.shapes[self.index]
            if self.arrays is None:
                self.arrays = self.allocate(shapes)
            ends = [begin + shape[0] for begin, shape in zip(self.begins, shapes, strict=True)]
            for frame, slices in self.held:
                self._paint(frame, slices)
            self.held = [
                (frame, slices)
                for frame, slices in self.held
                if any(span.stop > end for span, end in zip(slices, ends, strict=True))
            ]
            if any(filled < end for filled, end in zip(self.filled, ends, strict=True)):
                return
            arrays, self.arrays = self.arrays, None
            self.index, self.begins = self.index + 1, ends
            yield arrays

    def _paint(self, frame: Any, slices: Sequence[slice]) -> None:
        assert self.arrays is not None
        scaled: dict[tuple[int, int, str], np.ndarray] = {}
        for view, array, begin, span in zip(self.views, self.arrays, self.begins, slices, strict=True):
            rows = array[max(span.start - begin, 0) : max(span.stop - begin, 0)]
            if len(rows):
                key = (view.width, view.height, view.fit)
                if key not in scaled:
                    scaled[key] = self.scaler.picture(frame, *key)
                rows[:] = scaled[key]


class Scaler:
    """Makes decoded pictures RGB, upright and of a view's size: of interlaced ones the earlier field, of HDR ones what
    a standard screen shows.

    turns: quarter turns and mirroring, from `geometry.orientation`. aspect: width of a pixel over its height. crop:
    what the container leaves out of every picture.
    """

    def __init__(self, turns: tuple[int, bool], aspect: float, crop: Crop = Crop()) -> None:
        self.quarter_turns, self.mirrored = turns
        self.aspect, self.crop = aspect, crop
        self.scalers: dict[tuple[int, int, str], tuple[VideoReformatter, VideoReformatter]] = {}

    def picture(self, frame: Any, width: int, height: int, fit: str) -> np.ndarray:
        """The picture as uint8 [height, width, 3], valid as long as the frame and this object."""
        frame = cropped(frame, self.crop)
        scalers = self.scalers.setdefault((width, height, fit), (VideoReformatter(), VideoReformatter()))
        if fit == "squeeze":
            return self._scale(frame, width, height, *scalers)
        display = geometry.display_size(frame.width, frame.height, self.aspect, self.quarter_turns)
        wide, high = cover_size(display, (width, height))
        x, y = (wide - width) // 2, (high - height) // 2
        return self._scale(frame, wide, high, *scalers)[y : y + height, x : x + width]

    def _scale(
        self, frame: Any, width: int, height: int, resize: VideoReformatter, convert: VideoReformatter
    ) -> np.ndarray:
        if self.quarter_turns % 2:  # scale the coded picture, turn the small result
            width, height = height, width
        frame = first_field(frame)
        if is_hdr(frame):
            wide = convert.reformat(frame, width, height, "rgb48le", interpolation=_SCALING, threads=1)
            picture = to_standard(_pixels(wide, np.uint16), int(frame.color_trc), int(frame.color_primaries))
            return geometry.turn(picture, self.quarter_turns, self.mirrored)
        # Common footage is scaled in its own pixel format, and only the small picture converted to RGB: twice as fast
        # as both in one step. Other formats (alpha, 10 bit, full chroma) are converted in one step.
        # One thread: the pictures are small, and the decoder's threads work on the next ones.
        if frame.format.name in ("yuv420p", "yuvj420p"):
            frame = resize.reformat(frame, width, height, interpolation=_SCALING, threads=1)
        small = convert.reformat(frame, width, height, "rgb24", interpolation=_SCALING, threads=1)
        return geometry.turn(_pixels(small, np.uint8), self.quarter_turns, self.mirrored)


def _pixels(frame: Any, kind: type[np.uint8] | type[np.uint16]) -> np.ndarray:
    """An RGB picture as an array [height, width, 3] of its own memory."""
    plane, size = frame.planes[0], np.dtype(kind).itemsize
    rows = np.frombuffer(memoryview(plane), kind, frame.height * plane.line_size // size)
    return rows.reshape(frame.height, -1)[:, : frame.width * 3].reshape(frame.height, frame.width, 3)


def cover_size(display: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """Smallest (width, height) with the aspect of `display` that covers `target`, at most _LONGEST times `target`.

    A picture that is longer and thinner than that is squeezed.
    """
    scale = max(w / s for w, s in zip(target, display, strict=True))
    width, height = (
        min(max(w, round(s * scale)), _LONGEST * w) for w, s in zip(target, display, strict=True)
    )
    return width, height
