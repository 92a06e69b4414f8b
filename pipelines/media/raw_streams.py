"""Streams of pictures without a container: their rate, and times of their packets.

H.264 and HEVC may state a rate in their headers, MPEG-4 does. Pictures are counted where FFmpeg has no times for them,
or only those of the rate in the headers while the user states another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

RAW_STREAMS = ("h264", "hevc", "m4v", "mjpeg", "obu")
"""FFmpeg's demuxers of streams whose rate the user may state."""

ASSUMED = Fraction(25)
"""Rate that FFmpeg assumes where none is stated."""

NOTE = "no rate in the file, 25 fps assumed; --fps sets it"

_UNTIMED = ("h264", "hevc")
"""Demuxers that give no times."""

_OPTION = "framerate"


def demuxer_options(file: Any) -> dict[str, str]:
    """Options for opening a file with the rate that the user states, which the attribute `rate` has; none without."""
    rate = getattr(file, "rate", "")
    return {_OPTION: rate} if rate else {}


def counted_rate(container: Any, video: Any) -> Fraction | None:
    """Pictures per second of a stream whose pictures are counted; None for every other film."""
    name, given = container.format.name, container.options.get(_OPTION)
    if name in _UNTIMED:
        return Fraction(given) if given else _stated(video) or ASSUMED
    return Fraction(given) if given and name == "m4v" else None


def assumes_rate(container: Any, video: Any) -> bool:
    """True if neither the stream nor the user states a rate."""
    name = container.format.name
    return name in RAW_STREAMS and not container.options.get(_OPTION) and _stated(video) is None


def _stated(video: Any) -> Fraction | None:
    rate = video.codec_context.framerate
    return Fraction(rate) if rate and 0.001 < rate < 1000 else None


def counted(packets: Iterable[Any], container: Any, video: Any) -> Iterator[Any]:
    """The packets with the times of their number, where pictures are counted. Fields of a picture share its time."""
    rate = counted_rate(container, video)
    if rate is None:
        yield from packets
        return
    reference, pictures = _stated(video) or video.average_rate or ASSUMED, Fraction(0)
    for packet in packets:
        # A packet lasts a picture, or a field. FFmpeg's times are in pictures of the rate that it knows.
        lasts = Fraction(packet.duration or 0) * packet.time_base * reference
        lasts = Fraction(round(2 * lasts), 2) if 0 < lasts < 4 else Fraction(1)
        begin, end = (round(at / rate / packet.time_base) for at in (pictures, pictures + lasts))
        packet.pts, packet.dts, packet.duration = None, begin, end - begin
        pictures += lasts
        yield packet
