"""Pictures without times: coded streams without a container, and program streams that give a time to some pictures.

A picture without a time is shown one step after the one before it, as players do. Which one comes before it, only a
decoder can tell, because pictures are coded in another order than they are shown in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from pipelines.media import container as media_container
from pipelines.mux.files import Source

_SPARSE = ("h264", "hevc", "mpeg", "mpegts")
"""FFmpeg's demuxers of formats in which pictures may have no time."""

_LOOKED_AT = 100
"""Pictures at the start of a film by which such films are told."""

_REORDERED = 16
"""Largest number of pictures that a decoder may hold back."""

_MOST_HELD = 200
"""Packets that wait for their picture, at most: of a damaged one there is none."""


def lacks_times(source: Source) -> bool:
    """True for a film of which some of the first pictures have no time."""
    with source.open() as film:
        video = next((s for s in film.streams.video if not media_container.is_attached(s)), None)
        if video is None or film.format.name not in _SPARSE:
            return False
        for number, packet in enumerate(media_container.packets(film, [video])):
            if packet.pts is None:
                return True
            if number > _LOOKED_AT:
                break
    return False


class ShownOrder:
    """Times for the pictures of a stream, which is decoded for that.

    video: a stream of pictures that nobody else decodes.
    """

    def __init__(self, video: Any) -> None:
        self._video = video
        self._step = round(media_container.frame_step(video) / float(video.time_base))
        self._held: deque[tuple[Any, int | None]] = deque()
        """Packets that wait, in the order of the file, with their own times."""
        self._first = 0
        """Number of the first packet that waits, counted from the start of the film."""
        self._times: dict[int, int] = {}
        """Times of pictures by the number of their packet."""
        self._shown: deque[int] = deque()
        """Times of the last pictures that were shown, as many as packets may be decoded ahead."""

    def stamped(self, packets: Iterable[Any]) -> Iterator[Any]:
        """The packets, of which those of the stream have times: rising ones of decoding, and of presentation."""
        for packet in packets:
            if packet.stream_index != self._video.index:
                yield packet
                continue
            own = packet.pts
            # The decoder gives each picture the time of its packet: here the number, to know it again.
            packet.pts = self._first + len(self._held)
            self._held.append((packet, own))
            self._decode(packet)
            yield from self._release(len(self._held) > _MOST_HELD)
        self._decode(None)
        yield from self._release(True)

    def _decode(self, packet: Any) -> None:
        try:
            frames = self._video.codec_context.decode(packet)
        except media_container.SKIPPED:
            return
        for frame in frames:
            number = frame.pts
            if number is None or not 0 <= number - self._first < len(self._held):
                continue
            own = self._held[number - self._first][1]
            self._times[number] = self._next() if own is None else own
            self._shown.append(self._times[number])
            if len(self._shown) > _REORDERED + 1:
                self._shown.popleft()

    def _next(self) -> int:
        return self._shown[-1] + self._step if self._shown else 0

    def _release(self, every: bool) -> Iterator[Any]:
        """The packets whose picture was shown, up to the first one that waits; or all of them."""
        while self._held and (every or self._first in self._times):
            packet, own = self._held.popleft()
            time = self._times.pop(self._first, None)
            self._first += 1
            if time is None:
                time = self._next() if own is None else own
            packet.pts = time
            packet.dts = min(time, (self._shown[0] if self._shown else time) - _REORDERED * self._step)
            packet.duration = packet.duration or self._step
            yield packet
