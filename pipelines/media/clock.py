"""One clock for films whose own starts again or jumps: joined transport and program streams, recorded live streams.

Players go on after such a place, so that what follows plays after what was before. Each packet belongs to a part of the
film with one clock; the parts are put one after another by the pictures, and sound follows the pictures of its part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

JOINED = "joined"
"""Stands for the demuxer of a film of several files with headers of their own (`media.joined`)."""

DISCONTINUOUS = ("mpegts", "mpeg", "dhav", JOINED)
"""FFmpeg's demuxers of formats that may be joined without a change, and of recorders that pause."""

LEAP_S = 10.0
"""Seconds from which on time without packets is a leap of the clock; FFmpeg and its player take the same."""

LEAPS_FORTH_S = {**dict.fromkeys(DISCONTINUOUS, LEAP_S), "flv": 86_400.0, "live_flv": 86_400.0}
"""Seconds from which on a step forward is a leap, by FFmpeg's demuxer. The clock of a live stream (FLV) starts again
with its sender, and some count milliseconds in 31 bits, but nothing is sent while the picture stands."""

BACK_S, UNSTAMPED_BACK_S = 0.1, 1.0
"""Seconds by which decoding times may go back, and presentation times where those are missing."""

_NOTE = "its clock leaps"

_MOST_HELD = 2000
"""Packets that wait for the pictures of their part, at most."""


def note(leaps: Sequence[float], start_s: float) -> str:
    """Words about a film whose clock leaps, for its row; empty for another. start_s: time of its first picture."""
    if not leaps:
        return ""
    places = ", ".join(f"{leap - start_s:.1f}" for leap in leaps[:5])
    return f"{_NOTE} at {places} s{' ...' if len(leaps) > 5 else ''}"


def has_leaps(note_: str | None) -> bool:
    """True if the note in a film's row says that its clock leaps: then no time can be looked up in it."""
    return _NOTE in (note_ or "")


@dataclass
class _Part:
    """A part of the film with one clock."""

    shift: float
    """Seconds to add to its times."""
    first: float
    last: float
    """Earliest and latest of its times so far, in seconds."""

    def reaches(self, time: float) -> bool:
        return self.first - LEAP_S <= time <= self.last + LEAP_S


@dataclass
class _Stream:
    part: _Part | None = None
    last: float | None = None
    """Time of the last packet on the clock of its part."""
    end: float | None = None
    """End of what was shown so far, on the film's clock."""
    held: list[Any] = field(default_factory=list)


class ContinuousClock:
    """Running correction of the times of packets, in the order of the file.

    pictures: index of the stream that puts the parts one after another. step_s: seconds per picture. forth_s: a longer
    time without packets is a leap.
    """

    def __init__(
        self, pictures: int, step_s: float, leaps: list[float] | None = None, forth_s: float = LEAP_S
    ) -> None:
        self._pictures, self._step_s, self._forth_s = pictures, step_s, forth_s
        self._streams: dict[int, _Stream] = {}
        self._newest: _Part | None = None
        self.leaps: list[float] = [] if leaps is None else leaps
        """Receives the times on the film's clock at which the clock of the file leaps."""

    def corrected(self, packets: Iterable[Any]) -> Iterator[Any]:
        """The packets with times on the film's clock. Those that wait for the pictures of their part come later."""
        for packet in packets:
            yield from self._take(packet)
        for index in list(self._streams):
            yield from self._release(index, wait=False)

    def _take(self, packet: Any) -> Iterator[Any]:
        time = _time(packet)
        stream = self._streams.setdefault(packet.stream_index, _Stream())
        if time is None:
            yield packet
        elif stream.held:
            stream.held.append(packet)
            if len(stream.held) > _MOST_HELD:
                yield from self._release(packet.stream_index, wait=False)
        elif self._belongs(stream, packet, time):
            yield self._placed(stream, packet, time)
        elif packet.stream_index != self._pictures:
            stream.held.append(packet)
        else:
            self._begin_part(stream, packet, time)
            yield self._placed(stream, packet, time)
            for index in list(self._streams):
                yield from self._release(index)

    def _belongs(self, stream: _Stream, packet: Any, time: float) -> bool:
        """True if the packet goes on in the part of its stream, or in the newest one, which it then enters."""
        if self._newest is None:
            self._newest = _Part(0.0, time, time)
        if stream.part is None:
            # The first packet of a stream may still be of the part before, but then it is near the newest one or waits.
            stream.part = self._newest
            if packet.stream_index == self._pictures or self._newest.reaches(time):
                return True
            stream.last = stream.part.last
        assert stream.last is not None
        back = BACK_S if packet.dts is not None else UNSTAMPED_BACK_S
        forth = self._forth_s + 3 * self._step_s
        passed = time - stream.last
        if -back <= passed <= forth or (passed > 0 and time <= stream.part.last + forth):
            return True
        if stream.part is not self._newest and self._newest.reaches(time):
            stream.part = self._newest
            return True
        return False

    def _begin_part(self, stream: _Stream, packet: Any, time: float) -> None:
        shown = time if packet.pts is None else float(packet.pts * packet.time_base)
        assert stream.end is not None
        self._newest = stream.part = _Part(stream.end - shown, time, time)
        self.leaps.append(stream.end)

    def _placed(self, stream: _Stream, packet: Any, time: float) -> Any:
        assert stream.part is not None
        part = stream.part
        stream.last = time
        part.first, part.last = min(part.first, time), max(part.last, time)
        ticks = round(part.shift / packet.time_base)
        if ticks:
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        stamp = packet.pts if packet.pts is not None else packet.dts
        lasts = float(packet.duration * packet.time_base) if packet.duration else self._step_s
        end = float(stamp * packet.time_base) + lasts
        stream.end = end if stream.end is None else max(stream.end, end)
        return packet

    def _release(self, index: int, wait: bool = True) -> Iterator[Any]:
        """The packets of a stream that waited, if they belong to the newest part by now; else all of them, each after
        the one before, unless they go on waiting."""
        stream = self._streams[index]
        held, stream.held = stream.held, []
        for number, packet in enumerate(held):
            time = _time(packet)
            assert time is not None
            if not self._belongs(stream, packet, time):
                if wait:
                    stream.held = held[number:]
                    return
                # Without an earlier packet to follow, the clock of the pictures is as good as any.
                assert stream.part is not None
                shift = stream.part.shift if stream.end is None else stream.end - time
                stream.part = _Part(shift, time, time)
            yield self._placed(stream, packet, time)


def _time(packet: Any) -> float | None:
    stamp = packet.dts if packet.dts is not None else packet.pts
    return None if stamp is None else float(stamp * packet.time_base)
