"""Cover pictures: files in Matroska, which PyAV reads as pictures and would write as a second film."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.media import container
from pipelines.mux.files import Source

_HEADS = ((0, b"\x1a\x45\xdf\xa3"), (4, b"ftyp"), (4, b"moov"), (0, b"\x30\x26\xb2\x75"))
"""Place and bytes in the head of Matroska, mp4, mov and ASF, which have covers."""

_MOST = 64

_KINDS = {"mjpeg": ("jpg", "image/jpeg"), "png": ("png", "image/png"), "bmp": ("bmp", "image/bmp")}
"""Suffix and media type by codec."""


@dataclass(frozen=True)
class Cover:
    """A picture as a file."""

    name: str
    media_type: str
    data: bytes


def read_covers(source: Source) -> dict[int, Cover]:
    """Covers of a film by the index of their stream; those of unknown kinds are left out. Leaves `source` at its start.

    The film is opened for this alone: its packets are read in order, and those of the picture would be lost.
    """
    head = source.read(16)
    source.seek(0)
    if not any(head[at : at + len(mark)] == mark for at, mark in _HEADS):
        return {}
    found: dict[int, Cover] = {}
    with source.open() as film:
        streams = [s for s in film.streams.video if container.is_attached(s) and s.codec_context is not None]
        known = {s.index: s for s in streams[:_MOST] if container.codec_name(s) in _KINDS}
        for packet in film.demux(*known.values()) if known else ():
            if packet.size and packet.stream_index not in found:
                found[packet.stream_index] = _cover(known[packet.stream_index], bytes(packet))
            if len(found) == len(known):
                break
    source.seek(0)
    return found


def _cover(stream: Any, data: bytes) -> Cover:
    suffix, media_type = _KINDS[container.codec_name(stream)]
    metadata = {key.lower(): str(value) for key, value in stream.metadata.items()}
    name = metadata.get("filename") or f"cover.{suffix}"
    return Cover(name, metadata.get("mimetype") or media_type, data)
