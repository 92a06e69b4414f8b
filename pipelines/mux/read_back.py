"""Check of a finished copy: what it shows is compared with what its muxer was given, by packets, without decoding.

FFmpeg's muxers move times, drop packets and write headers that cannot be read, without an error. A copy that shows
something else than its source is not delivered.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
import numpy as np

from pipelines.media import container
from pipelines.media.errors import DecodeFailed
from pipelines.mux import access_units, presented
from pipelines.mux.files import Source
from pipelines.mux.packet_hashes import Digests, Hasher, is_cover
from pipelines.mux.track import MuxFailed

_REWRITTEN = ("av1", "vp9", "aac", "mpeg4", "prores")
"""Codecs whose packets muxers write in another form: without separators or headers, packed or unpacked."""

_END_S = 0.1
"""Seconds by which the end of the new sound may differ from what it must be: coders work in frames."""


Place = tuple[str, int]
"""`video` or `audio`, and a number among the tracks of that kind. Indexes of streams are none: some readers number
attachments last, or streams by their first packets."""


class Reading:
    """Hashes and times of the packets of a film's pictures and sound, as they are read or written.

    Memory grows by 8 bytes per packet.
    """

    def __init__(self, streams: Iterable[Any]) -> None:
        self._streams = {s.index: s for s in streams if s.type in ("video", "audio") and not is_cover(s)}
        self.hasher = Hasher(self._streams.values())
        self._times = {index: array("d") for index in self._streams}
        self._ends_s = dict.fromkeys(self._streams, 0.0)
        self._tick_s = {index: float(s.time_base or 0) for index, s in self._streams.items()}

    def update(self, packet: Any, stream: Any) -> None:
        """Note a packet of `stream`, whose times are its own. Hidden pictures have no part in it."""
        if stream.index not in self._streams or not packet.size:
            return
        if stream.type == "video" and packet.is_discard:
            return
        self.hasher.update(packet, stream)
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None:
            tick_s = float(packet.time_base)
            self._times[stream.index].append(time * tick_s)
            self._ends_s[stream.index] = (time + (packet.duration or 0)) * tick_s

    @property
    def indexes(self) -> set[int]:
        """Indexes of the streams that are noted: neither covers nor subtitles."""
        return set(self._streams)

    def shown(self) -> Shown:
        """Facts about every stream. Call it while the film is open."""
        start_s = self._start_s()
        facts = {
            index: TrackFacts(
                stream.type,
                container.codec_name(stream) if stream.codec_context is not None else "",
                self.hasher.digest(index),
                np.asarray(self._times[index]) - start_s,
                self._tick_s[index],
                self._ends_s[index] - start_s,
            )
            for index, stream in self._streams.items()
        }
        return Shown(start_s, facts)

    def _start_s(self) -> float:
        """Time of the first picture, or else of the first sound."""
        for kind in ("video", "audio"):
            firsts = [
                min(times)
                for index, times in self._times.items()
                if times and self._streams[index].type == kind
            ]
            if firsts:
                return min(firsts)
        return 0.0


@dataclass(frozen=True)
class TrackFacts:
    """Facts about the packets of one track."""

    kind: str
    """`video` or `audio`."""
    codec: str
    digest: str
    """SHA-256 of their content."""
    times_s: np.ndarray
    """Presentation times in the order of the file, float64 [n], with the film's first picture at zero."""
    tick_s: float
    """Step of its clock in seconds."""
    end_s: float
    """End of the last packet."""


@dataclass(frozen=True)
class Shown:
    """Facts about the pictures and the sound of a film."""

    start_s: float
    """Time of the first picture, or else of the first sound, on the film's clock."""
    facts: dict[int, TrackFacts]
    """Facts by the index of the stream."""


def places(kinds: Mapping[int, str]) -> dict[int, Place]:
    """The place of each stream by its index. kinds: `video` or `audio` by index."""
    seen: dict[str, int] = {}
    found = {}
    for index, kind in sorted(kinds.items()):
        found[index] = (kind, seen.get(kind, 0))
        seen[kind] = seen.get(kind, 0) + 1
    return found


def places_in(out: Any, written: Reading) -> tuple[dict[int, Place], tuple[Place, ...]]:
    """Places in a copy (`packets.Output`) of the streams of the source, by index, and of the new tracks."""
    copies = {copy.index: s for s, copy in out.copies.items() if s.index in written.indexes}
    kinds = {number: str(s.type) for number, s in copies.items()} | {t.index: "audio" for t in out.tracks}
    at = places(kinds)
    return {s.index: at[number] for number, s in copies.items()}, tuple(at[t.index] for t in out.tracks)


def shown_by(film: Source, streams: Mapping[int, Place], beat: Callable[[], None]) -> Shown:
    """Facts about what a film shows that follows its edit lists, for the streams that are copied."""
    try:
        with film.open() as source:
            copied = [stream for stream in source.streams if stream.index in streams]
            reading = Reading(copied)
            for packet in container.packets(source, copied, with_empty=True):
                reading.update(packet, packet.stream)
                beat()
            return reading.shown()
    except (av.FFmpegError, OSError) as error:
        raise film.error or MuxFailed(type(error).__name__, container.error_text(error)) from error


def read_copy(
    file: BinaryIO, new_tracks: Sequence[Place], tick: Callable[[], None]
) -> tuple[Digests, dict[Place, TrackFacts], dict[str, Any]]:
    """Digests, facts by place and description (`presented`) of a finished copy, in one pass. Raises MuxFailed.

    new_tracks: places of the generated sound tracks. tick: called as it advances.
    """
    file.seek(0)
    try:
        with container.opened(file) as film:
            describer = presented.Describer(film)
            reading = Reading(film.streams)
            for packet in describer.packets():
                describer.update(packet)
                reading.update(packet, packet.stream)
                tick()
            described = describer.description()
            by_index = reading.shown().facts
    except DecodeFailed as error:
        raise _differs(f"it cannot be read ({error.message})") from error
    place = places({index: fact.kind for index, fact in by_index.items()})
    facts = {place[index]: fact for index, fact in by_index.items()}
    if any(new not in facts for new in new_tracks):
        raise _differs("its new sound is not there")
    of = {
        kind: tuple(fact.digest for at, fact in facts.items() if at[0] == kind and at not in new_tracks)
        for kind in ("video", "audio")
    }
    first, *others = [facts[new].digest for new in new_tracks]
    digests = Digests(of["video"], of["audio"], first, tuple(others))
    return digests, facts, described | describer.headers(file)


def compare(wanted: Mapping[Place, TrackFacts], found: Mapping[Place, TrackFacts]) -> None:
    """Compare a copy with what it must show, both by place. Raises MuxFailed."""
    for place, want in wanted.items():
        word = "picture" if want.kind == "video" else "sound"
        if (track := found.get(place)) is None:
            raise _differs(f"it has no {word} track where one was written")
        if track.digest != want.digest and track.codec not in _REWRITTEN:
            raise _differs(f"packets of a {word} track are not those of the source")
        _compare_times(word, want, track)


def _compare_times(word: str, want: TrackFacts, found: TrackFacts) -> None:
    before, after = want.times_s, found.times_s
    cut_otherwise = want.kind == "audio" and len(before) != len(after) and want.digest == found.digest
    if access_units.is_pcm(want.codec) or cut_otherwise:  # mov cuts sound of a constant bit rate anew
        before, after = before[:1], after[:1]
    if len(before) != len(after):
        unit = "pictures" if want.kind == "video" else "packets of a sound track"
        raise _differs(f"{len(after)} {unit} instead of {len(before)}")
    off_s = np.abs(after - before)
    if len(off_s) and off_s.max() > 1.01 * max(want.tick_s, found.tick_s) + 1e-6:
        worst = int(off_s.argmax())
        raise _differs(
            f"{word} {worst + 1} of {len(off_s)} is {after[worst] - before[worst]:+.3f} s off its time"
        )


def check_sound(found: TrackFacts, digest: str, end_s: float) -> None:
    """Check that the new sound is what was coded and ends `end_s` seconds after the first picture. Raises MuxFailed."""
    if found.digest != digest:
        raise _differs("packets of the new sound are not those that were coded")
    if abs(found.end_s - end_s) > _END_S + found.tick_s:
        raise _differs(f"the new sound ends after {found.end_s:.3f} s instead of {end_s:.3f} s")


def _differs(words: str) -> MuxFailed:
    return MuxFailed("CopyDiffers", f"the copy does not show what the film shows: {words}")
