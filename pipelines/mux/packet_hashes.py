"""Identity of a film's streams, independent of the container: SHA-256 of their packets.

A copy in another container keeps the packets and changes everything around them. H.264 and HEVC are hashed as sequences
of NAL units, because containers separate these differently (start codes or lengths).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pipelines import storage
from pipelines.media import container
from pipelines.mux.files import Source


@dataclass(frozen=True)
class Digests:
    """SHA-256 in hex digits of the packets of each stream, in the order of the file."""

    video: tuple[str, ...] = ()
    """Video streams, without cover art."""
    kept: tuple[str, ...] = ()
    """Sound tracks of the source."""
    generated: str = ""
    """The generated sound track."""
    alternatives: tuple[str, ...] = ()
    """Further generated sound tracks."""

    @property
    def new(self) -> tuple[str, ...]:
        """The generated sound tracks, alternatives last."""
        return (self.generated, *self.alternatives)

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        return values if self.alternatives else {k: v for k, v in values.items() if k != "alternatives"}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Digests:
        """Inverse of `to_json`. Raises ValueError for anything else."""
        try:
            video, kept = (tuple(map(str, values[name])) for name in ("video", "kept"))
            others = tuple(map(str, values.get("alternatives", ())))
            return cls(video, kept, str(values["generated"]), others)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not packet digests: {error}") from error


class Hasher:
    """Running hashes of a film's streams, packet by packet. Cover art is left out."""

    def __init__(self, streams: Any) -> None:
        self._streams = [s for s in streams if s.type in ("video", "audio") and not is_cover(s)]
        self._hashes = {stream.index: hashlib.sha256() for stream in self._streams}

    def update(self, packet: Any, stream: Any) -> None:
        """Hash one packet of `stream`."""
        if (running := self._hashes.get(stream.index)) is not None:
            running.update(content(packet, stream))

    def digest(self, index: int) -> str:
        """The digest of the stream with that index."""
        return self._hashes[index].hexdigest()

    def of(self, kind: str) -> tuple[str, ...]:
        """The digests of the `video` or `audio` streams."""
        return tuple(self._hashes[s.index].hexdigest() for s in self._streams if s.type == kind)


def is_cover(stream: Any) -> bool:
    """True for a cover picture, which is a stream of video to FFmpeg."""
    return stream.type == "video" and container.is_attached(stream)


def content(packet: Any, stream: Any) -> bytes:
    """Payload of a packet, without the container's separators between the NAL units of H.264 and HEVC."""
    payload = bytes(packet)
    context = stream.codec_context
    if context is not None and context.name in ("h264", "hevc"):
        return b"".join(nal_units(payload, context))
    return payload


def nal_units(payload: bytes, context: Any) -> Iterator[bytes]:
    """NAL units of an H.264 or HEVC packet, whatever separates them."""
    extradata = bytes(context.extradata or b"")
    if extradata[:1] != b"\x01":  # start codes
        yield from (unit.rstrip(b"\0") for unit in re.split(rb"\x00\x00\x00?\x01", payload) if unit)
        return
    width = 1 + (extradata[4 if context.name == "h264" else 21] & 3)
    at = 0
    while at + width <= len(payload):
        size = int.from_bytes(payload[at : at + width], "big")
        yield payload[at + width : at + width + size].rstrip(b"\0")
        at += width + size


def video_digest(uri: str, *, nal_units: bool = False) -> str:
    """SHA-256 over the payloads of the video packets, stream after stream: equal before and after `mux`.

    nal_units: hash H.264 and HEVC as sequences of NAL units, whatever separates them. Needed for a copy from a
    transport stream (start codes) to Matroska (lengths); the units themselves are the same bits.
    """
    with storage.open_read(uri) as file, Source(file).open() as film:
        streams = [stream for stream in film.streams.video if not container.is_attached(stream)]
        hashes = {stream.index: hashlib.sha256() for stream in streams}
        for packet in container.packets(film, streams) if streams else ():
            hashes[packet.stream_index].update(content(packet, packet.stream) if nal_units else bytes(packet))
    return hashlib.sha256(b"".join(h.digest() for h in hashes.values())).hexdigest()
