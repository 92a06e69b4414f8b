"""Edit lists of mp4 and mov (ISO/IEC 14496-12, 8.6.6), copied as they are.

An edit list says which parts of a track are shown, when, and in which order: a trimmed start or end, a part that is cut
out, shown twice or shown later. FFmpeg's muxer writes only a later start and a trimmed one. A film with more than that
is therefore copied packet by packet with the times of its media, and its own lists are put into the finished file.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, BinaryIO

MOST_BYTES = 1 << 30
"""Bytes of the largest index that is read into memory: that of some five days."""

_MOST_BOXES = 100_000
_NORMAL = 1 << 16
"""Rate of an edit that plays at normal speed, in 16.16 fixed point."""

Box = tuple[bytes, int, int, int]
"""Type of a box, and where it, its content and what follows it begin."""


class BrokenIndex(ValueError):
    """Boxes that cannot be read or written."""


@dataclass(frozen=True)
class Edit:
    """One part of a track."""

    duration: int
    """Length in ticks of the movie's clock."""
    media_time: int
    """Time in the track's media at which the part begins, in ticks of its own clock; -1 for a part with nothing."""
    rate: int = _NORMAL
    """Speed, in 16.16 fixed point."""


@dataclass(frozen=True)
class TrackEdits:
    """The edit list of a track; without edits all of it is shown, from the start of the film."""

    timescale: int
    """Ticks of the media's clock in a second."""
    media_duration: int
    """Length of the media in ticks."""
    edits: tuple[Edit, ...] = ()

    def is_plain(self, movie_timescale: int) -> bool:
        """True for an edit list that FFmpeg's muxer writes itself: nothing, and then the media up to its end."""
        media = [k for k, edit in enumerate(self.edits) if edit.media_time >= 0]
        if not media:
            return not self.edits
        last = self.edits[-1]
        if media != [len(self.edits) - 1] or last.rate != _NORMAL:
            return False
        # Durations are rounded to the movie's clock.
        left = Fraction(self.media_duration - last.media_time, self.timescale)
        return last.duration == 0 or Fraction(last.duration + 1, movie_timescale) >= left


@dataclass(frozen=True)
class EditLists:
    """The edit lists of a film."""

    timescale: int = 1
    """Ticks of the movie's clock in a second."""
    tracks: Mapping[int, TrackEdits] = field(default_factory=dict)
    """Edit lists by the identifier of the track, which is FFmpeg's `stream.id`."""
    fragmented: bool = False

    @property
    def plain(self) -> bool:
        """True if FFmpeg's own copy presents the same. It reads no more than that of a fragmented film."""
        return self.fragmented or all(track.is_plain(self.timescale) for track in self.tracks.values())


def read_edit_lists(file: Any) -> EditLists:
    """The edit lists of an open mp4 or mov file; none if its index is damaged or in no such file."""
    try:
        index = _Index(_movie(file)[1])
        tracks = dict(index.track(box) for box in index.tracks())
        fragmented = any(True for _ in index.inside(index.root, b"mvex"))
        return EditLists(index.movie_timescale, tracks, fragmented)
    except (BrokenIndex, struct.error, IndexError, StopIteration):
        return EditLists()


def movie_timescale(lists: EditLists, rate: int) -> int:
    """Ticks in a second of a clock that tells the times of the source, and samples at `rate`, exactly if it can."""
    exact = math.lcm(max(1, lists.timescale), rate)
    return exact if exact < 1 << 31 else rate


class EditListCopy:
    """The edit lists of a film whose packets are copied with the times of its media, for the finished copy."""

    def __init__(self, lists: EditLists) -> None:
        self.lists = lists
        self._copied: dict[int, tuple[int, Fraction]] = {}

    def note(self, number: int, identifier: int, first_s: Fraction) -> None:
        """Note a track that is copied.

        number, identifier: of the track in the copy, from 0, and in the source. first_s: media time of its first packet
        in decoding order, in seconds, from which the muxer counts; only that of the first call is kept.
        """
        if identifier in self.lists.tracks:
            self._copied.setdefault(number, (identifier, first_s))

    def write(self, file: BinaryIO) -> None:
        """Put the edit lists into the finished copy, whose index is at its end. Raises BrokenIndex."""
        try:
            start, data = _movie(file)
            written = _Index(data).with_edits(self.lists, self._copied)
        except (struct.error, IndexError, StopIteration) as error:
            raise BrokenIndex(f"the index of the copy cannot be read: {error}") from error
        if start + len(data) != file.seek(0, os.SEEK_END):
            raise BrokenIndex("the index of the copy is not at its end")
        file.seek(start)
        view = memoryview(written)
        while view:
            view = view[file.write(view) :]
        file.truncate(start + len(written))


def _movie(file: Any) -> tuple[int, bytes]:
    """Place and bytes of the first `moov` box. Raises BrokenIndex without one."""
    at, size = 0, file.seek(0, os.SEEK_END)
    for _ in range(_MOST_BOXES):
        if at + 8 > size:
            break
        file.seek(at)
        head = file.read(16)
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            length = struct.unpack(">Q", head[8:])[0]
        length = size - at if length == 0 else length
        if kind == b"moov":
            if length > MOST_BYTES:
                raise BrokenIndex(f"an index of {length} bytes")
            file.seek(at)
            return at, file.read(length)
        at += length
        if length < 8 or at >= size:  # a stream of NAL units reads like boxes of any length
            break
    raise BrokenIndex("there is no index")


def _boxes(data: bytes, start: int, stop: int) -> Iterator[Box]:
    left = _MOST_BOXES
    while start + 8 <= stop and left:
        left -= 1
        length, kind = struct.unpack(">I4s", data[start : start + 8])
        content = start + 8
        if length == 1:
            length, content = struct.unpack(">Q", data[start + 8 : start + 16])[0], start + 16
        end = min(start + length, stop) if length else stop
        if end < content:
            return
        yield kind, start, content, end
        start = end


class _Index:
    """The bytes of a `moov` box."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.root: Box = next(_boxes(data, 0, len(data)))
        self._header = next(self.inside(self.root, b"mvhd"), None)
        self.movie_timescale = 1 if self._header is None else max(1, self._clock(self._header)[0])

    def inside(self, box: Box, *path: bytes) -> Iterator[Box]:
        """The boxes of a type inside another one, or at the end of a path of types."""
        for inner in _boxes(self.data, box[2], box[3]):
            if inner[0] == path[0]:
                if path[1:]:
                    yield from self.inside(inner, *path[1:])
                else:
                    yield inner

    def tracks(self) -> Iterator[Box]:
        return self.inside(self.root, b"trak")

    def track(self, box: Box) -> tuple[int, TrackEdits]:
        """Identifier and edits of a track. Raises BrokenIndex without its headers."""
        header = next(self.inside(box, b"tkhd"), None)
        media = next(self.inside(box, b"mdia", b"mdhd"), None)
        if header is None or media is None:
            raise BrokenIndex("a track without headers")
        at = header[2] + (20 if self.data[header[2]] == 1 else 12)
        edits: list[Edit] = []
        for found in self.inside(box, b"edts", b"elst"):
            edits = list(self._edits(found))  # of several, FFmpeg follows the last
        timescale, duration = self._clock(media)
        return struct.unpack(">I", self.data[at : at + 4])[0], TrackEdits(
            max(1, timescale), duration, tuple(edits)
        )

    def _edits(self, box: Box) -> Iterator[Edit]:
        long = self.data[box[2]] == 1
        entry = ">QqI" if long else ">IiI"
        width = struct.calcsize(entry)
        number = struct.unpack(">I", self.data[box[2] + 4 : box[2] + 8])[0]
        for k in range(min(number, (box[3] - box[2] - 8) // width)):
            at = box[2] + 8 + k * width
            yield Edit(*struct.unpack(entry, self.data[at : at + width]))

    def _clock(self, box: Box) -> tuple[int, int]:
        """Ticks in a second and length in ticks, of an `mvhd` or `mdhd` box."""
        if self.data[box[2]] == 1:
            timescale, duration = struct.unpack(">IQ", self.data[box[2] + 20 : box[2] + 32])
        else:
            timescale, duration = struct.unpack(">II", self.data[box[2] + 12 : box[2] + 20])
        return timescale, duration

    def with_edits(self, lists: EditLists, copied: Mapping[int, tuple[int, Fraction]]) -> bytes:
        """The index with the edit lists of the source.

        copied: by the number of a track in the copy,
        its identifier in the source and the media time in seconds from which the muxer counts."""
        parts, longest, number = [], 0, 0
        for box in _boxes(self.data, self.root[2], self.root[3]):
            whole = self.data[box[1] : box[3]]
            if box[0] == b"trak":
                if number in copied:
                    identifier, first_s = copied[number]
                    whole = self._edited(box, lists, lists.tracks[identifier], first_s)
                track = _Index(_box(b"moov", whole))
                longest = max(longest, track.shown_ticks())
                number += 1
            parts.append(whole)
        index = bytearray(_box(b"moov", b"".join(parts)))
        written = _Index(bytes(index))
        if written._header is not None:
            _set_duration(index, written._header, longest, 24, 16)
        return bytes(index)

    def shown_ticks(self) -> int:
        """Length of the only track as its header says, in ticks of the movie's clock."""
        header = next(self.inside(self.root, b"trak", b"tkhd"), None)
        if header is None:
            return 0
        at, kind = (28, ">Q") if self.data[header[2]] == 1 else (20, ">I")
        return int(struct.unpack_from(kind, self.data, header[2] + at)[0])

    def _edited(self, box: Box, lists: EditLists, source: TrackEdits, first_s: Fraction) -> bytes:
        """A track with the edits of the source instead of its own."""
        _, own = self.track(box)
        first = round(first_s * own.timescale)
        ratio = Fraction(self.movie_timescale, lists.timescale)
        edits = [
            Edit(
                round(edit.duration * ratio),
                -1 if edit.media_time < 0 else _rescaled(edit.media_time, source, own) - first,
                edit.rate,
            )
            for edit in source.edits
        ] or [Edit(round(Fraction(own.media_duration, own.timescale) * self.movie_timescale), max(0, -first))]
        parts = []
        for inner in _boxes(self.data, box[2], box[3]):
            if inner[0] == b"edts":
                continue
            whole = bytearray(self.data[inner[1] : inner[3]])
            if inner[0] == b"tkhd":
                header = (inner[0], 0, inner[2] - inner[1], len(whole))
                _set_duration(whole, header, sum(edit.duration for edit in edits), 28, 20)
                whole += _box(b"edts", _list_of(edits))
            parts.append(bytes(whole))
        return _box(b"trak", b"".join(parts))


def _rescaled(media_time: int, source: TrackEdits, own: TrackEdits) -> int:
    return round(Fraction(media_time * own.timescale, source.timescale))


def _box(kind: bytes, content: bytes) -> bytes:
    if len(content) + 8 >= 1 << 32:
        raise BrokenIndex("an index of more than 4 GB")
    return struct.pack(">I4s", len(content) + 8, kind) + content


def _list_of(edits: list[Edit]) -> bytes:
    """An `elst` box; with 64-bit numbers where some are large."""
    long = any(edit.duration >= 1 << 32 or edit.media_time >= 1 << 31 for edit in edits)
    entry = ">QqI" if long else ">IiI"
    try:
        entries = b"".join(struct.pack(entry, edit.duration, edit.media_time, edit.rate) for edit in edits)
    except struct.error as error:
        raise BrokenIndex(f"an edit that cannot be written: {error}") from error
    return _box(b"elst", struct.pack(">II", long << 24, len(edits)) + entries)


def _set_duration(data: bytearray, box: Box, ticks: int, at_long: int, at_short: int) -> None:
    """Set a length in the header `box`, at its place in the long and in the short form. All ones mean unknown."""
    if data[box[2]] == 1:
        struct.pack_into(">Q", data, box[2] + at_long, ticks)
    else:
        struct.pack_into(">I", data, box[2] + at_short, min(ticks, (1 << 32) - 1))
