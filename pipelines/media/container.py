"""Safe access to untrusted media: containers, packets and pictures.

FFmpeg gets an open file and never a name, may read only self-contained formats and may open nothing else. Times here
are container times in seconds; `pipelines.media.video` puts them on the picture timeline.
"""

from __future__ import annotations

import contextlib
import gc
import io
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, cast

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Disposition

from pipelines.media import clock, raw_streams
from pipelines.media.errors import DecodeFailed
from pipelines.media.formats import DECODERS, DEMUXERS, PICTURES, PLAYLISTS
from pipelines.media.joined import BY_PACKETS, JoinedContainer, windows

MAX_PIXELS = 1 << 26
"""Pixels of the largest picture that is decoded (8192 x 8192)."""

MAX_DAMAGE = 0.5
"""Largest fraction of packets that may be undecodable. Below it the last good picture is held, as players do; above it
the stretch has failed."""

_BUFFER = 1 << 20

SKIPPED = (av.InvalidDataError, av.PatchWelcomeError, av.EOFError, av.UnknownError)
"""Errors of a decoder on a damaged packet; the next packet may be good again."""

Pictures = Generator[tuple[float, Any], None, None]
Tick = Callable[[], None]
"""Called now and then while the work advances."""


def open_whitelisted(
    file: Any, metadata_errors: str = "replace", *, edit_lists: bool = True
) -> InputContainer:
    """Container in an untrusted open file: only DEMUXERS and DECODERS may read it, and FFmpeg may open nothing else.

    file: an object with `read` and, if possible, `seek` and `tell`; without a name, so that the content alone decides
    the format. `rate`, if it has that, is the rate of a stream without a container. metadata_errors: error handler for
    tags that are not UTF-8. edit_lists: follow those of mp4; without, packets are all there and have the times of their
    media. A file of several with headers of their own is a JoinedContainer. Raises the errors of PyAV.
    """
    first, *rest = windows(file) or [file]
    container = _open(first, metadata_errors, edit_lists)
    if not rest:
        return container
    if container.format.name in BY_PACKETS:
        joined = JoinedContainer(container, rest, lambda part: _open(part, metadata_errors, edit_lists))
        return cast(InputContainer, joined)
    container.close()
    file.seek(0)
    return _open(file, metadata_errors, edit_lists)


def _open(file: Any, metadata_errors: str, edit_lists: bool) -> InputContainer:
    container = av.open(
        file,
        mode="r",
        options={
            "format_whitelist": DEMUXERS,
            "codec_whitelist": DECODERS,
            "protocol_whitelist": "none",
            "max_pixels": str(MAX_PIXELS),
            "enable_drefs": "0",
            "ignore_editlist": "0" if edit_lists else "1",
            **raw_streams.demuxer_options(file),
        },
        metadata_errors=metadata_errors,
        buffer_size=_BUFFER,
        io_open=_refuse_to_open,
    )
    for stream in container.streams:
        if (context := stream.codec_context) is not None:
            # The list above is for what FFmpeg decodes while it opens the file; these decoders are opened later.
            context.options = {"codec_whitelist": DECODERS, "max_pixels": str(MAX_PIXELS)}
            if stream.type == "video":
                # Otherwise a cropped left edge (H.264, H.265) is shown as far as it keeps rows of pixels aligned.
                context.flags |= Flags.unaligned
    return container


@contextlib.contextmanager
def opened(file: BinaryIO) -> Iterator[InputContainer]:
    """The container in `file`, which must be at its start.

    Raises DecodeFailed for a file that may not or cannot be opened, and for any FFmpeg error raised in the block.
    """
    head = file.read(4096)
    if not head:
        raise DecodeFailed("EmptyFile", "the file has no bytes", "open")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(PLAYLISTS) or (text.startswith(b"<?xml") and any(p in text for p in PLAYLISTS)):
        raise DecodeFailed("ForbiddenFormat", "a playlist, which only names other files", "open")
    if not any(head) and not _has_data(file):
        raise DecodeFailed("NotAVideo", "the file holds nothing but zeros", "open")
    file.seek(0)
    try:
        container = open_whitelisted(file)
    except (av.ArgumentError, av.PyAVCallbackError) as error:
        raise DecodeFailed("ForbiddenFormat", "a format that v2a does not read", "open") from error
    except av.FFmpegError as error:
        raise DecodeFailed("NotAVideo", error_text(error), "open") from error
    try:
        yield container
    except av.FFmpegError as error:
        raise DecodeFailed("InvalidData", error_text(error), "decode") from error
    finally:
        container.close()
        # A frame and its side data refer to each other and keep the decoder's buffers alive: a megabyte or more, which
        # Python's collector counts as two objects and so does not look for.
        gc.collect()


def _refuse_to_open(url: str, flags: int, options: dict[str, str]) -> io.RawIOBase:
    raise PermissionError(f"the file asks for another one: {url}")


def _has_data(file: BinaryIO) -> bool:
    # Recordings that were preallocated but never written hold only zeros; the first MiB is enough to see it.
    return any(file.read(1 << 20))


def video_stream(container: InputContainer, stage: str) -> Any:
    """The default video stream that is not cover art. Raises DecodeFailed."""
    moving = [stream for stream in container.streams.video if not is_attached(stream)]
    if not moving:
        if container.streams.audio:
            raise DecodeFailed("NoVideoStream", "sound only", stage)
        raise DecodeFailed("NotAVideo", f"no pictures and no sound ({container.format.name})", stage)
    video = default_stream(moving)
    if video.codec_context is None:
        raise DecodeFailed("UnknownCodec", "there is no decoder for the pictures", stage)
    if (name := video.codec_context.codec.name) not in PICTURES:
        raise DecodeFailed("ForbiddenFormat", f"pictures in {name}, which v2a does not decode", stage)
    return video


def is_attached(stream: Any) -> bool:
    """True for a video stream of cover art or thumbnails."""
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def default_stream(streams: Sequence[Any]) -> Any:
    """The stream that players choose: the first one marked as default, or the first."""
    return next((s for s in streams if s.disposition & Disposition.default), streams[0])


def error_text(error: Exception) -> str:
    """FFmpeg's text of an error, without file names and numbers."""
    return str(getattr(error, "strerror", "") or error)


def codec_name(video: Any) -> str:
    """Name of the coding format ("av1"), not of the decoder in use ("libdav1d")."""
    return str(video.codec_context.codec.canonical_name)


def picture_start(file: BinaryIO) -> float:
    """Container time of the first picture; 0 for a file of sound only."""
    file.seek(0)
    with opened(file) as container:
        if all(is_attached(stream) for stream in container.streams.video):
            return 0.0
        first = next(pictures(container, video_stream(container, "sound")), None)
        return 0.0 if first is None else first[0]


def packets(
    container: InputContainer,
    streams: Iterable[Any],
    with_empty: bool = False,
    leaps: list[float] | None = None,
    unannounced: Tick = lambda: None,
) -> Iterator[Any]:
    """Packets of `streams` until the end of what can be read. A truncated file simply ends.

    Their times are those of one clock, also where the file's own starts again or jumps (`pipelines.media.clock`).
    with_empty: also yield packets without data that have a time (repeated pictures in AVI), for a stream copy. To a
    decoder they would mean the end of the stream. leaps: receives the times at which the file's own clock leaps.
    unannounced: called for each packet of a stream that was not there when the file was opened (FLV, MPEG-TS).
    """
    wanted = list(streams)
    video = next((s for s in container.streams.video if not is_attached(s)), None)
    forth_s = clock.LEAPS_FORTH_S.get(container.format.name)
    if forth_s is None or video is None:
        demuxed = _demuxed(container, wanted, with_empty, unannounced)
        yield from demuxed if video is None else raw_streams.counted(demuxed, container, video)
        return
    # The pictures put the parts one after another, so they are read even if only the sound is wanted.
    indexes = {stream.index for stream in wanted}
    read = wanted if video.index in indexes else [*wanted, video]
    running = clock.ContinuousClock(video.index, frame_step(video), leaps, forth_s)
    for packet in running.corrected(_demuxed(container, read, with_empty, unannounced)):
        if packet.stream_index in indexes:
            yield packet


def _demuxed(
    container: InputContainer, streams: Sequence[Any], with_empty: bool, unannounced: Tick
) -> Iterator[Any]:
    demuxed = container.demux(*streams)
    while True:
        try:
            packet = next(demuxed)
        except (StopIteration, av.InvalidDataError, av.EOFError):
            return
        except IndexError:
            unannounced()
            demuxed = container.demux(*streams)
            continue
        if container.format.name == "dhav":  # its packets say that each lasts a tick
            packet.duration = 0
        # PyAV marks the end of each stream by an empty packet without a time: never passed on.
        if packet.size or (with_empty and packet.dts is not None):
            yield packet


def is_encrypted(packet: Any) -> bool:
    """True for a packet that the container marks as encrypted."""
    return bool(packet.has_sidedata("encryption_info"))


def time_of(frame: Any, stream: Any) -> float | None:
    """Container time of a decoded frame in seconds, or None.

    A frame flushed out of a decoder at the end has a time but no time base, hence `stream`.
    """
    return None if frame.pts is None else float(frame.pts * stream.time_base)


def pictures(
    container: InputContainer,
    video: Any,
    tick: Tick | None = None,
    damage: list[tuple[float, float]] | None = None,
) -> Pictures:
    """(container time in seconds, frame) in presentation order.

    Packets that cannot be decoded are skipped. `damage` receives the times (start, end) between which they lie, and
    those of pictures that the decoder marks as corrupt. Raises DecodeFailed (`InvalidData`, `Encrypted`) at the end, or
    after about ten seconds, if more than MAX_DAMAGE of the packets were bad.
    """
    n_packets = n_bad = n_frames = n_reported = 0
    is_counted = raw_streams.counted_rate(container, video) is not None
    previous: float | None = None
    reason: Exception | None = None

    def decoded() -> Iterator[Any]:
        nonlocal n_packets, n_bad, reason
        for packet in packets(container, [video]):
            n_packets += 1
            if tick is not None and n_packets % 64 == 0:
                tick()
            if is_encrypted(packet):
                raise DecodeFailed("Encrypted", "the pictures are encrypted", "decode")
            try:
                yield from packet.decode()
            except SKIPPED as error:
                n_bad, reason = n_bad + 1, error
        with contextlib.suppress(*SKIPPED):
            yield from video.codec_context.decode(None)

    for frame in decoded():
        time = None if is_counted else time_of(frame, video)
        if time is None:
            time = 0.0 if previous is None else previous + frame_step(video)
        n_frames += 1
        if damage is not None and (n_bad > n_reported or frame.is_corrupt):
            # Decoding may have begun in the middle: nothing is known about the time before the first picture.
            if previous is not None:
                damage.append((previous, time + frame_step(video) if frame.is_corrupt else time))
            n_reported = n_bad
        previous = time
        yield time, frame
        if n_packets > 250 and n_bad > MAX_DAMAGE * n_packets:
            break
    if damage is not None and n_bad > n_reported and previous is not None:
        damage.append((previous, math.inf))
    if reason is not None and (n_frames == 0 or n_bad > MAX_DAMAGE * n_packets):
        raise undecodable(n_bad, n_packets, reason, "decode")


def undecodable(n_bad: int, n_packets: int, reason: Exception | None, stage: str) -> DecodeFailed:
    """The error for a stream with too few pictures that can be decoded."""
    if n_packets == 0:
        return DecodeFailed("NoFrames", "the file announces a video stream but has no frames", stage)
    why = error_text(reason) if reason is not None else "they give no frame"
    return DecodeFailed("InvalidData", f"{n_bad} of {n_packets} packets cannot be decoded: {why}", stage)


def frame_step(video: Any) -> float:
    """Seconds per picture, as the stream announces them; 1/25 if it does not."""
    for rate in (raw_streams.counted_rate(video.container, video), video.average_rate, video.guessed_rate):
        if rate and 0.001 < float(rate) < 1000:
            return 1 / float(rate)
    return 1 / 25


def tolerance_s(video: Any) -> float:
    """Seconds by which the time of a picture may exceed a target and still match it."""
    # Containers round times to their own clock (1 ms in Matroska), so the time of a picture may lie a little after
    # its instant. Allow half a tick, at most half a millisecond.
    tick = float(video.time_base) if video.time_base else 0.0
    return min(tick / 2, 0.0005) + 1e-6


def seek(container: InputContainer, stream: Any, time_s: float) -> None:
    """Seek to the last place at or before `time_s` where decoding can start, as far as the container knows."""
    with contextlib.suppress(av.FFmpegError):
        container.seek(int(time_s / float(stream.time_base)), stream=stream, backward=True)
    stream.codec_context.flush_buffers()
