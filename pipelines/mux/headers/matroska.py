"""Facts of tracks that FFmpeg's Matroska muxer does not take from PyAV, written into the finished header (RFC 9559).

The header lies before the packets and cannot grow afterwards. So a track that needs more is muxed with a long name,
whose place is then used: what is left over becomes a void element.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

_SEGMENT, _CLUSTER, _TRACKS, _ENTRY = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE
_VIDEO, _AUDIO = 0xE0, 0xE1
_NAME, _CODEC_ID, _PRIVATE, _BCP47 = 0x536E, 0x86, 0x63A2, 0x22B59D
_CHANNELS, _BIT_DEPTH = 0x9F, 0x6264
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
_STEREO, _BESIDE, _ABOVE = 0x53B8, (1, 8, 9, 11), (2, 3, 6, 7)
"""StereoMode, and its values for views that share the width or the height of a picture."""

_CRC, _VOID = 0xBF, 0xEC
_TYPE = 0x83
_TYPES = (0x01, 0x02, 0x11, 0x21)
"""Types of tracks that FFmpeg makes streams of: pictures, sound, subtitles, metadata."""

_LONGEST_TAG = 100

_LARGEST_HEADER = 64 << 20
_MOST_ELEMENTS = 100_000

_MARK = "v2a header of track "


@dataclass(frozen=True)
class TrackHeader:
    """Facts to write into the header of a track; empty ones stay as the muxer wrote them."""

    name: str = ""
    """The track's real name."""
    codec_id: str = ""
    private: bytes = b""
    """Configuration of the decoder (CodecPrivate), with `codec_id`."""
    channels: int = 0
    display: tuple[int, int, int] = (0, 0, 0)
    """Width and height at which a picture is shown, and their unit: 0 for pixels, 3 for their ratio alone."""
    language: str = ""
    """Language tag (BCP 47), such as pt-BR."""

    def placeholder(self, index: int) -> str:
        """Name to mux a track with, which keeps enough place free."""
        room = len(self.private) + len(self.codec_id) + 2 * len(self.language) + 96
        mark = f"{_MARK}{index} "
        return mark + "." * max(0, room + len(self.name.encode(errors="replace")) - len(mark))


class HeaderDamaged(ValueError):
    """The header is not one that FFmpeg's muxer writes."""


def read_languages(file: BinaryIO) -> dict[int, str]:
    """Language tags (BCP 47) of the tracks of an untrusted file, by the index that FFmpeg gives the track."""
    found: dict[int, str] = {}
    for index, entry in enumerate(read_tracks(file)):
        if tag := entry.get(_BCP47, b"").rstrip(b"\0")[:_LONGEST_TAG].decode("ascii", "ignore"):
            found[index] = tag
    return found


def read_tracks(file: BinaryIO) -> list[dict[int, bytes]]:
    """Elements of each track that FFmpeg finds in an untrusted file; none of what is damaged."""
    try:
        _, start, stop = find(file, _TRACKS, behind_packets=True)
        file.seek(start)
        content = file.read(min(stop - start, _LARGEST_HEADER))
        entries = [dict(elements(data)) for name, data in elements(content) if name == _ENTRY]
    except HeaderDamaged:
        return []
    return [entry for entry in entries if int.from_bytes(entry.get(_TYPE, b""), "big") in _TYPES]


def display(width: int, height: int, aspect: Fraction) -> tuple[int, int, int]:
    """Display of a picture whose pixels have an aspect, exactly."""
    shown = width * aspect
    if shown.denominator == 1:
        return shown.numerator, height, 0
    ratio = shown / height
    return ratio.numerator, ratio.denominator, 3


def write_headers(file: BinaryIO, headers: dict[int, TrackHeader]) -> None:
    """Write headers into a finished Matroska file, open for reading and writing, by the index of their placeholder.

    The file keeps its size. Raises HeaderDamaged if it has no header of tracks with these placeholders.
    """
    _, start, stop = find(file, _TRACKS)
    file.seek(start)
    content = file.read(stop - start)
    has_crc = content[:1] == bytes([_CRC])
    entries: list[tuple[int, bytes]] = []
    left = dict(headers)
    for name, data in elements(content):
        if name in (_CRC, _VOID):
            continue
        parts = list(elements(data))
        mark = next((text.decode(errors="replace") for part, text in parts if part == _NAME), "")
        index = mark.removeprefix(_MARK).split(" ")[0]
        if name == _ENTRY and mark.startswith(_MARK) and index.isdecimal() and int(index) in left:
            data = _rewritten(parts, left.pop(int(index)))
        entries.append((name, data))
    if left:
        raise HeaderDamaged(f"no tracks {sorted(left)} in the header")
    content = _filled(entries, stop - start - (6 if has_crc else 0))
    if has_crc:
        content = element(_CRC, zlib.crc32(content).to_bytes(4, "little")) + content
    file.seek(start)
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


def _rewritten(parts: list[tuple[int, bytes]], header: TrackHeader) -> bytes:
    """The content of a track's entry with other facts."""
    changed: dict[int, bytes] = {_NAME: header.name.encode(errors="replace")}
    if header.codec_id:
        changed |= {_CODEC_ID: header.codec_id.encode(), _PRIVATE: header.private}
    if header.language:
        changed[_BCP47] = header.language.encode()
    kept = [(name, data) for name, data in parts if name not in changed]
    for k, (name, data) in enumerate(kept):
        if name == _VIDEO and header.display[0]:
            names = _DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT
            display_of_one = _of_one_eye(header.display, dict(elements(data)).get(_STEREO, b""))
            shown = {name: _number(value) for name, value in zip(names, display_of_one, strict=True)}
            kept[k] = name, _with(data, shown)
        elif name == _AUDIO and header.channels:
            kept[k] = name, _with(data, {_CHANNELS: _number(header.channels)}, without=(_BIT_DEPTH,))
    kept += [(name, data) for name, data in changed.items() if data]
    return b"".join(element(name, data) for name, data in kept)


def _of_one_eye(shown: tuple[int, int, int], mode: bytes) -> tuple[int, int, int]:
    """The display of one of two views that share a picture, which is what Matroska states for them."""
    width, height, unit = shown
    number = int.from_bytes(mode, "big")
    if number in _BESIDE:
        return (width // 2, height, unit) if width % 2 == 0 else (width, 2 * height, 3)
    if number in _ABOVE:
        return (width, height // 2, unit) if height % 2 == 0 else (2 * width, height, 3)
    return shown


def _with(data: bytes, more: dict[int, bytes], without: tuple[int, ...] = ()) -> bytes:
    kept = [pair for pair in elements(data) if pair[0] not in more and pair[0] not in without]
    return b"".join(element(name, content) for name, content in [*kept, *more.items()])


def _filled(entries: list[tuple[int, bytes]], size: int) -> bytes:
    """The entries, and a void element that fills `size` bytes. Raises HeaderDamaged if they take more."""
    content = b"".join(element(name, data) for name, data in entries)
    rest = size - len(content)
    if rest == 1:  # no element is as short: the size of one takes a byte more
        first, *others = entries
        content = element(*first, wider=1) + b"".join(element(*other) for other in others)
        rest = 0
    if rest < 0:
        raise HeaderDamaged("the header has no place for the facts of a track")
    return content + (void(rest) if rest else b"")


def void(size: int) -> bytes:
    """An element of at least two bytes that means nothing."""
    width = 1 if size - 2 < 0x7F else 8
    return bytes([_VOID]) + _size(size - 1 - width, width) + bytes(size - 1 - width)


def element(name: int, data: bytes, wider: int = 0) -> bytes:
    """An element of EBML. wider: bytes that its size takes beyond the fewest."""
    width = next(w for w in range(1, 9) if len(data) < (1 << 7 * w) - 1) + wider
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + _size(len(data), width) + data


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(identifier, content) of the elements in `data`. Raises HeaderDamaged."""
    at = 0
    while at < len(data):
        name, at = _read(data, at, keep_marker=True)
        size, at = _read(data, at, keep_marker=False)
        if at + size > len(data):
            raise HeaderDamaged("an element goes on behind its end")
        yield name, data[at : at + size]
        at += size


def _read(data: bytes, at: int, keep_marker: bool) -> tuple[int, int]:
    if at >= len(data) or data[at] == 0:
        raise HeaderDamaged("no element")
    width = 9 - data[at].bit_length()
    number = int.from_bytes(data[at : at + width], "big")
    return (number if keep_marker else number & ((1 << 7 * width) - 1)), at + width


def _size(value: int, width: int) -> bytes:
    return (value | 1 << 7 * width).to_bytes(width, "big")


def _number(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def find(file: BinaryIO, wanted: int, behind_packets: bool = False) -> tuple[int, int, int]:
    """Start of an element of the segment, and start and stop of its content. Raises HeaderDamaged.

    behind_packets: look for it in the whole file, not only before the packets.
    """
    end = file.seek(0, os.SEEK_END)
    at = 0
    for _ in range(_MOST_ELEMENTS):
        if at >= (end if behind_packets else min(end, _LARGEST_HEADER)):
            break
        file.seek(at)
        head = file.read(16)
        name, used = _read(head, 0, keep_marker=True)
        size, used = _read(head, used, keep_marker=False)
        if name == _SEGMENT:
            at += used
        elif name == wanted:
            return at, at + used, at + used + size
        elif name == _CLUSTER and not behind_packets:
            break
        else:
            at += used + size
    raise HeaderDamaged(f"no element {wanted:x}")
