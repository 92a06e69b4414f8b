"""Facts that only the headers of mp4 and Matroska tell, in words that do not depend on the container."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO

from pipelines.media import boxes
from pipelines.mux.facts.catalogue import digest
from pipelines.mux.headers import chapters, matroska, mp4
from pipelines.mux.headers.matroska import HeaderDamaged, elements

_DOLBY = (b"dvcC", b"dvvC", b"dvwC")

_TOLD_BY_FFMPEG = {
    *(
        b"pasp",
        b"colr",
        b"mdcv",
        b"SmDm",
        b"clli",
        b"CoLL",
        b"st3d",
        b"sv3d",
        b"vexu",
        b"hfov",
        b"fiel",
        b"clap",
    ),
    *(b"amve", b"gama", b"free", b"skip", b"uuid"),
}
"""Boxes of a sample entry whose facts have a name of their own, or that say nothing."""

_LISTED = ("crop", "volume", "balance", "layer", "blend")
"""Facts that `boxes.read_headers` finds."""

_WORDS = {"crop": "crop by the container", "blend": "graphics mode"}

_VIDEO, _COLOUR, _MAPPING = 0xE0, 0x55B0, 0x41E4
_CHROMA = (0x55B7, 0x55B8)


@dataclass
class Headers:
    """Facts in the headers of a file."""

    tracks: dict[int, dict[str, str]] = field(default_factory=dict)
    """Facts by name, by FFmpeg's `stream.id`, or its `stream.index` for Matroska."""
    film: dict[str, str] = field(default_factory=dict)


def read_headers(file: BinaryIO, format_name: str) -> Headers:
    """Facts of an open file, which may be damaged. format_name: FFmpeg's demuxer."""
    names, found = format_name.split(","), Headers()
    if "mov" in names:
        _read_mp4(file, found)
    elif "matroska" in names:
        _read_matroska(file, found)
    else:
        return found
    for number, facts in boxes.read_headers(file, format_name).tracks.items():
        listed = {_WORDS.get(name, name): facts[name] for name in _LISTED if name in facts}
        found.tracks.setdefault(number, {}).update(listed)
    return found


def _read_mp4(file: BinaryIO, found: Headers) -> None:
    facts = mp4.read_facts(file)
    for number, content in facts.languages.items():
        found.tracks.setdefault(number, {})["language tag"] = mp4.language_tag(content)
    for number, entry in facts.entries.items():
        track = found.tracks.setdefault(number, {})
        for kind, data in entry:
            if kind in _DOLBY:
                track["Dolby Vision"] = _dolby(data)
            elif kind not in _TOLD_BY_FFMPEG:
                track[f"box {kind.decode('latin-1')!r}"] = digest(data)
    for kind, data in facts.user:
        if kind[:1] != b"\xa9" and kind != b"loci":  # those are tags
            found.film[f"box {kind.decode('latin-1')!r}"] = digest(data)


def _read_matroska(file: BinaryIO, found: Headers) -> None:
    for number, tag in matroska.read_languages(file).items():
        found.tracks.setdefault(number, {})["language tag"] = tag
    for number, entry in enumerate(matroska.read_tracks(file)):
        track = found.tracks.setdefault(number, {})
        try:
            colour = dict(elements(dict(elements(entry.get(_VIDEO, b""))).get(_COLOUR, b"")))
            mapping = dict(elements(entry.get(_MAPPING, b"")))
        except HeaderDamaged:
            continue
        if any(name in colour for name in _CHROMA):
            sites = (int.from_bytes(colour.get(name, b""), "big") for name in _CHROMA)
            track["place of chroma samples"] = " ".join(map(str, sites))
        if mapping.get(0x41E7, b"")[-4:] in _DOLBY:
            track["Dolby Vision"] = _dolby(mapping.get(0x41ED, b""))
    if listed := chapters.read_chapters(file):
        found.film["list of chapters"] = digest(listed)


def _dolby(data: bytes) -> str:
    """Profile, level and compatibility of a configuration of Dolby Vision."""
    if len(data) < 5:
        return ""
    return f"profile {data[2] >> 1}.{data[4] >> 4}, level {(data[2] & 1) << 5 | data[3] >> 3}"
