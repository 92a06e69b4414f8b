"""Reading and editing of Matroska files element by element, independent of the code under test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

SEGMENT, TRACKS, ENTRY, VIDEO, COLOUR, CLUSTER = 0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0x55B0, 0x1F43B675
CHAPTERS, EDITION, ATOM, DISPLAY = 0x1043A770, 0x45B9, 0xB6, 0x80
SIMPLE_BLOCK, BLOCK_GROUP, BLOCK = 0xA3, 0xA0, 0xA1

_PLACES = {0x114D9B74, 0x1C53BB6B, 0xEC}
"""SeekHead, Cues and voids: they hold places of others, or nothing."""


def element(name: int, content: bytes | int) -> bytes:
    """An element with a size of eight bytes; a number is written in as few bytes as it takes."""
    if isinstance(content, int):
        content = content.to_bytes(max(1, (content.bit_length() + 7) // 8), "big")
    head = name.to_bytes((name.bit_length() + 7) // 8, "big")
    return head + b"\1" + len(content).to_bytes(7, "big") + content


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(identifier, content) of the elements in `data`."""
    at = 0
    while at < len(data):
        width = 9 - data[at].bit_length()
        name, at = int.from_bytes(data[at : at + width], "big"), at + width
        width = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
        at += width
        size = min(size, len(data) - at)
        yield name, data[at : at + size]
        at += size


def find(data: bytes, *path: int) -> list[bytes]:
    """Contents of all elements at a path."""
    found = [data]
    for name in path:
        found = [content for outer in found for kind, content in elements(outer) if kind == name]
    return found


def edit(path: Path, place: tuple[int, ...], change: Callable[[bytes], bytes], entry: int = 0) -> Path:
    """Change the content of the elements at a place below the segment, of the track `entry` alone; the same path.

    An element at the end of `place` that is not there is changed from nothing.
    """

    def changed(content: bytes, way: tuple[int, ...]) -> bytes:
        if not way:
            return change(content)
        parts, number, done = b"", -1, False
        for name, inner in elements(content):
            if name in _PLACES or name == 0xBF:
                continue
            number += name == ENTRY
            if name == way[0] and (name != ENTRY or number == entry):
                inner, done = changed(inner, way[1:]), True
            parts += element(name, inner)
        return parts if done else parts + element(way[0], changed(b"", way[1:]))

    data = path.read_bytes()
    heads = [(name, content) for name, content in elements(data) if name != SEGMENT]
    [segment] = find(data, SEGMENT)
    whole = b"".join(element(*head) for head in heads) + element(SEGMENT, changed(segment, place))
    path.write_bytes(whole)
    return path


def add(path: Path, place: tuple[int, ...], *more: tuple[int, bytes | int], entry: int = 0) -> Path:
    """Add elements at a place below the segment, in the place of those of the same kinds; the same path."""
    names = {name for name, _ in more}

    def change(content: bytes) -> bytes:
        kept = b"".join(element(*pair) for pair in elements(content) if pair[0] not in names)
        return kept + b"".join(element(*pair) for pair in more)

    return edit(path, place, change, entry)


def with_addition(path: Path, number: int, data: bytes) -> Path:
    """Give every block of pictures in the first track an addition (BlockAdditional) of a kind; the same path."""
    more = element(0x75A1, element(0xA6, element(0xEE, number) + element(0xA5, data)))

    def change(cluster: bytes) -> bytes:
        parts = b""
        for name, content in elements(cluster):
            if name == SIMPLE_BLOCK and content[0] == 0x81:
                group = element(BLOCK, content[:3] + bytes([content[3] & 0x0E]) + content[4:]) + more
                if not content[3] & 0x80:
                    group += element(0xFB, b"\xff")
                name, content = BLOCK_GROUP, group
            parts += element(name, content)
        return parts

    return edit(path, (CLUSTER,), change)
