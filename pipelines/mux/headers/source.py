"""Facts in the headers of a film that FFmpeg does not tell and its copy in Matroska should have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from pipelines.mux.files import Source
from pipelines.mux.headers import chapters, matroska, mp4
from pipelines.mux.streams import covers
from pipelines.mux.streams.covers import Cover

_EBML, _MP4 = b"\x1a\x45\xdf\xa3", (b"ftyp", b"moov")


@dataclass(frozen=True)
class SourceHeaders:
    """Facts of an open film."""

    pictures: Mapping[int, Cover] = field(default_factory=dict)
    """Covers that become attachments, by the index of their stream."""
    languages: Mapping[int, str] = field(default_factory=dict)
    """Language tags (BCP 47) by the index of the stream."""
    chapters: bytes = b""
    """The list of chapters as Matroska holds it; empty for none."""


def read_source(source: Source, muxer: str) -> SourceHeaders:
    """Facts for a copy in Matroska or WebM; none of what is damaged. Leaves `source` at its start.

    Raises SourceLost if it cannot be read, and FFmpeg's errors.
    """
    if muxer not in ("matroska", "webm"):
        return SourceHeaders()
    head = source.read(8)
    file = cast(BinaryIO, source)
    languages: dict[int, str] = {}
    listed = b""
    if head[:4] == _EBML:
        languages, listed = matroska.read_languages(file), chapters.read_chapters(file)
    elif head[4:] in _MP4:
        boxes = mp4.read_facts(file).languages
        if boxes:
            source.seek(0)
            with source.open() as film:
                tags = {stream.index: mp4.language_tag(boxes.get(stream.id, b"")) for stream in film.streams}
            languages = {index: tag for index, tag in tags.items() if tag}
    source.seek(0)
    pictures = covers.read_covers(source) if muxer == "matroska" else {}  # WebM holds no files
    return SourceHeaders(pictures, languages, listed)
