"""Pictures and sound of a video file by time, through PyAV.

This is the one place that knows about presentation timestamps, start offsets, variable frame rates,
rotation and pixel aspect. Everything it returns lies on the file's picture timeline: t = 0 is the
presentation time of the first picture, in seconds. Files are untrusted: run these functions through
`pipelines.sandbox`, which gives them a process of their own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, TypeVar

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from pipelines import media
from pipelines.loudness import Level, audio_state, decode_sound
from pipelines.media import DecodeFailed, Tick
from v2a_models import grid
from v2a_models.recipe import View

__all__ = [
    "DecodeFailed",
    "Pool",
    "Probe",
    "View",
    "decode_sound",
    "decode_views",
    "iter_views",
    "pick_frames",
    "probe",
]

MAX_DURATION_S = 14 * 86_400.0
"""Longest footage in one file that is believed; beyond it the timestamps are broken or hostile."""

_READ_AHEAD_S = (0.0, 5.0, 30.0, math.inf)
"""How far before the wanted time decoding starts, tried in this order."""

_NEAR_START_S = 1.0
"""Stretches that start earlier are decoded from the first picture, without seeking."""

_STAMPED_NOW_AND_THEN = ("mpeg", "mpegts")
"""Not every picture has a time of its own in these: after a seek the first ones are guesses."""

_LONGEST = 16
"""How many times as long as a view its cropped picture may be scaled: bounds the memory for a strip."""

_SCALING = Interpolation.AREA
"""Averages what falls into a small pixel, so that fine texture does not flicker."""

Frame = TypeVar("Frame")
Allocate = Callable[[Sequence[tuple[int, ...]]], list[np.ndarray]]


@dataclass(frozen=True)
class Probe:
    """What a file holds. Sizes are as displayed, after rotation and pixel aspect."""

    duration_s: float
    fps: float
    width: int
    height: int
    rotation: int
    """Degrees clockwise that a player turns the coded picture: 0, 90, 180 or 270."""
    video_codec: str
    container: str
    audio_state: str
    """`none` (no track), `empty` (tracks without a sample), `silent` or `audible`."""
    peak_dbfs: float | None
    """Loudest sample over all tracks; None without samples."""
    video_start_s: float
    """Container time of the first picture."""
    n_audio_tracks: int
    n_frames: int
    note: str = ""
    """What a reader should know although the file is usable (ends early, sound that cannot be decoded)."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def pick_frames(
    frames: Iterable[tuple[float, Frame]], targets: Sequence[np.ndarray], tolerance: float = 0.0
) -> Iterator[tuple[Frame, list[slice]]]:
    """Gives every target time its picture: the newest one whose time is <= target + `tolerance`.

    `frames` are (time, picture) as they come out of a decoder; a picture older than one already seen is
    dropped. Each array of `targets` is ascending. Targets before the first picture get the first one,
    targets after the last keep the last. Yields each picture that is needed with the slice of every
    target array that it fills, and stops reading `frames` as soon as all targets are served.
    """
    filled = [0] * len(targets)
    newest: tuple[float, Frame] | None = None
    for time, frame in frames:
        if newest is not None:
            if time < newest[0]:
                continue
            stops = [int(np.searchsorted(t, time - tolerance, side="left")) for t in targets]
            stops = [max(stop, start) for stop, start in zip(stops, filled, strict=True)]
            if stops != filled:
                yield newest[1], [slice(a, b) for a, b in zip(filled, stops, strict=True)]
                filled = stops
                if all(stop >= len(t) for stop, t in zip(filled, targets, strict=True)):
                    return
        newest = (time, frame)
    if newest is not None and any(a < len(t) for a, t in zip(filled, targets, strict=True)):
        yield newest[1], [slice(a, len(t)) for a, t in zip(filled, targets, strict=True)]


def probe(file: BinaryIO, tick: Tick | None = None) -> Probe:
    """Reads the whole file once: lengths from the packets, loudness from the decoded sound.

    Headers are not believed for the length, nor for silence. Only the first picture is decoded.
    `tick` is called now and then while the work advances. Raises DecodeFailed.
    """
    with media.opened(file) as container:
        video = media.video_stream(container, "probe")
        audio = list(container.streams.audio)
        levels = {stream.index: Level() for stream in audio}
        first = media.FirstPicture(video)
        nominal_s = media.frame_step(video)
        n_frames, begin_s, end_s, stamped = 0, math.inf, -math.inf, False
        for number, packet in enumerate(media.packets(container, [video, *audio])):
            if tick is not None and number % 512 == 0:
                tick()
            if packet.stream.index in levels:
                levels[packet.stream.index].add(packet)
                continue
            if media.is_encrypted(packet):
                raise DecodeFailed("Encrypted", "the pictures are encrypted", "probe")
            first.offer(packet)
            if not packet.is_discard:
                n_frames += 1
                stamped = stamped or packet.pts is not None
                stamp = packet.pts if packet.pts is not None else packet.dts
                time_s = float(stamp * packet.time_base) if stamp is not None else max(end_s, 0.0)
                lasts_s = float(packet.duration * packet.time_base) if packet.duration else nominal_s
                begin_s, end_s = min(begin_s, time_s), max(end_s, time_s + lasts_s)
        frame = first.frame()
        start_s = media.time_of(frame, video) or 0.0
        quarter_turns, _ = media.orientation(media.display_matrix(frame))
        width, height = media.display_size(
            frame.width, frame.height, media.pixel_aspect(video), quarter_turns
        )
        for level in levels.values():
            level.flush()
        # Containers with decode times only (AVI) begin and end some pictures before what is shown.
        duration_s = end_s - (start_s if stamped else begin_s)
        if not math.isfinite(duration_s) or duration_s > MAX_DURATION_S:
            raise DecodeFailed("BadTimestamps", f"pictures span {duration_s:.0f} s", "probe")
        if duration_s <= 0:
            raise DecodeFailed("ZeroDuration", "the pictures last no time", "probe")
        state, peak_dbfs = audio_state(list(levels.values()))
        return Probe(
            duration_s=duration_s,
            fps=n_frames / duration_s,
            width=width,
            height=height,
            rotation=90 * quarter_turns,
            video_codec=media.codec_name(video),
            container=container.format.name,
            audio_state=state,
            peak_dbfs=peak_dbfs,
            video_start_s=start_s,
            n_audio_tracks=len(audio),
            n_frames=n_frames,
            note=_note(video, duration_s, list(levels.values())),
        )


def decode_views(
    file: BinaryIO,
    views: Sequence[View],
    start_s: float,
    end_s: float,
    threads: int = 2,
    tick: Tick | None = None,
    allocate: Allocate | None = None,
) -> list[np.ndarray]:
    """Pictures of one stretch for several views from one decoding pass: `iter_views` with one stretch."""
    return next(iter_views(file, views, start_s, [end_s], threads, tick, allocate))


def iter_views(
    file: BinaryIO,
    views: Sequence[View],
    start_s: float,
    ends_s: Sequence[float],
    threads: int = 2,
    tick: Tick | None = None,
    allocate: Allocate | None = None,
    skip: int = 0,
) -> Iterator[list[np.ndarray]]:
    """Pictures of consecutive stretches, up to each of `ends_s`, for several views from one decoding pass.

    Yields for each stretch, as soon as it is complete, one uint8 [T, height, width, 3] RGB per view. All
    stretches lie on the one grid `grid.frame_times(start_s, ends_s[-1] - start_s, fps)`: for each target
    time the newest picture at or before it, the first picture before the film starts and the last one held
    after it ends. Pictures are upright and fitted to the view.

    `threads` is the number of decoding threads. `allocate` gives the arrays to fill for a list of shapes; it
    is asked once the stretch before has been used, so it may give the same memory again. `skip` leaves out
    that many stretches at the start without decoding them. Raises DecodeFailed, possibly after some
    stretches; ValueError unless `start_s` and `ends_s` ascend.
    """
    shapes = stretch_shapes(views, start_s, ends_s)[skip:]
    return _attempts(
        _Plan(list(views), start_s, [start_s, *ends_s][skip:], shapes, threads, tick, allocate), file
    )


def stretch_shapes(
    views: Sequence[View], start_s: float, ends_s: Sequence[float]
) -> list[list[tuple[int, ...]]]:
    """Shapes [T, height, width, 3] that `iter_views` fills, by stretch and view. Raises ValueError."""
    times_s = [start_s, *ends_s]
    ascending = all(a < b for a, b in itertools.pairwise(times_s))
    if not (ends_s and start_s >= 0 and ascending and math.isfinite(times_s[-1])):
        raise ValueError(f"not a stretch of time: {start_s} to {', '.join(map(str, ends_s))}")
    counts = [[grid.frame_count(time_s - start_s, view.fps) for time_s in times_s] for view in views]
    return [
        [(n[k + 1] - n[k], view.height, view.width, 3) for view, n in zip(views, counts, strict=True)]
        for k in range(len(ends_s))
    ]


@dataclass(frozen=True)
class _Plan:
    """What `iter_views` was asked for, without the stretches left out."""

    views: list[View]
    grid_start_s: float
    times_s: list[float]
    """Start of the first stretch and end of each."""
    shapes: list[list[tuple[int, ...]]]
    threads: int
    tick: Tick | None
    allocate: Allocate | None

    def targets(self) -> list[np.ndarray]:
        """Times of all pictures, by view."""
        lasts_s = self.times_s[-1] - self.grid_start_s
        targets = []
        for view, shapes in zip(self.views, zip(*self.shapes, strict=True), strict=True):
            times_s = grid.frame_times(self.grid_start_s, lasts_s, view.fps)
            targets.append(times_s[len(times_s) - sum(shape[0] for shape in shapes) :])
        return targets


class _TooLate(Exception):
    """Decoding began after the first picture that is wanted."""


def _attempts(plan: _Plan, file: BinaryIO) -> Iterator[list[np.ndarray]]:
    for read_ahead_s in _READ_AHEAD_S:
        begun = False
        try:
            for arrays in _attempt(plan, file, read_ahead_s):
                begun = True
                yield arrays
            return
        except _TooLate:
            continue
        except DecodeFailed as error:
            # Nothing but damage from here on, perhaps; what came before may still be held.
            near = plan.times_s[0] <= read_ahead_s + _NEAR_START_S
            if begun or near or error.error_class != "InvalidData":
                raise
    raise AssertionError("the last attempt starts at the first picture")


def _attempt(plan: _Plan, file: BinaryIO, read_ahead_s: float) -> Iterator[list[np.ndarray]]:
    """`iter_views`, decoding from `read_ahead_s` before the first stretch, or from the first picture if that
    is near. Raises _TooLate, before the first stretch, for no index, open groups of pictures, damage."""
    file.seek(0)
    start_s = plan.times_s[0]
    with media.opened(file) as container:
        video = media.video_stream(container, "decode")
        video.thread_type = "AUTO"
        video.thread_count = plan.threads
        frames = media.pictures(container, video, plan.tick)
        early = next(frames, None)
        if early is None:
            raise DecodeFailed("NoFrames", "the file announces pictures but holds none", "decode")
        origin_s, first = early
        scaler = _Scaler(media.orientation(media.display_matrix(first)), media.pixel_aspect(video))
        tolerance_s = media.tolerance_s(video)
        if container.format.name in _STAMPED_NOW_AND_THEN:
            read_ahead_s += 2.0
        if start_s > read_ahead_s + _NEAR_START_S:
            frames.close()
            media.seek(container, video, origin_s + start_s - read_ahead_s)
            frames = media.pictures(container, video, plan.tick)
            early = next(frames, None)
            if early is None or early[0] > origin_s + start_s + tolerance_s:
                raise _TooLate
        painter = _Painter(plan, scaler)
        timed = ((time - origin_s, frame) for time, frame in itertools.chain([early], frames))
        targets = plan.targets()
        wanted = timed if any(map(len, targets)) else ()  # a moment may lie between two pictures
        for frame, slices in pick_frames(wanted, targets, tolerance_s):
            yield from painter.add(frame, slices)
        yield from painter.complete()


def carve(memory: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Arrays of `shapes` one after another in `memory`, uint8 [n]."""
    sizes = [math.prod(shape) for shape in shapes]
    ends = itertools.accumulate(sizes)
    return [
        memory[end - size : end].reshape(shape) for end, size, shape in zip(ends, sizes, shapes, strict=True)
    ]


class Pool:
    """Hands out arrays in memory that it keeps: touching fresh pages costs more than scaling into them.
    The arrays of one call hold until the next."""

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


class _Painter:
    """Fills the arrays of one stretch after another; scales a picture once per size."""

    def __init__(self, plan: _Plan, scaler: _Scaler) -> None:
        self.plan, self.scaler = plan, scaler
        self.allocate = plan.allocate or _fresh
        self.index = 0
        self.begins = [0] * len(plan.views)
        """Where the current stretch begins in the targets of each view."""
        self.filled = [0] * len(plan.views)
        self.arrays: list[np.ndarray] | None = None
        self.held: list[tuple[Any, Sequence[slice]]] = []
        """Pictures that reach beyond the current stretch."""

    def add(self, frame: Any, slices: Sequence[slice]) -> Iterator[list[np.ndarray]]:
        """Takes one of `pick_frames`' answers, yields the stretches that it completes."""
        self.held.append((frame, slices))
        self.filled = [span.stop for span in slices]
        return self.complete()

    def complete(self) -> Iterator[list[np.ndarray]]:
        while self.index < len(self.plan.shapes):
            shapes = self.plan.shapes[self.index]
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
        for view, array, begin, span in zip(self.plan.views, self.arrays, self.begins, slices, strict=True):
            rows = array[max(span.start - begin, 0) : max(span.stop - begin, 0)]
            if len(rows):
                look = (view.width, view.height, view.fit)
                if look not in scaled:
                    scaled[look] = self.scaler.picture(frame, *look)
                rows[:] = scaled[look]


class _Scaler:
    """Makes decoded pictures RGB, upright and of a view's size."""

    def __init__(self, turns: tuple[int, bool], aspect: float) -> None:
        self.quarter_turns, self.mirrored = turns
        self.aspect = aspect
        self.scalers: dict[tuple[int, int, str], tuple[VideoReformatter, VideoReformatter]] = {}

    def picture(self, frame: Any, width: int, height: int, fit: str) -> np.ndarray:
        """uint8 [height, width, 3], which holds until the frame and this object are gone."""
        scalers = self.scalers.setdefault((width, height, fit), (VideoReformatter(), VideoReformatter()))
        if fit == "squeeze":
            return self._scale(frame, width, height, *scalers)
        shown = media.display_size(frame.width, frame.height, self.aspect, self.quarter_turns)
        wide, high = cover_size(shown, (width, height))
        x, y = (wide - width) // 2, (high - height) // 2
        return self._scale(frame, wide, high, *scalers)[y : y + height, x : x + width]

    def _scale(
        self, frame: Any, width: int, height: int, resize: VideoReformatter, convert: VideoReformatter
    ) -> np.ndarray:
        if self.quarter_turns % 2:  # scale the coded picture, turn the small result
            width, height = height, width
        # Common footage is scaled in its own pixel format and only the small picture is made RGB: twice
        # as fast as both in one step. Other formats (alpha, 10 bit, full chroma) go in one step.
        # One thread: the pictures are small, and the decoder's threads are at work on the next ones.
        if frame.format.name in ("yuv420p", "yuvj420p"):
            frame = resize.reformat(frame, width, height, interpolation=_SCALING, threads=1)
        small = convert.reformat(frame, width, height, "rgb24", interpolation=_SCALING, threads=1)
        plane = small.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8, height * plane.line_size).reshape(
            height, plane.line_size
        )
        picture = rows[:, : width * 3].reshape(height, width, 3)
        return media.turn(picture, self.quarter_turns, self.mirrored)


def cover_size(shown: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """Smallest (width, height) with the aspect of `shown` that covers `wanted`; a picture that is absurdly
    long and thin is squeezed to _LONGEST times the wanted size."""
    scale = max(w / s for w, s in zip(wanted, shown, strict=True))
    width, height = (min(max(w, round(s * scale)), _LONGEST * w) for w, s in zip(wanted, shown, strict=True))
    return width, height


def _note(video: Any, duration_s: float, levels: Sequence[Level]) -> str:
    notes = []
    if video.duration and video.time_base:
        announced = float(video.duration * video.time_base)
        if announced - duration_s > max(1.0, 0.05 * announced):
            notes.append(f"ends early: {duration_s:.1f} of {announced:.1f} s are there")
    for number, level in enumerate(levels):
        if level.unreadable:
            notes.append(f"sound track {number} cannot be decoded")
    return "; ".join(notes)
