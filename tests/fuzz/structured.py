"""Damage to the structure of films: boxes of mp4, elements of Matroska, packets of transport and program streams,
chunks and the index of AVI, tags of FLV. Most of the file stays readable, so that it gets far."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Callable, Sequence

NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x10000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFE,
    0xFFFF_FFFF,
)

Part = tuple[int, int, int]
"""Start of a part of a file, of its content, and its end."""

_INNER = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"udta", b"dinf", b"mvex"}
_BOXES = (
    *_INNER,
    b"elst",
    b"stts",
    b"ctts",
    b"stsc",
    b"stsz",
    b"stco",
    b"stsd",
    b"clap",
    b"pasp",
    b"mdat",
    b"free",
)


def boxes(
    data: bytes, start: int = 0, stop: int | None = None, depth: int = 0
) -> list[tuple[Part, list[int]]]:
    """Boxes with the places of the sizes of those around them, outermost first."""
    stop, found = len(data) if stop is None else stop, []
    while start + 8 <= stop and len(found) < 2000:
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        if size < 8 or start + size > stop:
            break
        found.append(((start, start + 8, start + size), []))
        if kind in _INNER and depth < 8:
            inner = boxes(data, start + 8, start + size, depth + 1)
            found += [(part, [start, *around]) for part, around in inner]
        start += size
    return found


def box_edits(data: bytearray, rng: random.Random) -> None:
    """One edit of a box: its size, type, version, count or numbers; or it is removed, doubled or moved."""
    found = boxes(bytes(data))
    if not found:
        return
    (start, content, end), around = rng.choice(found)
    kind = rng.randrange(9)
    if kind == 0:
        struct.pack_into(
            ">I", data, start, rng.choice((*NUMBERS, end - start + rng.randrange(-9, 9) & 0xFFFF))
        )
    elif kind == 1:
        data[start + 4 : content] = rng.choice((*_BOXES, rng.randbytes(4)))
    elif kind == 2 and end - content >= 4:
        data[content] = rng.choice((0, 1, 2, 0xFF))
    elif kind in (3, 4) and end - content >= 8:
        at = content + 4 * rng.randrange((end - content) // 4)
        data[at : at + 4] = struct.pack(
            ">I", rng.choice((*NUMBERS, rng.getrandbits(32), rng.randrange(90_000)))
        )
    elif kind == 5:
        _replaced(data, start, end, b"", around, rng)
    elif kind == 6:
        _replaced(data, end, end, bytes(data[start:end]), around, rng)
    elif kind == 7:
        (other, _, _), outside = rng.choice(found)
        _replaced(data, other, other, bytes(data[start:end]), outside, rng)
    else:
        edits = [
            (
                rng.choice(NUMBERS[:6]) * rng.randrange(200),
                rng.choice((-1, 0, rng.randrange(20_000))),
                rng.choice((1 << 16, 0, 1 << 15)),
            )
            for _ in range(rng.randrange(6))
        ]  # fmt: skip
        entries = b"".join(struct.pack(">IiI", *edit) for edit in edits)
        body = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
        tracks = [(p, a) for p, a in found if bytes(data[p[0] + 4 : p[1]]) == b"trak"]
        if tracks:
            (trak, _, last), outside = rng.choice(tracks)
            _replaced(
                data, last, last, struct.pack(">I4s", 8 + len(body), b"edts") + body, [*outside, trak], None
            )


def _replaced(
    data: bytearray, start: int, end: int, by: bytes, around: Sequence[int], rng: random.Random | None
) -> None:
    """Replaces bytes, and mostly corrects the sizes of the boxes around them."""
    if rng is None or rng.random() < 0.8:
        for at in around:
            size = struct.unpack_from(">I", data, at)[0] + len(by) - (end - start)
            struct.pack_into(">I", data, at, max(0, size) & 0xFFFF_FFFF)
    data[start:end] = by


_MASTERS = {0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0xE1, 0x1F43B675, 0xA0, 0x1C53BB6B, 0xBB, 0x1549A966}
_ELEMENTS = (
    0xE7,
    0xA3,
    0xA1,
    0xD7,
    0x83,
    0x86,
    0x63A2,
    0x54CC,
    0x54B0,
    0x2AD7B1,
    0x23E383,
    0x55AA,
    0xEC,
    0x1F43B675,
)


def elements(data: bytes, start: int = 0, stop: int | None = None, depth: int = 0) -> list[Part]:
    """Elements of EBML: start, start of the size, start of the content and end are found by their first bytes."""
    stop, found = len(data) if stop is None else stop, list[Part]()
    while start < stop and len(found) < 3000 and data[start]:
        width = 9 - data[start].bit_length()
        name, at = int.from_bytes(data[start : start + width], "big"), start + width
        if at >= stop or not data[at]:
            break
        size_width = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + size_width], "big") & ((1 << 7 * size_width) - 1)
        content, end = at + size_width, min(at + size_width + size, stop)
        found.append((start, content, end))
        if name in _MASTERS and depth < 8:
            found += elements(data, content, end, depth + 1)
        start = end
    return found


def element_edits(data: bytearray, rng: random.Random) -> None:
    """One edit of an element: its size, identifier or value; or it is removed, doubled or moved."""
    found = elements(bytes(data))
    if not found:
        return
    start, content, end = rng.choice(found)
    width = 9 - data[start].bit_length()
    kind = rng.randrange(7)
    if kind == 0:
        data[start + width : content] = rng.choice(
            (b"\xff", b"\x01" + b"\xff" * 7, b"\x80", rng.randbytes(1), b"\x41\0")
        )
    elif kind == 1:
        name = rng.choice(_ELEMENTS)
        data[start : start + width] = name.to_bytes((name.bit_length() + 7) // 8, "big")
    elif kind in (2, 3) and end > content:
        n = min(end - content, 8)
        data[content : content + n] = rng.choice(
            (rng.randbytes(n), b"\xff" * n, bytes(n), b"\x7f" + b"\xff" * (n - 1))
        )
    elif kind == 4:
        del data[start:end]
    elif kind == 5:
        data[end:end] = data[start:end]
    else:
        other = rng.choice(found)[0]
        data[other:other] = data[start:end]


def _shuffled(data: bytearray, parts: Sequence[tuple[int, int]], rng: random.Random) -> None:
    """Parts of the file dropped, doubled, or exchanged."""
    (a, b), (c, d) = sorted((rng.choice(parts), rng.choice(parts)))
    kind = rng.randrange(3)
    if kind == 0:
        del data[a:b]
    elif kind == 1:
        data[c:c] = data[a:b]
    elif b <= c:
        data[a:d] = data[c:d] + data[b:c] + data[a:b]


def transport_edits(data: bytearray, rng: random.Random) -> None:
    """One edit of packets of 188 bytes: order, PID, counter, clock (PCR), times."""
    n = len(data) // 188
    if n < 2:
        return
    at = 188 * rng.randrange(n)
    kind = rng.randrange(7)
    if kind <= 1:
        stretch = 188 * rng.choice((1, 1, 2, 10))
        _shuffled(data, [(k, min(k + stretch, 188 * n)) for k in range(0, 188 * n, stretch)], rng)
    elif kind == 2:
        struct.pack_into(
            ">H",
            data,
            at + 1,
            rng.choice((0, 0x100, 0x101, 0x1FFF, 0x1000, 0x4100, 0x4101, rng.getrandbits(16))),
        )
    elif kind == 3:
        data[at + 3] = rng.getrandbits(8)
    elif kind == 4:
        for k in range(0, 188 * n, 188):
            if data[k + 3] & 0x20 and data[k + 4] > 6 and data[k + 5] & 0x10 and rng.random() < 0.5:
                data[k + 6 : k + 12] = rng.randbytes(6)
    else:
        _times_set(data, rng)


def pack_edits(data: bytearray, rng: random.Random) -> None:
    """One edit of packs of a program stream: order, clock (SCR), times."""
    at, marks = -1, list[int]()
    while (at := data.find(b"\0\0\1", at + 1)) >= 0 and len(marks) < 2000:
        if at + 4 < len(data) and data[at + 3] >= 0xB9:
            marks.append(at)
    if len(marks) < 3:
        return
    kind = rng.randrange(4)
    if kind == 0:
        _shuffled(data, list(itertools.pairwise(marks)), rng)
    elif kind == 1:
        packs = [at for at in marks if data[at + 3] == 0xBA]
        if packs:
            at = rng.choice(packs)
            data[at + 4 : at + 10] = bytes([0x44 | rng.getrandbits(2)]) + rng.randbytes(5)
    elif kind == 2:
        data[rng.choice(marks) + 3] = rng.choice((0xBA, 0xBB, 0xBC, 0xBD, 0xBE, 0xC0, 0xE0, 0xE1, 0xB9))
    else:
        _times_set(data, rng)


def _times_set(data: bytearray, rng: random.Random) -> None:
    """Times of some packets of pictures and sound (PES) move by one distance, or are removed."""
    moved, share = (
        rng.choice((900_000, -90_000, 2**33 - 90_000, rng.getrandbits(33))),
        rng.choice((0.1, 0.5, 1.0)),
    )
    at, first = -1, rng.randrange(len(data))
    while (at := data.find(b"\0\0\1", at + 1)) >= 0 and at + 14 < len(data):
        if not (0xC0 <= data[at + 3] <= 0xEF and data[at + 7] & 0x80 and at >= first) or rng.random() > share:
            continue
        raw = int.from_bytes(data[at + 9 : at + 14], "big")
        time = ((raw >> 33 & 7) << 30 | (raw >> 17 & 0x7FFF) << 15 | raw >> 1 & 0x7FFF) + moved & (
            1 << 33
        ) - 1
        if rng.random() < 0.1:
            data[at + 7] &= 0x3F
            continue
        raw = (
            (raw >> 36 & 0xF) << 36
            | (time >> 30) << 33
            | 1 << 32
            | (time >> 15 & 0x7FFF) << 17
            | 1 << 16
            | (time & 0x7FFF) << 1
            | 1
        )
        data[at + 9 : at + 14] = raw.to_bytes(5, "big")


def chunk_edits(data: bytearray, rng: random.Random) -> None:
    """One edit of AVI: an entry of the index, a chunk's size, or the order of chunks."""
    index, movie = data.rfind(b"idx1"), data.find(b"movi")
    kind = rng.randrange(5)
    if kind <= 2 and 0 <= index < len(data) - 24:
        n = (len(data) - index - 8) // 16
        at = index + 8 + 16 * rng.randrange(n)
        if kind == 0:
            struct.pack_into(
                "<I", data, at + 4 * rng.randrange(4), rng.choice((*NUMBERS, rng.getrandbits(16)))
            )
        elif kind == 1:
            _shuffled(data, [(k, k + 16) for k in range(index + 8, index + 8 + 16 * n, 16)], rng)
        else:
            struct.pack_into("<I", data, index + 4, rng.choice((*NUMBERS, 16 * rng.randrange(n + 1))))
    elif movie > 0:
        marks = [
            k
            for k in range(movie + 4, max(movie + 5, index))
            if data[k : k + 4] in (b"00dc", b"00db", b"01wb")
        ]
        if kind == 3 and len(marks) > 2:
            _shuffled(data, list(itertools.pairwise(marks)), rng)
        elif marks:
            struct.pack_into("<I", data, rng.choice(marks) + 4, rng.choice(NUMBERS))


def tag_edits(data: bytearray, rng: random.Random) -> None:
    """One edit of FLV: order of tags, their times, sizes and types."""
    tags, at = list[tuple[int, int]](), 13
    while at + 15 <= len(data):
        end = at + 15 + int.from_bytes(data[at + 1 : at + 4], "big")
        tags.append((at, end))
        at = end
    if len(tags) < 3:
        return
    kind, (at, _) = rng.randrange(4), rng.choice(tags)
    if kind == 0:
        _shuffled(data, tags, rng)
    elif kind == 1:
        moved = rng.choice((5000, 2**31, 2**32 - 3000, rng.getrandbits(32)))
        for start, _ in [tag for tag in tags if tag[0] >= at]:
            time = (
                int.from_bytes(data[start + 4 : start + 7], "big") | data[start + 7] << 24
            ) + moved & 0xFFFF_FFFF
            data[start + 4 : start + 8] = (time & 0xFFFFFF).to_bytes(3, "big") + bytes([time >> 24])
    elif kind == 2:
        data[at + 1 : at + 4] = rng.randbytes(3)
    else:
        data[at] = rng.choice((8, 9, 18, 0))


EDITS: dict[str, Callable[[bytearray, random.Random], None]] = {
    **dict.fromkeys((".mp4", ".mov"), box_edits),
    **dict.fromkeys((".mkv", ".webm"), element_edits),
    ".ts": transport_edits,
    ".mpg": pack_edits,
    ".avi": chunk_edits,
    ".flv": tag_edits,
}
"""Edits by suffix."""


def edited(data: bytes, suffix: str, rng: random.Random) -> bytes:
    """`data` with one to four edits of its structure; as it is for a suffix without any."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if (edit := EDITS.get(suffix)) is not None:
            edit(made, rng)
    return bytes(made[: 1 << 20])
