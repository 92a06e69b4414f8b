"""Pictures and sound of a video file by time, through PyAV.

Presentation timestamps, start offsets, variable frame rates, rotation and pixel aspect are handled here and nowhere
else. All results lie on the file's picture timeline: t = 0 is the presentation time of the first picture, in seconds.
Files are untrusted: run these functions through `pipelines.sandbox`, which gives them a process of their own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, TypeVar

import av
import numpy as np

from pipelines.media import clock, geometry, raw_streams, recorded
from pipelines.media import container as media_container
from pipelines.media.audio import Level, audio_state, decode_sound
from pipelines.media.container import Tick
from pipelines.media.errors import DecodeFailed, damage_within
from pipelines.media.frames import Allocate, Painter, Scaler
from pipelines.media.length import PictureTimes
from pipelines.media.pictures import cropping
from pipelines.media.pictures.first_picture import FirstPicture
from v2a_models import grid
from v2a_models.recipe import View

__all__ = ["DecodeFailed", "Probe", "View", "decode_sound", "decode_views",
           "iter_views", "pick_frames", "probe"]  # fmt: skip

_READ_AHEAD_S = (0.0, 5.0, 30.0, math.inf)
"""Seconds before the wanted time at which decoding starts, tried in this order."""

_NEAR_START_S = 1.0
"""Stretches that start earlier are decoded from the first picture, without seeking."""

_SPARSELY_STAMPED = ("mpeg", "mpegts", "dhav")
"""Containers in which not every picture has a whole time: after a seek the first times are guesses."""

Frame = TypeVar("Frame")


@dataclass(frozen=True)
class Probe:
    """Facts about a file. Sizes are as displayed, after cropping, pixel aspect and rotation."""

    duration_s: float
    fps: float
    width: int
    height: int
    rotation: int
    """Degrees by which a player turns the coded picture clockwise: 0, 90, 180 or 270."""
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
    """Defects of a usable file (ends early, sound that cannot be decoded)."""
    recorded_at: str = ""
    """Time at which it begins, in ISO 8601, as its metadata say it; empty if they do not (`recorded`)."""
    sha256: str = ""
    """SHA-256 of the whole file, in hex digits; empty unless the sandbox probed it."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def pick_frames(
    frames: Iterable[tuple[float, Frame]], targets: Sequence[np.ndarray], tolerance: float = 0.0
) -> Iterator[tuple[Frame, list[slice]]]:
    """Choose the picture for each target time: the newest one whose time is <= target + `tolerance`.

    frames: (time, picture) in a decoder's order; a picture older than one already seen is dropped. targets: ascending
    times, one array per view. Targets before the first picture get the first one; targets after the last one keep the
    last. Yields each picture that is needed with the slice of every target array that it fills, and stops reading
    `frames` when all targets have a picture.
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
    """Read the whole file once: its length from the packets, its peak level from the decoded sound.

    Headers are trusted neither for the length nor for silence. Only the first picture is decoded. `tick` is called now
    and then while the work advances. Raises DecodeFailed.
    """
    with media_container.opened(file) as container:
        video = media_container.video_stream(container, "probe")
        audio = list(container.streams.audio)
        levels = {stream.index: Level() for stream in audio}
        first = FirstPicture(video)
        times = PictureTimes(media_container.frame_step(video), container.format.name == "avi")
        leaps: list[float] = []
        for number, packet in enumerate(media_container.packets(container, [video, *audio], leaps=leaps)):
            if tick is not None and number % 512 == 0:
                tick()
            if packet.stream.index in levels:
                levels[packet.stream.index].add(packet)
                continue
            if media_container.is_encrypted(packet):
                raise DecodeFailed("Encrypted", "the pictures are encrypted", "probe")
            first.offer(packet)
            if not packet.is_discard:
                times.add(packet)
        frame = first.frame()
        start_s = media_container.time_of(frame, video) or 0.0
        quarter_turns, _ = geometry.orientation(geometry.display_matrix(frame))
        crop = cropping.read_crops(file, container).get(video.index, cropping.Crop())
        size = crop.shown_size(frame.width, frame.height)
        width, height = geometry.display_size(*size, geometry.pixel_aspect(video), quarter_turns)
        for level in levels.values():
            level.flush()
        duration_s = times.duration_s(start_s, max((level.seconds for level in levels.values()), default=0.0))
        n_frames = times.number_from(start_s)
        state, peak_dbfs = audio_state(list(levels.values()))
        return Probe(
            duration_s=duration_s,
            fps=n_frames / duration_s,
            width=width,
            height=height,
            rotation=90 * quarter_turns,
            video_codec=media_container.codec_name(video),
            container=container.format.name,
            audio_state=state,
            peak_dbfs=peak_dbfs,
            video_start_s=start_s,
            n_audio_tracks=len(audio),
            n_frames=n_frames,
            note=_note(container, video, start_s, duration_s, list(levels.values()), leaps),
            recorded_at=recorded.recorded_at(container, video, start_s, first.packet),
        )


def decode_views(
    file: BinaryIO,
    views: Sequence[View],
    start_s: float,
    end_s: float,
    threads: int = 2,
    tick: Tick | None = None,
    allocate: Allocate | None = None,
    seeks: bool = True,
) -> list[np.ndarray]:
    """Pictures of one stretch for several views, uint8 [T, height, width, 3] each: `iter_views` with one stretch."""
    return next(iter_views(file, views, start_s, [end_s], threads, tick, allocate, seeks=seeks))


def iter_views(
    file: BinaryIO,
    views: Sequence[View],
    start_s: float,
    ends_s: Sequence[float],
    threads: int = 2,
    tick: Tick | None = None,
    allocate: Allocate | None = None,
    skip: int = 0,
    damage: list[tuple[float, float]] | None = None,
    seeks: bool = True,
) -> Iterator[list[np.ndarray]]:
    """Pictures of consecutive stretches, up to each of `ends_s`, for several views from one decoding pass.

    Yields one uint8 [T, height, width, 3] RGB per view for each stretch as soon as it is complete. All stretches lie
    on the one grid `grid.frame_times(start_s, ends_s[-1] - start_s, fps)`. Each target time gets the newest picture at
    or before it: the first picture before the film starts, the last one after it ends. Pictures are upright and fitted
    to the view.

    threads: number of decoding threads. allocate: returns the arrays to fill for a list of shapes; called when the
    previous stretch has been used, so it may return the same memory again. skip: number of stretches at the start that
    are not decoded. damage: receives, at the end, the times (start, end) between which pictures are damaged and older
    ones replace them. seeks: False for a film whose clock leaps (`clock.has_leaps`), which is decoded from its start.
    Raises DecodeFailed, possibly after some stretches; ValueError unless `start_s` and `ends_s`
    ascend.
    """
    shapes = stretch_shapes(views, start_s, ends_s)[skip:]
    return _attempts(
        _Plan(
            list(views), start_s, [start_s, *ends_s][skip:], shapes, threads, tick, allocate,
            [] if damage is None else damage, seeks,
        ),
        file,
    )  # fmt: skip


def stretch_shapes(
    views: Sequence[View], start_s: float, ends_s: Sequence[float]
) -> list[list[tuple[int, ...]]]:
    """Shapes [T, height, width, 3] that `iter_views` fills, by stretch and view.

    Raises ValueError unless `start_s` and `ends_s` ascend.
    """
    times_s = [start_s, *ends_s]
    ascending = all(a < b for a, b in itertools.pairwise(times_s))
    if not (ends_s and start_s >= 0 and ascending and math.isfinite(times_s[-1])):
        raise ValueError(f"not a time span: {start_s} to {', '.join(map(str, ends_s))}")
    counts = [[grid.frame_count(time_s - start_s, view.fps) for time_s in times_s] for view in views]
    return [
        [(n[k + 1] - n[k], view.height, view.width, 3) for view, n in zip(views, counts, strict=True)]
        for k in range(len(ends_s))
    ]


@dataclass(frozen=True)
class _Plan:
    """Request of `iter_views`, without the stretches to skip."""

    views: list[View]
    grid_start_s: float
    times_s: list[float]
    """Start of the first stretch and end of each."""
    shapes: list[list[tuple[int, ...]]]
    threads: int
    tick: Tick | None
    allocate: Allocate | None
    damage: list[tuple[float, float]]
    """Receives the times (start, end) between which pictures are damaged, in seconds, in order."""
    seeks: bool
    """True if the film has one clock, so that a time can be looked up."""

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
            # Perhaps there is only damage from here on, and an earlier picture is to be held.
            near = plan.times_s[0] <= read_ahead_s + _NEAR_START_S
            if begun or near or error.error_class != "InvalidData":
                raise
    raise AssertionError("the last attempt starts at the first picture")


def _attempt(plan: _Plan, file: BinaryIO, read_ahead_s: float) -> Iterator[list[np.ndarray]]:
    """Decode from `read_ahead_s` before the first stretch, or from the first picture if that is near.

    Raises _TooLate, before the first stretch, when a missing index, an open group of pictures or damage made decoding
    begin too late.
    """
    file.seek(0)
    start_s = plan.times_s[0]
    damage: list[tuple[float, float]] = []
    with media_container.opened(file) as container:
        video = media_container.video_stream(container, "decode")
        video.thread_type = "AUTO"
        video.thread_count = plan.threads
        frames = media_container.pictures(container, video, plan.tick, damage)
        early = next(frames, None)
        if early is None:
            raise DecodeFailed("NoFrames", "the file announces a video stream but has no frames", "decode")
        origin_s, first = early
        scaler = Scaler(
            geometry.orientation(geometry.display_matrix(first)),
            geometry.pixel_aspect(video),
            cropping.read_crops(file, container).get(video.index, cropping.Crop()),
        )
        tolerance_s = media_container.tolerance_s(video)
        if container.format.name in _SPARSELY_STAMPED:
            read_ahead_s += 2.0
        can_seek = plan.seeks and raw_streams.counted_rate(container, video) is None
        if can_seek and start_s > read_ahead_s + _NEAR_START_S:
            frames.close()
            media_container.seek(container, video, origin_s + start_s - read_ahead_s)
            damage.clear()
            frames = media_container.pictures(container, video, plan.tick, damage)
            early = next(frames, None)
            if early is None or early[0] > origin_s + start_s + tolerance_s:
                raise _TooLate
        painter = Painter(plan.views, plan.shapes, scaler, plan.allocate)
        timed = ((time - origin_s, frame) for time, frame in itertools.chain([early], frames))
        targets = plan.targets()
        wanted = timed if any(map(len, targets)) else ()  # a short stretch may lie between two target times
        for frame, slices in pick_frames(wanted, targets, tolerance_s):
            yield from painter.add(frame, slices)
        yield from painter.complete()
        plan.damage[:] = damage_within(
            [(a - origin_s, b - origin_s) for a, b in damage], start_s, plan.times_s[-1]
        )


def _note(
    container: Any, video: Any, start_s: float, duration_s: float, levels: Sequence[Level], leaps: list[float]
) -> str:
    notes = [clock.note(leaps, start_s)] if leaps else []
    notes += [raw_streams.NOTE] if raw_streams.assumes_rate(container, video) else []
    # FFmpeg takes the length of transport and program streams from their first and last times: they announce none.
    if video.duration and video.time_base and container.format.name not in clock.DISCONTINUOUS:
        announced, present = float(video.duration * video.time_base), duration_s
        if "matroska" in container.format.name:
            # One length for all tracks: pictures may begin late, and sound may go on after them.
            late = max(0.0, start_s - (container.start_time or 0) / av.time_base)
            present = max(late + duration_s, *(level.seconds for level in levels), 0.0)
        if announced - present > max(1.0, 0.05 * announced):
            notes.append(f"ends early: {present:.1f} of {announced:.1f} s present")
    for number, level in enumerate(levels):
        if level.unreadable:
            notes.append(f"sound track {number} cannot be decoded")
    return "; ".join(notes)
