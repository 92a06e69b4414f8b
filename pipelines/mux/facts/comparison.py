"""Facts of a film that its copy does not have, in words: both are read by the same reader, and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from av.stream import Disposition

from pipelines.media import container
from pipelines.mux import stream_facts
from pipelines.mux.facts import catalogue, header_facts
from pipelines.mux.facts.catalogue import View
from pipelines.mux.streams import left_out

_MOST_PACKETS = 2000
"""Packets that are read to see the first picture of every track."""

_NOT_COMPARED = Disposition.default | Disposition.attached_pic | Disposition.timed_thumbnails
"""Flags that the copy changes, and those of covers, which become files."""

_SAME_FLAGS = {
    Disposition.captions: Disposition.hearing_impaired,
    Disposition.descriptions: Disposition.visual_impaired,
}
"""Flags that mp4 and transport streams have two words for."""

_LONGEST_VALUE = 60

_MOST_TOLD = 200
"""Facts that a report names one by one; a film may have any number of tags."""


@dataclass(frozen=True)
class TrackFacts:
    """Facts of one track."""

    title: str
    """The track in words (`left_out.title`)."""
    values: Mapping[str, str]
    """Values by name."""
    name: str
    flags: int
    tags: Mapping[str, str]
    has_picture: bool
    """True if a picture was decoded."""


@dataclass(frozen=True)
class FilmFacts:
    """Facts of a film."""

    tracks: Mapping[int, TrackFacts]
    """By the index of the stream; attachments, data and covers are left out."""
    tags: Mapping[str, str]
    values: Mapping[str, str] = field(default_factory=dict)


def read(film: Any, file: BinaryIO, tick: Callable[[], None] = lambda: None) -> FilmFacts:
    """Facts of an open film. Moves the position of `file`, which holds it. Raises FFmpeg's errors."""
    streams = [s for s in film.streams if _is_compared(s)]
    pictures = [s for s in streams if s.type == "video"]
    looks = {stream.index: stream_facts.FirstLook(stream) for stream in pictures}
    additions: dict[int, set[int]] = {stream.index: set() for stream in pictures}
    for number, packet in enumerate(container.packets(film, pictures) if pictures else ()):
        looks[packet.stream_index].offer(packet)
        if packet.has_sidedata("matroska_block_additional"):
            kind = bytes(packet.get_sidedata("matroska_block_additional"))[:8]
            additions[packet.stream_index].add(int.from_bytes(kind, "big"))
        tick()
        if number >= _MOST_PACKETS or all(look.is_done for look in looks.values()):
            break
    is_matroska = "matroska" in film.format.name
    headers = header_facts.read_headers(file, film.format.name)
    tracks = {}
    for stream in streams:
        frame = looks[stream.index].frame() if stream.index in looks else None
        view = View(stream, frame, frozenset(additions.get(stream.index, ())))
        own = headers.tracks.get(stream.index if is_matroska else stream.id, {})
        tracks[stream.index] = TrackFacts(
            left_out.title(stream),
            catalogue.values(view, stream.type == "video") | own,
            stream_facts.name_of(stream),
            int(stream.disposition & ~_NOT_COMPARED),
            catalogue.tags(stream.metadata),
            frame is not None,
        )
    return FilmFacts(tracks, catalogue.tags(film.metadata), headers.film | dict(_film_values(film)))


def lost(before: FilmFacts, after: FilmFacts, copies: Mapping[int, int], removed: str = "") -> list[str]:
    """Facts of a film that its copy does not have, in words.

    copies: indexes of the copied streams by those of the source's. removed: text that is taken out of the comment on
    purpose.
    """
    entries: list[str] = []
    for index, track in before.tracks.items():
        if (copy := after.tracks.get(copies.get(index, -1))) is not None:
            entries += [f"{track.title}: its {text}" for text in _lost_of_track(track, copy)]
    entries += [f"film: {text}" for text in _differences(before.values, after.values)]
    entries += [f"film: {text}" for text in _lost_tags(before.tags, after.tags, removed)]
    return entries


def _is_compared(stream: Any) -> bool:
    usual = stream.type in ("video", "audio", "subtitle") and stream.codec_context is not None
    return usual and not (stream.type == "video" and container.is_attached(stream))


def _film_values(film: Any) -> Iterator[tuple[str, str]]:
    """Facts of the film as a whole that FFmpeg tells."""
    metadata = {key.lower(): value for key, value in film.metadata.items()}
    for name, words in (("title", "title"), ("creation_time", "time of recording")):
        if metadata.get(name):
            yield words, metadata[name].strip()[:_LONGEST_VALUE]
    codes = [{k.lower(): v for k, v in s.metadata.items()}.get("timecode") for s in film.streams]
    if code := next(filter(None, [*codes, metadata.get("timecode")]), ""):
        yield "time code", code
    if titles := stream_facts.chapter_titles(film):
        yield "chapters", f"{len(titles)}"


def _lost_of_track(track: TrackFacts, copy: TrackFacts) -> Iterator[str]:
    values = {
        name: value
        for name, value in track.values.items()
        if copy.has_picture or not catalogue.by_picture(name)
    }
    yield from _differences(values, copy.values)
    if track.name and track.name != copy.name:
        yield f"name {track.name[:_LONGEST_VALUE]!r}"
    for flag in Disposition:
        same = flag | _SAME_FLAGS.get(flag, flag)
        if track.flags & flag and not copy.flags & same:
            yield f"flag {str(flag.name).replace('_', ' ')!r}"
    yield from _lost_tags(track.tags, copy.tags)


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name, value in before.items():
        if after.get(name) != value:
            yield name if len(value) >= 16 or value == "present" else f"{name} ({value})"


def _lost_tags(before: Mapping[str, str], after: Mapping[str, str], removed: str = "") -> Iterator[str]:
    for name, value in before.items():
        wanted = value.replace(removed, "").strip() if removed else value
        if wanted not in after.get(name, ""):
            yield f"tag {name[:_LONGEST_VALUE]!r}"


def told(entries: Sequence[str], dropped: Sequence[str]) -> list[str]:
    """Entries for a report: without what it says already of a time code, and as many as fit there."""
    known = any("time code" in text for text in dropped)
    new = [text for text in entries if not (known and text.startswith("film: time code"))]
    rest = len(new) - _MOST_TOLD
    more = [f"film: {rest} more facts"] if rest > 0 else []
    return [text.encode(errors="replace").decode() for text in new[:_MOST_TOLD] + more]
