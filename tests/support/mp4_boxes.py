"""Reading and editing of mp4 and mov files box by box, independent of the code under test."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

ENTRY_BYTES = {b"vide": 78, b"soun": 28}
"""Bytes of a sample entry before its boxes, after its size and type, by kind of track."""


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of the boxes in `data`."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        head = 8
        if size == 1:
            size, head = struct.unpack(">Q", data[at + 8 : at + 16])[0], 16
        size = size or len(data) - at
        if size < head:
            return
        yield kind, data[at + head : at + size]
        at += size


def child(data: bytes, *path: bytes) -> bytes:
    """The content of a box by its path; empty if it is not there."""
    for kind in path:
        data = next((content for name, content in boxes(data) if name == kind), b"")
    return data


def tracks(path: Path) -> list[bytes]:
    """Contents of the `trak` boxes."""
    return [content for name, content in boxes(child(path.read_bytes(), b"moov")) if name == b"trak"]


def handler(track: bytes) -> bytes:
    """Kind of a track: vide, soun, tmcd, text ..."""
    return child(track, b"mdia", b"hdlr")[8:12]


def sample_entry(track: bytes) -> dict[bytes, bytes]:
    """Boxes in the first sample entry of a track of pictures or sound."""
    [(_, content), *_] = boxes(child(track, b"mdia", b"minf", b"stbl", b"stsd")[8:])
    return dict(boxes(content[ENTRY_BYTES[handler(track)] :]))


def edited(data: bytes, path: tuple[bytes, ...], more: bytes, kind: bytes = b"vide") -> bytes:
    """A film's bytes with `more` at the end of the box at `path` in the tracks of a kind; `moov` must come last.

    The path goes on into the sample entry by `entry`.
    """
    head = data.rfind(b"moov") - 4
    movie = b""
    for name, content in boxes(data[head + 8 :]):
        if name == b"trak" and handler(content) == kind:
            content = _with(content, path, more, kind)
        movie += box(name, content)
    return data[:head] + box(b"moov", movie)


def _with(content: bytes, path: tuple[bytes, ...], more: bytes, kind: bytes) -> bytes:
    if not path:
        return content + more
    if path[0] == b"entry":
        size, name = struct.unpack(">I4s", content[8:16])
        return content[:8] + box(name, content[16 : 8 + size] + more) + content[8 + size :]
    return b"".join(
        box(name, _with(inner, path[1:], more, kind) if name == path[0] else inner)
        for name, inner in boxes(content)
    )


ENTRY = (b"mdia", b"minf", b"stbl", b"stsd", b"entry")
"""Path of the sample entry in a track."""
