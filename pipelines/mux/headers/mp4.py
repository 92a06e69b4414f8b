"""Boxes of mp4 and mov that say more of a film than FFmpeg passes on: taken over from the source (ISO/IEC 14496-12).

Facts of the picture in its sample entry (Dolby Vision, spherical video, stereo, aperture), language tags, tags of
iTunes and of cameras. FFmpeg writes the index last, so that it can grow without moving a packet.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

_LARGEST_INDEX = 256 << 20
_MOST_BOXES = 100_000

_CODING = {
    *(b"avcC", b"hvcC", b"vvcC", b"av1C", b"vpcC", b"esds", b"d263", b"glbl", b"jp2h", b"strf", b"SMI "),
    *(b"btrt", b"sinf", b"wave", b"frma", b"chan"),
}
"""Boxes of a sample entry that the muxer makes: the decoder's configuration, bit rates, encryption."""

_OWN = {b"meta", b"chpl", b"name", b"tags", b"Xtra", b"hinf"}
"""Boxes of `udta` that are not taken over as they are."""

_UNDETERMINED = (0x7FFF, 0x55C4)
"""Languages of a track that mean none: of Macintosh, and the code `und`."""

_COMMENT, _ENCODER = b"\xa9cmt", b"\xa9too"

Boxes = list[tuple[bytes, bytes]]


@dataclass
class Mp4Facts:
    """Boxes of a film that its copy should have."""

    entries: dict[int, Boxes] = field(default_factory=dict)
    """Boxes in the sample entry of each track of pictures, by the identifier of the track."""
    languages: dict[int, bytes] = field(default_factory=dict)
    """Content of `elng` (a language tag) by the identifier of the track."""
    tags: Boxes = field(default_factory=list)
    """Items of iTunes' list of tags."""
    user: Boxes = field(default_factory=list)
    """Other boxes of `udta`, such as a camera's place."""


def read_facts(file: BinaryIO) -> Mp4Facts:
    """Facts of an open mp4 or mov file; none of what is damaged or too large."""
    facts = Mp4Facts()
    try:
        _, content = _index(file)
        for kind, data in boxes_in(content):
            if kind == b"trak":
                _read_track(data, facts)
            elif kind == b"udta":
                facts.user = [(k, d) for k, d in boxes_in(data) if k not in _OWN]
                facts.tags = _itunes(dict(boxes_in(data)).get(b"meta", b""))
    except (struct.error, ValueError, IndexError):
        return Mp4Facts()
    return facts


def language_tag(content: bytes) -> str:
    """The language tag (BCP 47) in the content of an `elng` box; empty without one."""
    return content[4:100].split(b"\0")[0].decode("ascii", "ignore")


def add_facts(
    file: BinaryIO,
    facts: Mp4Facts,
    tracks: Mapping[int, int],
    comment: str = "",
    languages: Mapping[int, str] | None = None,
) -> None:
    """Add the facts to a finished copy, open for reading and writing.

    tracks: the identifier of each copied track by that of the source's. comment: replaces that in the list of tags.
    languages: codes (ISO 639-2) by the identifier of a track of the copy; FFmpeg writes those of Macintosh into mov.
    Raises ValueError for a file that FFmpeg's muxer did not write.
    """
    start, content = _index(file)
    if start + 8 + len(content) != file.seek(0, os.SEEK_END):
        raise ValueError("the index is not the last box")
    sources = {copy: source for source, copy in tracks.items()}
    movie: Boxes = []
    for kind, data in _parts(content):
        if kind == b"trak":
            number = track_number(data)
            data = _with_track_facts(data, facts, sources.get(number), (languages or {}).get(number, ""))
        movie.append((kind, data))
    new = joined(_with_tags(movie, facts, comment))
    if new != content:
        file.seek(start)
        view = memoryview(box(b"moov", new))
        while view:
            view = view[file.write(view) :]


def _read_track(data: bytes, facts: Mp4Facts) -> None:
    media = dict(boxes_in(dict(boxes_in(data)).get(b"mdia", b"")))
    number = track_number(data)
    if b"elng" in media:
        facts.languages[number] = media[b"elng"]
    if media.get(b"hdlr", b"")[8:12] == b"vide":
        entry = content_at(media.get(b"minf", b""), b"stbl", b"stsd")
        facts.entries[number] = [(k, d) for k, d in boxes_in(_entry(entry)[78:]) if k not in _CODING]


def _with_track_facts(data: bytes, facts: Mp4Facts, source: int | None, language: str) -> bytes:
    """The content of `trak` with facts of the source's track, if it has one, and a language if it has none."""
    entry, tag = facts.entries.get(source or 0), facts.languages.get(source or 0)
    parts = []
    for kind, inner in _parts(data):
        if kind == b"mdia":
            media = []
            for k, d in _parts(inner):
                if k == b"minf" and entry is not None:
                    d = _with_entry(d, entry)
                elif k == b"mdhd":
                    d = _with_language(d, language)
                if k != b"elng" or tag is None:
                    media.append((k, d))
            if tag is not None:  # after the header of the track, before its handler
                media.insert(1, (b"elng", tag))
            inner = joined(media)
        parts.append((kind, inner))
    return joined(parts)


def _with_language(header: bytes, code: str) -> bytes:
    """The content of `mdhd` with a code of three letters, unless it names a language."""
    at = 32 if header[:1] == b"\1" else 20
    there = struct.unpack(">H", header[at : at + 2])[0]
    if there not in _UNDETERMINED or not re.fullmatch("[a-z]{3}", code):
        return header
    packed = sum((ord(letter) - 0x60) << shift for letter, shift in zip(code, (10, 5, 0), strict=True))
    return header[:at] + struct.pack(">H", packed) + header[at + 2 :]


def _with_entry(data: bytes, more: Boxes, path: tuple[bytes, ...] = (b"stbl", b"stsd")) -> bytes:
    """The content of `minf` with more boxes in its first sample entry, in the place of those of the same kinds."""
    if not path:
        size, kind = struct.unpack(">I4s", data[8:16])
        entry = data[16 : 8 + size]
        there, wanted = _parts(entry[78:]), {name for name, _ in more}
        if wanted & {b"st3d", b"sv3d"} and b"vexu" not in wanted:
            # FFmpeg makes Apple's box of them, which says less, and then reads neither.
            there = [pair for pair in there if pair[0] != b"vexu"]
        # It is the same picture: what the source says of it is right, and more exact.
        there = [pair for pair in there if pair[0] not in wanted] + more
        return data[:8] + box(kind, entry[:78] + joined(there)) + data[8 + size :]
    return joined([(k, _with_entry(d, more, path[1:]) if k == path[0] else d) for k, d in _parts(data)])


def _with_tags(movie: Boxes, facts: Mp4Facts, comment: str) -> Boxes:
    """The index with the source's own list of tags; that with any names moves to its place of QuickTime."""
    if not facts.tags and not facts.user:
        return movie
    user: Boxes = []
    for kind, data in movie:
        user += _parts(data) if kind == b"udta" else []
    rest = [pair for pair in movie if pair[0] != b"udta"]
    if facts.tags and (
        any_names := [pair for pair in user if pair[0] == b"meta" and _handler(pair[1]) == b"mdta"]
    ):
        rest += any_names
        user = [pair for pair in user if pair not in any_names]
        items = [pair for pair in facts.tags if pair[0] not in (_COMMENT, _ENCODER)]
        if comment:
            items.append(
                (_COMMENT, box(b"data", struct.pack(">II", 1, 0) + comment.encode(errors="replace")))
            )
        handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
        user.append((b"meta", bytes(4) + handler + box(b"ilst", joined(items))))
    there = {kind for kind, _ in user}
    user += [pair for pair in facts.user if pair[0] not in there]
    return [*rest, (b"udta", joined(user))]


def _itunes(meta: bytes) -> Boxes:
    """Items of the list of tags in a `meta` box, if it is one of iTunes."""
    return list(boxes_in(dict(boxes_in(meta[4:])).get(b"ilst", b""))) if _handler(meta) == b"mdir" else []


def _handler(meta: bytes) -> bytes:
    return dict(boxes_in(meta[4:])).get(b"hdlr", b"")[8:12]


def track_number(track: bytes) -> int:
    """Number of a track, from the content of `trak`."""
    header = dict(boxes_in(track)).get(b"tkhd", b"")
    at = 20 if header[:1] == b"\1" else 12
    return int(struct.unpack(">I", header[at : at + 4])[0])


def _entry(data: bytes) -> bytes:
    """Content of the first entry of an `stsd` box."""
    return next((content for _, content in boxes_in(data[8:])), b"")


def content_at(data: bytes, *kinds: bytes) -> bytes:
    """Content of the box at a path of types; empty without it."""
    for kind in kinds:
        data = dict(boxes_in(data)).get(kind, b"")
    return data


def index_of(file: BinaryIO) -> Boxes:
    """Boxes of the index (`moov`) of an untrusted file. Raises ValueError without one."""
    return list(boxes_in(_index(file)[1]))


def box(kind: bytes, content: bytes) -> bytes:
    """A box with its content."""
    return struct.pack(">I4s", 8 + len(content), kind) + content


def joined(boxes: Boxes) -> bytes:
    """Boxes one after another."""
    return b"".join(box(*pair) for pair in boxes)


def boxes_in(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of the boxes in `data`, as far as they are whole."""
    at = 0
    for _ in range(_MOST_BOXES):
        if at + 8 > len(data):
            return
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if size < 8 or at + size > len(data):
            return
        yield kind, data[at + 8 : at + size]
        at += size


def _parts(data: bytes) -> Boxes:
    """The boxes in `data`, which may end with zeros. Raises ValueError if there is anything else."""
    found = list(boxes_in(data))
    if any(data[sum(8 + len(content) for _, content in found) :]):
        raise ValueError("a header with a damaged box")
    return found


def _index(file: BinaryIO) -> tuple[int, bytes]:
    """Start and content of the first `moov` box. Raises ValueError."""
    end = file.seek(0, os.SEEK_END)
    at = 0
    for _ in range(_MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        size, kind = struct.unpack(">I4s", head[:8])
        if kind == b"moov" and 8 <= size <= min(_LARGEST_INDEX, end - at):
            return at, head[8:] + file.read(size - 16) if size >= 16 else b""
        if size == 1:
            size = struct.unpack(">Q", head[8:16])[0]
        if size < 8:
            break
        at += size
    raise ValueError("no index")
