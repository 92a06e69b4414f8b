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
from pipelines.loudness import Level, audio_state, resampled
from pipelines.media import DecodeFailed, Tick
from v2a_models import grid
from v2a_models.recipe import View

__all__ = ["DecodeFailed", "Pool", "Probe", "View", "decode_sound", "decode_views", "pick_frames", "probe"]

MAX_DURATION_S = 14 * 86_400.0
"""Longest footage in one file that is believed; beyond it the timestamps are broken or hostile."""

_READ_AHEAD_S = (0.0, 5.0, 30.0, math.inf)
"""How far before the wanted time decoding starts, tried in this order."""

_NEAR_START_S = 1.0
"""Stretches that start earlier are decoded from the first picture, without seeking."""

_STAMPED_NOW_AND_THEN = ("mpeg", "mpegts")
"""Not every picture has a time of its own in these: after a seek the first ones are guesses."""

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


def view_shapes(views: Sequence[View], start_s: float, end_s: float) -> list[tuple[int, ...]]:
    """Shapes [T, height, width, 3] that `decode_views` fills."""
    return [(grid.frame_count(end_s - start_s, v.fps), v.height, v.width, 3) for v in views]


def decode_views(
    file: BinaryIO,
    views: Sequence[View],
    start_s: float,
    end_s: float,
    threads: int = 2,
    tick: Tick | None = None,
    allocate: Allocate | None = None,
) -> list[np.ndarray]:
    """Pictures of one stretch for several views from one decoding pass.

    For each view uint8 [T, height, width, 3] RGB with T = len(grid.frame_times(start_s, end_s - start_s,
    fps)): for each target time the newest picture at or before it, the first picture before the film
    starts and the last one held after it ends. Pictures are shown upright and squeezed to the view's
    size. `threads` is the number of decoding threads. `allocate` gives the arrays to fill for
    a list of shapes, where memory is to be used again. Raises DecodeFailed, ValueError for an empty span.
    """
    if not 0 <= start_s < end_s:
        raise ValueError(f"not a stretch of time: {start_s} to {end_s}")
    for read_ahead_s in _READ_AHEAD_S:
        try:
            arrays = _attempt(file, views, start_s, end_s, read_ahead_s, threads, tick, allocate or _fresh)
        except DecodeFailed as error:
            # Nothing but damage from here on, perhaps; what came before may still be held.
            if error.error_class != "InvalidData" or start_s <= read_ahead_s + _NEAR_START_S:
                raise
            continue
        if arrays is not None:
            return arrays
    raise AssertionError("the last attempt starts at the first picture")


def _attempt(
    file: BinaryIO,
    views: Sequence[View],
    start_s: float,
    end_s: float,
    read_ahead_s: float,
    threads: int,
    tick: Tick | None,
    allocate: Allocate,
) -> list[np.ndarray] | None:
    """`decode_views`, decoding from `read_ahead_s` before the stretch, or from the first picture if that
    is near. None if it turned out to be too late: no index, open groups of pictures, damage."""
    file.seek(0)
    with media.opened(file) as container:
        video = media.video_stream(container, "decode")
        video.thread_type = "AUTO"
        video.thread_count = threads
        frames = media.pictures(container, video, tick)
        early = next(frames, None)
        if early is None:
            raise DecodeFailed("NoFrames", "the file announces pictures but holds none", "decode")
        origin_s, first = early
        turns = media.orientation(media.display_matrix(first))
        tolerance_s = media.tolerance_s(video)
        if container.format.name in _STAMPED_NOW_AND_THEN:
            read_ahead_s += 2.0
        if start_s > read_ahead_s + _NEAR_START_S:
            frames.close()
            media.seek(container, video, origin_s + start_s - read_ahead_s)
            frames = media.pictures(container, video, tick)
            early = next(frames, None)
            if early is None or early[0] > origin_s + start_s + tolerance_s:
                return None
        painter = _Painter(views, start_s, end_s, turns, allocate)
        timed = ((time - origin_s, frame) for time, frame in itertools.chain([early], frames))
        for frame, slices in pick_frames(timed, painter.targets, tolerance_s):
            painter.paint(frame, slices)
        return painter.arrays


def decode_sound(
    file: BinaryIO,
    start_s: float,
    end_s: float,
    sample_rate: int = grid.SAMPLE_RATE,
    tick: Tick | None = None,
) -> np.ndarray:
    """Sound of one stretch of the default track, on the picture timeline: float32 [channels, n] with
    n = round((end_s - start_s) * sample_rate), zeros where the track has nothing.

    Raises DecodeFailed (`NoAudioStream` if there is no track).
    """
    if not 0 <= start_s < end_s:
        raise ValueError(f"not a stretch of time: {start_s} to {end_s}")
    origin_s = media.picture_start(file)
    file.seek(0)
    with media.opened(file) as container:
        if not container.streams.audio:
            raise DecodeFailed("NoAudioStream", "the file has no sound track", "sound")
        audio = media.default_stream(container.streams.audio)
        # A second ahead lets codecs with memory (AAC, MP3, Opus) settle before the first sample is kept.
        if origin_s + start_s > 2:
            media.seek(container, audio, origin_s + start_s - 1)
        n_samples = grid.samples(end_s - start_s, sample_rate)
        sound: np.ndarray | None = None
        expected: int | None = None
        for time_s, chunk in resampled(container, audio, sample_rate, tick):
            if sound is None:
                sound = np.zeros((chunk.shape[0], n_samples), np.float32)
            at = round((time_s - origin_s - start_s) * sample_rate)
            # Timestamps jitter by their own rounding; only a real gap moves the sound.
            if expected is not None and abs(at - expected) < 0.02 * sample_rate:
                at = expected
            expected = at + chunk.shape[1]
            first, last = max(at, 0), min(expected, n_samples)
            if first < last and chunk.shape[0] == sound.shape[0]:
                sound[:, first:last] = chunk[:, first - at : last - at]
            if at >= n_samples:
                break
        return np.zeros((1, n_samples), np.float32) if sound is None else sound


class Pool:
    """Hands out arrays in memory that it keeps: touching fresh pages costs more than scaling into them.
    The arrays of one call hold until the next."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def __call__(self, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        sizes = [math.prod(shape) for shape in shapes]
        if sum(sizes) > self._memory.size:
            self._memory = np.empty(0, np.uint8)  # give the old memory back before asking for more
            self._memory = np.empty(sum(sizes), np.uint8)
        ends = itertools.accumulate(sizes)
        return [
            self._memory[end - size : end].reshape(shape)
            for end, size, shape in zip(ends, sizes, shapes, strict=True)
        ]


def _fresh(shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    return [np.empty(shape, np.uint8) for shape in shapes]


class _Painter:
    """Holds the arrays of all views and fills them; scales a picture once per size."""

    def __init__(
        self,
        views: Sequence[View],
        start_s: float,
        end_s: float,
        turns: tuple[int, bool],
        allocate: Allocate,
    ) -> None:
        self.views = list(views)
        self.targets = [grid.frame_times(start_s, end_s - start_s, view.fps) for view in views]
        self.arrays = allocate(view_shapes(views, start_s, end_s))
        self.quarter_turns, self.mirrored = turns
        self.scalers: dict[tuple[int, int], tuple[VideoReformatter, VideoReformatter]] = {}

    def paint(self, frame: Any, slices: Sequence[slice]) -> None:
        scaled: dict[tuple[int, int], np.ndarray] = {}
        for view, array, span in zip(self.views, self.arrays, slices, strict=True):
            if span.stop > span.start:
                size = (view.width, view.height)
                if size not in scaled:
                    scaled[size] = self._scale(frame, *size)
                array[span] = scaled[size]

    def _scale(self, frame: Any, width: int, height: int) -> np.ndarray:
        if self.quarter_turns % 2:  # scale the coded picture, turn the small result
            width, height = height, width
        if (width, height) not in self.scalers:
            self.scalers[width, height] = VideoReformatter(), VideoReformatter()
        resize, convert = self.scalers[width, height]
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
