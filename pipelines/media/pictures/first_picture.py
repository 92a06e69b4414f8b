"""The first picture of a film, decoded from the packets that are read anyway."""

from __future__ import annotations

from typing import Any

from pipelines.media.container import MAX_PIXELS, SKIPPED, undecodable
from pipelines.media.errors import DecodeFailed


class FirstPicture:
    """Decoder of a video stream's first picture: takes packets until one picture is out."""

    def __init__(self, video: Any) -> None:
        self.video = video
        self._frame: Any = None
        self.n_packets = 0
        self.packet = b""
        """Bytes of the first packet."""
        self.reason: Exception | None = None

    def offer(self, packet: Any) -> None:
        if self._frame is None:
            self.packet = self.packet or bytes(packet)
            self.n_packets += 1
            self._take(packet)

    def frame(self) -> Any:
        """The first picture. Raises DecodeFailed if there is none, or its size is absurd."""
        if self._frame is None:
            self._take(None)  # short files leave their only picture in the decoder
        frame = self._frame
        if frame is None:
            raise undecodable(self.n_packets, self.n_packets, self.reason, "probe")
        if frame.width <= 0 or frame.height <= 0 or frame.width * frame.height > MAX_PIXELS:
            raise DecodeFailed("BadSize", f"pictures of {frame.width} x {frame.height}", "probe")
        return frame

    def _take(self, packet: Any) -> None:
        try:
            self._frame = next(iter(self.video.codec_context.decode(packet)), None)
        except SKIPPED as error:
            self.reason = error
