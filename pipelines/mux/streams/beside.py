"""Streams that a copy cannot hold, in a file beside it: the source's own packets, byte for byte.

FFmpeg passes on neither teletext, TTML and unknown codecs nor, to other containers, telemetry. So the file is made of
the source's bytes: the packets of its transport stream, or the tracks of its mp4.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import BinaryIO

from pipelines.mux.files import write_all
from pipelines.mux.streams import mp4_tracks

SUFFIXES = {"mpegts": ".left_out.ts", "mov": ".left_out.mp4"}
"""Suffix of the file by FFmpeg's name of the source's demuxer; other containers have none."""

_SYNC, _PACKET = 0x47, 188
_SIZES = (188, 192, 204)
"""Bytes of a packet: plain, with a time before it (Blu-ray, AVCHD), with a check after it."""

_TABLES = 0x20
"""Packets below this number hold tables about all streams."""

_BLOCK = 1 << 20


def suffix_of(format_name: str) -> str:
    """Suffix of the file beside a copy, by FFmpeg's demuxer of the source; empty if there is none."""
    return next((SUFFIXES[name] for name in format_name.split(",") if name in SUFFIXES), "")


def write_streams(
    source: BinaryIO, output: BinaryIO, format_name: str, ids: Collection[int], tick: Callable[[], None]
) -> int:
    """Write the streams with these identifiers (FFmpeg's `stream.id`) of an untrusted film; the bytes written.

    0 if they cannot be taken out. Raises OSError for `output`, and what `source` raises.
    """
    kind = suffix_of(format_name)
    if not kind or not ids:
        return 0
    if kind == SUFFIXES["mov"]:
        return mp4_tracks.write_tracks(source, output, ids, tick)
    return _write_packets(source, output, set(ids), tick)


def _write_packets(source: BinaryIO, output: BinaryIO, ids: set[int], tick: Callable[[], None]) -> int:
    """Packets of a transport stream that hold tables or one of the streams."""
    source.seek(0)
    data = source.read(_BLOCK)
    found = _grid(data)
    if found is None:
        return 0
    size, at = found
    before = {192: 4}.get(size, 0)
    maps: set[int] = set()
    written = n_wanted = 0
    while True:
        kept = bytearray()
        while at + _PACKET <= len(data):
            if data[at] != _SYNC:
                at += 1
                continue
            number = (data[at + 1] & 0x1F) << 8 | data[at + 2]
            if number == 0:
                maps |= _maps(data[at : at + _PACKET])
            if number < _TABLES or number in ids or number in maps:
                kept += data[max(0, at - before) : at - before + size]
                n_wanted += number in ids
            at += size
        written += write_all(output, kept)
        tick()
        more = source.read(_BLOCK)
        if not more:
            return written if n_wanted else 0
        start = max(0, min(at, len(data)) - before)
        data, at = data[start:] + more, at - start


def _grid(data: bytes) -> tuple[int, int] | None:
    """Bytes of a packet, and where the first begins; None for what is no transport stream."""
    for start in range(min(len(data), 4 * _PACKET)):
        for size in _SIZES:
            places = range(start, min(start + 5 * size, len(data)), size)
            if len(places) >= 2 and all(data[at] == _SYNC for at in places):
                return size, start
    return None


def _maps(packet: bytes) -> set[int]:
    """Numbers of the packets with a table of a programme's streams, by a packet of the table of programmes."""
    at = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
    if not packet[1] & 0x40 or at + 9 > len(packet):
        return set()
    at += 1 + packet[at]
    if at + 8 > len(packet):
        return set()
    end = min(at + 3 + ((packet[at + 1] & 0x0F) << 8 | packet[at + 2]) - 4, len(packet))
    entries = (packet[k : k + 4] for k in range(at + 8, end - 3, 4))
    return {(entry[2] & 0x1F) << 8 | entry[3] for entry in entries if entry[:2] != b"\0\0"}
