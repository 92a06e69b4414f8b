"""Films with streams that players pass over: telemetry, teletext, time code, data."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from tests.support import media_files

DATA = ("klv", "timed_id3", "bin_data", "scte_35")
"""FFmpeg's names of codecs of data; other names are those of pictures, sound and subtitles."""

_TICKS = 1000


def write_film(
    path: Path, codecs: Sequence[str], metadata: dict[str, str] | None = None, **film: Any
) -> Path:
    """Write a film of one second with further streams, one packet of each per picture; its path.

    `metadata` is that of the picture's stream; `film` goes to `media_files.write_video`.
    """
    plain = media_files.write_video(path.with_name(f"plain-{path.stem}.mp4"), duration_s=1.0, **film)
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        copies: dict[Any, Any] = {s: out.add_stream_from_template(s, opaque=True) for s in source.streams}
        picture = copies[source.streams.video[0]]
        picture.codec_context.framerate = source.streams.video[0].average_rate
        picture.metadata.update(metadata or {})
        more: list[Any] = [
            out.add_data_stream(name) if name in DATA else out.add_mux_stream(name) for name in codecs
        ]
        for stream in more:
            stream.time_base = Fraction(1, _TICKS)
        out.start_encoding()
        for packet in source.demux():
            if packet.dts is None:
                continue
            time_s, is_picture = float(packet.dts * packet.time_base), packet.stream.type == "video"
            packet.stream = copies[packet.stream]
            out.mux(packet)
            for stream in more if is_picture else ():
                other: Any = av.Packet(f"at {time_s:.2f}".encode())
                other.stream, other.time_base, other.duration = stream, Fraction(1, _TICKS), 40
                other.pts = other.dts = round(time_s * _TICKS)
                out.mux(other)
    plain.unlink()
    return path


def payloads(path: Path, kind: str) -> list[list[bytes]]:
    """Packets of each stream of a type, in the order of the file."""
    with av.open(str(path)) as film:
        streams = [stream for stream in film.streams if stream.type == kind]
        found: dict[int, list[bytes]] = {stream.index: [] for stream in streams}
        for packet in film.demux(streams) if streams else ():
            if packet.size:
                found[packet.stream_index].append(bytes(packet))
        return list(found.values())
