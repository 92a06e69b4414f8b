"""Edit lists put into mp4, mov and 3gp files, and what a player then shows."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import av

from tests.support import media_files


def boxes(data: bytes, *path: bytes, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int]]:
    """Places (start, stop) of the boxes at a path of types, with their headers."""
    stop = len(data) if stop is None else stop
    while start + 8 <= stop:
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        if kind == path[0] and path[1:]:
            yield from boxes(data, *path[1:], start=start + 8, stop=start + size)
        elif kind == path[0]:
            yield start, start + size
        start += size


def _number(data: bytes, *path: bytes, at: int, within: tuple[int, int]) -> int:
    start, _ = next(boxes(data, *path, start=within[0] + 8, stop=within[1]))
    return int(struct.unpack_from(">I", data, start + 8 + at)[0])


def set_edits(path: Path, edits: Sequence[tuple[float, float | None]], track: int = 0) -> Path:
    """Gives a track of a file with its index at the end, as FFmpeg writes it, a new edit list.

    edits: (length, start in the track's media) in seconds; None for a part with nothing.
    """
    data = path.read_bytes()
    movie = next(boxes(data, b"moov"))
    assert movie[1] == len(data)
    at = list(boxes(data, b"moov", b"trak"))[track]
    movie_scale = _number(data, b"mvhd", at=12, within=movie)
    media_scale = _number(data, b"mdia", b"mdhd", at=12, within=at)
    entries = b"".join(
        struct.pack(">IiI", round(length * movie_scale), -1 if m is None else round(m * media_scale), 1 << 16)
        for length, m in edits
    )
    body = struct.pack(">II", 0, len(edits)) + entries
    lists = struct.pack(">I4sI4s", 16 + len(body), b"edts", 8 + len(body), b"elst") + body
    header_end = next(boxes(data, b"tkhd", start=at[0] + 8, stop=at[1]))[1]
    old = next(boxes(data, b"edts", start=at[0] + 8, stop=at[1]), (header_end, header_end))
    inner = data[at[0] + 8 : old[0]] + lists + data[old[1] : at[1]]
    inner = struct.pack(">I4s", 8 + len(inner), b"trak") + inner
    whole = data[movie[0] + 8 : at[0]] + inner + data[at[1] : movie[1]]
    path.write_bytes(data[: movie[0]] + struct.pack(">I4s", 8 + len(whole), b"moov") + whole)
    return path


def edits_of(path: Path, track: int = 0) -> list[tuple[float, float | None]]:
    """The edit list of a track in seconds, as `set_edits` takes it."""
    data = path.read_bytes()
    movie = next(boxes(data, b"moov"))
    at = list(boxes(data, b"moov", b"trak"))[track]
    movie_scale = _number(data, b"mvhd", at=12, within=movie)
    media_scale = _number(data, b"mdia", b"mdhd", at=12, within=at)
    start, _ = next(boxes(data, b"edts", b"elst", start=at[0] + 8, stop=at[1]))
    number = struct.unpack_from(">I", data, start + 12)[0]
    entries = [struct.unpack_from(">IiI", data, start + 16 + 12 * k) for k in range(number)]
    return [(d / movie_scale, None if m < 0 else m / media_scale) for d, m, _ in entries]


def shown(path: Path) -> list[tuple[float, int]]:
    """(time after the first picture in seconds, number) of every picture that a player shows, in its order."""
    pictures: list[tuple[float, int]] = []
    with av.open(str(path)) as film:
        video = film.streams.video[0]
        for packet in film.demux(video):
            with contextlib.suppress(av.InvalidDataError):
                for frame in packet.decode():
                    time_s = float(frame.pts * video.time_base)
                    pictures.append((time_s, media_files.number_of(frame.to_ndarray(format="rgb24"))))
    return [(round(time_s - pictures[0][0], 3), number) for time_s, number in pictures]
