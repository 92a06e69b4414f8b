"""Description of what a film presents: pictures, sounds, subtitles, their times, and what the container says of them.

Two files with the same description look and sound the same. It is made of a finished file, by one pass over its packets
without decoding them, but for one picture per video track. Its size does not grow with the film.

Containers round times to clocks of their own (1 ms in Matroska). Times that are multiples of a longer step, such as
1/25 s or an AAC frame, are therefore kept as the hash of the multiples: a reader rounds the times it finds to the same
steps, and none may be further from its step than a container rounds. Other times are hashed in milliseconds.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np

from pipelines.media import boxes, container
from pipelines.mux import access_units, stream_facts
from pipelines.mux.headers import mxf

TRACK_KINDS = ("video", "sound", "subtitles", "cover", "attachment", "data")
"""Kinds of tracks, in the order of a description."""

MOST_TRACKS = 64
"""Tracks that are described one by one; more are only counted."""

MOST_CHAPTERS = 300

SHORTEST_STEP = Fraction(1, 200)
"""Shortest step in seconds that rounded times still tell apart."""

_ROUNDED_S = 0.0012
"""Seconds by which rounding in Matroska moves a time against the first one of its track, and a little more."""

_CLOCK = re.compile(r"[1-9]\d{0,11}/[1-9]\d{0,11}|[1-9]\d{0,2}")
_MS = "ms"


def describe(
    file: BinaryIO, clocks: Iterable[str] = (), tick: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Description of the film in an open file, as JSON values. Raises DecodeFailed.

    clocks: steps of time, as in another description, that this one shall be compared to. tick: called as it advances.
    """
    file.seek(0)
    with container.opened(file) as film:
        describer = Describer(film, clocks)
        for packet in describer.packets():
            describer.update(packet)
            tick()
        described = describer.description()
    return described | describer.headers(file)


def clocks_of(description: Any) -> set[str]:
    """Steps of time that a description uses; empty for what is no description."""
    found: set[str] = set()
    if isinstance(description, Mapping):
        for tracks in description.values():
            for track in tracks if isinstance(tracks, list) else ():
                times = track.get("times") if isinstance(track, Mapping) else None
                found |= {str(name) for name in times} if isinstance(times, Mapping) else set()
                shown = track.get("shownTimes", "") if isinstance(track, Mapping) else ""
                found |= {pair.partition("=")[0] for pair in str(shown).split()}
    return {name for name in list(found)[: 4 * MOST_TRACKS] if _CLOCK.fullmatch(name)}


class NotDescribed(ValueError):
    """Values that are no description of a film."""


def check(values: Any) -> None:
    """Raises NotDescribed unless `values` has the types of a description."""
    if not isinstance(values, Mapping) or not isinstance(values.get("start"), str):
        raise NotDescribed("not a description of a film")
    for name, value in values.items():
        if name in TRACK_KINDS:
            good = isinstance(value, list) and len(value) <= MOST_TRACKS and all(map(_is_track, value))
        elif name == "tags":
            good = _is_texts(value)
        elif name in ("odd", "chapters"):
            good = isinstance(value, list) and all(isinstance(text, str) for text in value)
        else:
            good = isinstance(value, str)
        if not good:
            raise NotDescribed(f"a description of a film with a damaged {name[:30]!r}")
    if "tags" not in values:
        raise NotDescribed("a description of a film without tags")


def _is_texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for text in (*value, *value.values()))


def _is_track(value: Any) -> bool:
    nested = ("tags", "times")
    return (
        isinstance(value, Mapping)
        and all(_is_texts(value[name]) for name in nested if name in value)
        and _is_texts({key: text for key, text in value.items() if key not in nested})
    )


class Describer:
    """Running description of an open film, packet by packet."""

    def __init__(self, film: Any, clocks: Iterable[str] = ()) -> None:
        self._film = film
        self._clocks = sorted(clocks)[: 4 * MOST_TRACKS]
        self._tracks = [_Track(stream) for stream in list(film.streams)[: 4 * MOST_TRACKS]]
        self._by_index = {track.index: track for track in self._tracks}
        self._titles: list[str] = []
        self._n_streams, self._format = len(film.streams), str(film.format.name)

    @property
    def streams(self) -> list[Any]:
        """Streams whose packets belong to the description."""
        return [
            track.stream for track in self._tracks if track.kind in ("video", "sound", "subtitles", "cover")
        ]

    def packets(self) -> Iterator[Any]:
        """Packets of the streams, with those that repeat a picture."""
        streams = self.streams
        return container.packets(self._film, streams, with_empty=True) if streams else iter(())

    def update(self, packet: Any) -> None:
        """Take a packet of one of the streams."""
        if (track := self._by_index.get(packet.stream_index)) is not None:
            track.update(packet)

    def description(self) -> dict[str, Any]:
        """Facts that the packets and FFmpeg tell; `headers` has the rest."""
        origin = self._origin()
        described: dict[str, Any] = {"by": ".".join(map(str, av.library_versions["libavformat"]))}
        described["start"] = f"{origin:.6f}"
        for kind in TRACK_KINDS:
            tracks = [track for track in self._tracks if track.kind == kind]
            if tracks:
                described[kind] = [t.description(origin, self._clocks) for t in tracks[:MOST_TRACKS]]
        if self._n_streams > len(self._tracks):
            described["tracks"] = str(self._n_streams)
        self._titles = stream_facts.chapter_titles(self._film)
        described["tags"] = stream_facts.tags(mxf.tags_of(self._film), titled=True)
        if chapters := stream_facts.chapters(self._film, origin):
            described["chapters"] = chapters[:MOST_CHAPTERS]
            if len(chapters) > MOST_CHAPTERS:
                described["moreChapters"] = hashlib.sha256("\n".join(chapters).encode()).hexdigest()
        return described

    def headers(self, file: BinaryIO) -> dict[str, Any]:
        """Facts that only the headers tell. Call it when the packets are read: it moves the file's position."""
        facts = boxes.read_headers(file, self._format)
        described: dict[str, Any] = {"format": "qt" if facts.brand == "qt" else self._format.split(",")[0]}
        for kind in TRACK_KINDS:
            tracks = [track for track in self._tracks if track.kind == kind][:MOST_TRACKS]
            defaults = any("default" in track.described.get("flags", "") for track in tracks)
            if tracks and kind in ("video", "sound") and "mov" in self._format and not defaults:
                # A player of mp4 shows none of them.
                facts.tracks.setdefault(tracks[0].id, {})["disabled"] = "yes"
            if tracks:
                described[kind] = [t.described | self._headers_of(t, facts) for t in tracks]
        if facts.read and self._headers_differ(facts):
            facts.odd.append("tracks that readers find in different places")
        titles = [title[:255] for title in self._titles]
        if facts.chapters is not None and titles and facts.chapters != titles[:255]:
            facts.odd.append("two different lists of chapters")
        return described | ({"odd": facts.odd} if facts.odd else {})

    def _headers_of(self, track: _Track, facts: boxes.HeaderFacts) -> dict[str, str]:
        found = facts.tracks.get(self._identifier(track), {})
        return {k: v for k, v in found.items() if k != "announced" or track.kind in ("video", "cover")}

    def _headers_differ(self, facts: boxes.HeaderFacts) -> bool:
        """True if FFmpeg has other tracks than the reader of the headers: facts would be missed, or be another's."""
        theirs = [self._identifier(t) for t in self._tracks if t.kind not in ("cover", "attachment")]
        return self._n_streams <= len(self._tracks) and sorted(theirs) != sorted(facts.tracks)

    def _identifier(self, track: _Track) -> int:
        return track.index if "matroska" in self._format else track.id

    def _origin(self) -> float:
        """Time of the first picture, or else of the first sound, in seconds."""
        for kind in ("video", "sound", "subtitles"):
            starts = [track.first_s for track in self._tracks if track.kind == kind and track.times]
            if starts:
                return min(starts)
        return 0.0


class _Track:
    """One stream, and the running hashes of its packets."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.index, self.id = stream, int(stream.index), int(stream.id)
        self.kind = stream_facts.kind(stream)
        self.times = array("q")
        """Presentation times in ticks, in the order of the packets."""
        self.described: dict[str, Any] = {}
        context = stream.codec_context
        self._codec = stream_facts.codec(stream)
        self._extradata = bytes(context.extradata or b"") if context is not None else b""
        self._width = access_units.length_size(self._codec, self._extradata)
        self._facts = stream_facts.facts(stream, self.kind)
        self._tick = Fraction(stream.time_base) if stream.time_base else Fraction(1, 1000)
        self._is_pcm = access_units.is_pcm(self._codec)
        self._content, self._durations = hashlib.sha256(), hashlib.sha256()
        self._bytes, self._last_end = 0, 0
        self._shown: Any = None
        """Running hash of the packets that are shown, once there are others; `_shown_times` has their times."""
        self._shown_times = array("q")
        self._unseen: list[int] = []
        self._n_unseen = 0
        self._gaps = hashlib.sha256()
        self._n_gaps = 0
        self._first = stream_facts.FirstLook(stream) if self.kind == "video" else None

    @property
    def first_s(self) -> float:
        # Packets that are decoded but not shown do not begin the film.
        shown = (
            self.times
            if not self._n_unseen
            else [t for k, t in enumerate(self.times) if k not in self._unseen]
        )
        return float(min(shown or self.times) * self._tick)

    def update(self, packet: Any) -> None:
        payload = bytes(packet)
        if self.kind == "subtitles":
            payload = stream_facts.cue_text(self._codec, payload)
            if not payload:
                return  # mp4 fills the time between two subtitles
            self._durations.update(b"%d " % round((packet.duration or 0) * self._tick * 1000))
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is None:
            pts = self._last_end
        self._last_end = pts + (packet.duration or 0)
        if self._is_pcm:
            self._content.update(payload)
            self._note_gap(pts)
            self._bytes += len(payload)
            if not self.times:
                self.times.append(pts)
            return
        if packet.is_discard:
            if self._shown is None:
                self._shown, self._shown_times = self._content.copy(), self.times[:]
            self._n_unseen += 1
            if len(self._unseen) < 10_000:
                self._unseen.append(len(self.times))
        self.times.append(pts)
        whole = access_units.unit(payload, self._codec, self._width)
        running = [self._content]
        if self._shown is not None and not packet.is_discard:
            self._shown_times.append(pts)
            running.append(self._shown)
        for digest in running:
            digest.update(len(whole).to_bytes(8, "big"))
            digest.update(whole)
            for kind in stream_facts.SIDE_DATA:
                if packet.has_sidedata(kind):
                    digest.update(kind.encode() + bytes(packet.get_sidedata(kind)))
        if self._first is not None:
            self._first.offer(packet)

    def _note_gap(self, pts: int) -> None:
        """Note a block of PCM that does not begin where the last one ended."""
        if not self.times:
            return
        context = self.stream.codec_context
        frame = access_units.pcm_bytes(self._codec) * max(1, context.layout.nb_channels)
        expected = self.times[0] * self._tick + Fraction(self._bytes, frame * max(1, context.sample_rate))
        jump = float(pts * self._tick - expected)
        if abs(jump) > 0.0025:
            self._n_gaps += 1
            self._gaps.update(b"%d %d," % (self._bytes, round(jump * 100)))

    def description(self, origin: float, clocks: Collection[str]) -> dict[str, Any]:
        """JSON values; strings, because C2PA's library takes a list of small numbers for bytes."""
        described: dict[str, Any] = dict(self._facts)
        if self.kind in ("video", "sound", "subtitles", "cover"):
            described["content"] = self._content.hexdigest()
        if config := access_units.configuration(self._codec, self._extradata):
            described["config"] = config
        if self.kind in ("video", "sound", "subtitles") and self.times:
            described["packets"] = str(self._bytes if self._is_pcm else len(self.times))
            first = min(self.times)
            described["start"] = f"{float(first * self._tick) - origin:.6f}"
            described["end"] = f"{float(self._last_end * self._tick) - origin:.3f}"
            if not self._is_pcm:
                described["times"] = self._timing(self.times, first, clocks)
            if self._n_gaps:
                described["gaps"] = self._gaps.hexdigest()
            if self._shown_times and self.kind == "video":
                timing = self._timing(self._shown_times, min(self._shown_times), clocks)
                described["shown"] = self._shown.hexdigest()
                described["shownTimes"] = " ".join(f"{name}={value}" for name, value in timing.items())
            if self._n_unseen:
                described["unseen"] = " ".join(map(str, self._unseen[:20])) + f" ({self._n_unseen})"
            if self.kind == "subtitles":
                described["durations"] = self._durations.hexdigest()
        if self._first is not None:
            described |= self._first.facts()
        self.described = described
        return described

    def _timing(self, times: array[int], first: int, clocks: Collection[str]) -> dict[str, str]:
        """Digest of the times by each step of `clocks`, by their own, and in milliseconds."""
        ticks = np.asarray(times, dtype=np.int64) - first
        own = int(np.gcd.reduce(ticks)) * self._tick
        steps = {Fraction(name) for name in clocks} | ({own} if own >= SHORTEST_STEP else set())
        timing = {str(step): self._multiples(ticks, step) for step in sorted(steps) if step >= SHORTEST_STEP}
        ms = _milliseconds(np.asarray(times, dtype=np.int64), self._tick)
        timing[_MS] = _digest(ms - ms.min())
        return {name: digest for name, digest in timing.items() if digest}

    def _multiples(self, ticks: np.ndarray, step: Fraction) -> str:
        """Digest of the times as multiples of a step; empty if one lies too far from all of them."""
        ratio = self._tick / step
        exact = ticks * float(ratio)
        nearest = np.rint(exact)
        slack = (_ROUNDED_S + min(float(self._tick), 0.001) / 2) / float(step)
        if len(ticks) and float(np.abs(exact - nearest).max()) > slack:
            return ""
        return _digest(nearest.astype(np.int64))


def _milliseconds(ticks: np.ndarray, tick: Fraction) -> np.ndarray:
    """Times in milliseconds, halves rounded away from zero, as FFmpeg's muxers do."""
    exact = np.abs(ticks) * float(1000 * tick)
    return (np.sign(ticks) * np.floor(exact + 0.5)).astype(np.int64)


def _digest(numbers: np.ndarray) -> str:
    return hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest()
