"""Tracks of an mp4 or mov film in a file of their own, sample by sample as they are (ISO/IEC 14496-12).

The boxes of each track are the source's, but for the places of its chunks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator
from typing import BinaryIO

from pipelines.mux.files import write_all
from pipelines.mux.headers import mp4
from pipelines.mux.headers.mp4 import Boxes

_MOST_CHUNKS = 10_000_000
_READ = 1 << 20

_TYPE = b"ftyp"
_BRANDS = b"isom\0\0\2\0isomiso2mp41"


def write_tracks(source: BinaryIO, output: BinaryIO, ids: Collection[int], tick: Callable[[], None]) -> int:
    """Write the tracks with these numbers of an untrusted film; the bytes written, 0 if they hold no samples.

    Raises OSError for `output`, and what `source` raises.
    """
    end = source.seek(0, 2)
    try:
        movie = mp4.index_of(source)
        chunks = {
            number: list(_chunks(data, end))
            for kind, data in movie
            if kind == b"trak" and (number := mp4.track_number(data)) in ids
        }
    except (struct.error, ValueError, IndexError):
        return 0
    total = sum(size for pairs in chunks.values() for _, size in pairs)
    if not total or total > end:
        return 0
    head = mp4.box(_TYPE, _BRANDS) + struct.pack(">I4sQ", 1, b"mdat", 16 + total)
    write_all(output, head)
    places: dict[int, list[int]] = {}
    at = len(head)
    for number, pairs in chunks.items():
        places[number] = []
        for start, size in pairs:
            places[number].append(at)
            at += size
            _copy(source, output, start, size)
            tick()
    parts: Boxes = []
    for kind, data in movie:
        if kind != b"trak":
            parts.append((kind, data))
        elif (number := mp4.track_number(data)) in places:
            parts.append((kind, _placed(data, places[number])))
    index = mp4.box(b"moov", mp4.joined(parts))
    write_all(output, index)
    return at + len(index)


def _chunks(track: bytes, end: int) -> Iterator[tuple[int, int]]:
    """Place and size of each chunk of a track. Raises ValueError for what lies outside of the file."""
    table = dict(mp4.boxes_in(mp4.content_at(track, b"mdia", b"minf", b"stbl")))
    offsets = _numbers(table.get(b"co64", b""), ">Q") or _numbers(table.get(b"stco", b""), ">I")
    if len(offsets) > _MOST_CHUNKS:
        raise ValueError("too many chunks")
    runs = list(struct.iter_unpack(">3I", table[b"stsc"][8 : 8 + 12 * _count(table[b"stsc"])]))
    each = struct.unpack(">I", table[b"stsz"][4:8])[0]
    sizes = [] if each else _numbers(table[b"stsz"][4:], ">I")
    run = sample = 0
    for number, start in enumerate(offsets, 1):
        while run + 1 < len(runs) and runs[run + 1][0] <= number:
            run += 1
        n = runs[run][1]
        size = n * each if each else sum(sizes[sample : sample + n])
        sample += n
        if start + size > end:
            raise ValueError("a chunk behind the end of the file")
        yield start, size


def _count(table: bytes) -> int:
    return int(struct.unpack(">I", table[4:8])[0]) if len(table) >= 8 else 0


def _numbers(table: bytes, layout: str) -> list[int]:
    width = struct.calcsize(layout)
    data = table[8 : 8 + width * _count(table)]
    return [value for (value,) in struct.iter_unpack(layout, data[: len(data) // width * width])]


def _placed(data: bytes, places: list[int], path: tuple[bytes, ...] = (b"mdia", b"minf", b"stbl")) -> bytes:
    """The content of a track whose chunks lie at other places."""
    parts: Boxes = []
    for kind, inner in mp4.boxes_in(data):
        if path and kind == path[0]:
            parts.append((kind, _placed(inner, places, path[1:])))
        elif not path and kind in (b"stco", b"co64"):
            parts.append((b"co64", struct.pack(f">II{len(places)}Q", 0, len(places), *places)))
        else:
            parts.append((kind, inner))
    return mp4.joined(parts)


def _copy(source: BinaryIO, output: BinaryIO, start: int, size: int) -> None:
    source.seek(start)
    while size > 0 and (data := source.read(min(size, _READ))):
        write_all(output, data)
        size -= len(data)
