"""Table of docs/facts.md: what becomes of each fact of a film in its copy, by container.

    python -m benchmarks.facts_table                     # the table, in Markdown
    python -m benchmarks.facts_table --column "mp4"      # one column, with what the report says

For every fact and container, a film with this fact is made (`benchmarks.facts_films`), copied with a track by the code
that dubs films, and read by other code than that. A cell is:

- *kept*: a reader finds the same value in the same form
- *moved*: it finds the same value in another form, such as a tag instead of a track
- *told*: it does not; the report names what is missing
- *lost*: neither
- empty: such a film does not have this fact
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

from benchmarks import facts_films as films
from benchmarks import facts_seen as seen
from benchmarks.facts_films import Makers
from benchmarks.facts_seen import Reader
from pipelines.mux import remux
from pipelines.mux.track import MuxFailed, Track
from tests.support.ebml import COLOUR, VIDEO, element
from tests.support.mp4_boxes import box

COLUMNS = {
    "mp4": (".mp4", ".mp4"),
    "mov": (".mov", ".mov"),
    "mkv": (".mkv", ".mkv"),
    "webm": (".webm", ".webm"),
    "avi": (".avi", ".avi"),
    "3gp → mov": (".3gp", ".mov"),
    "mp4 → mkv": (".mp4", ".mkv"),
    "ts → mkv": (".ts", ".mkv"),
    "flv → mkv": (".flv", ".mkv"),
    "wmv → mkv": (".wmv", ".mkv"),
    "mxf → mkv": (".mxf", ".mkv"),
}
"""Suffixes of the film and of its copy."""

RATE = 44_100


@dataclass(frozen=True)
class Fact:
    """A fact of a film or one of its tracks."""

    name: str
    makers: Makers
    seen: Reader


_FLAGS = ("forced", "hearing_impaired", "visual_impaired", "comment", "original", "dub")


def _flag(name: str) -> Fact:
    flag = Disposition[name]
    reader = seen.of_stream("audio", lambda stream: name if stream.disposition & flag else "")
    return Fact(f"flag: {name.replace('_', ' ')}", films.in_streams(films.flag(flag)), reader)


FACTS = (
    Fact(
        "aspect of pixels",
        films.in_boxes(box(b"pasp", struct.pack(">2I", 16, 11)))
        | films.in_elements((0x54B0, 64 * 16), (0x54BA, 48 * 11), (0x54B2, 3)),
        seen.of_stream("video", lambda s: s.sample_aspect_ratio if s.sample_aspect_ratio != 1 else ""),
    ),
    Fact(
        "colour (primaries, transfer, matrix, range)",
        films.in_boxes(box(b"colr", b"nclx" + struct.pack(">3HB", 9, 16, 9, 0x80)))
        | films.in_elements((0x55B1, 9), (0x55B9, 2), (0x55BA, 16), (0x55BB, 9), place=(VIDEO, COLOUR)),
        seen.of_stream("video", seen.colour),
    ),
    Fact(
        "place of chroma samples",
        films.in_elements((0x55B7, 1), (0x55B8, 2), place=(VIDEO, COLOUR)),
        seen.of_headers(lambda boxes: "", seen.colour_numbers(0x55B7, 0x55B8)),
    ),
    Fact(
        "colour profile (ICC)",
        films.in_boxes(box(b"colr", b"prof" + bytes(140))),
        seen.side_data("ICC_PROFILE"),
    ),
    Fact(
        "mastering display",
        films.in_boxes(films.MDCV) | films.in_elements((0x55D0, films.MASTERING), place=(VIDEO, COLOUR)),
        seen.side_data("MASTERING_DISPLAY_METADATA", seen.mastering),
    ),
    Fact(
        "light levels",
        films.in_boxes(box(b"clli", struct.pack(">2H", 1000, 400)))
        | films.in_elements((0x55BC, 1000), (0x55BD, 400), place=(VIDEO, COLOUR)),
        seen.side_data("CONTENT_LIGHT_LEVEL"),
    ),
    Fact(
        "HDR10+",
        dict.fromkeys(films.ELEMENTS, films.addition(4, films.hdr10_plus())),
        seen.side_data("DYNAMIC_HDR_PLUS", lambda raw: raw[:64].hex()),
    ),
    Fact(
        "Dolby Vision",
        films.in_boxes(box(b"dvvC", films.DOLBY))
        | films.in_elements(
            (0x41E4, element(0x41E7, int.from_bytes(b"dvvC", "big")) + element(0x41ED, films.DOLBY)), place=()
        ),
        seen.of_headers(seen.dolby_in_mp4, seen.dolby_in_mkv),
    ),
    Fact(
        "spherical video",
        films.in_boxes(films.SPHERE) | films.in_elements((0x7671, 1), place=(VIDEO, 0x7670)),
        seen.side_data("SPHERICAL", lambda raw: raw[:16].hex()),
    ),
    Fact(
        "stereo pictures",
        films.in_boxes(box(b"st3d", bytes(4) + b"\2")) | films.in_elements((0x53B8, 1)),
        seen.side_data("STEREO3D", lambda raw: raw[:8].hex()),
    ),
    Fact(
        "rotation",
        dict.fromkeys(films.BOXES, films.matrix(90, False))
        | films.in_elements((0x7671, 0), (0x7675, films.floating(-90.0)), place=(VIDEO, 0x7670)),
        seen.side_data("DISPLAYMATRIX", seen.turn),
    ),
    Fact(
        "mirroring",
        dict.fromkeys(films.BOXES, films.matrix(0, True))
        | films.in_elements((0x7671, 0), (0x7673, films.floating(180.0)), place=(VIDEO, 0x7670)),
        seen.side_data("DISPLAYMATRIX", seen.turn),
    ),
    Fact(
        "crop",
        films.in_boxes(box(b"clap", struct.pack(">8I", 48, 1, 32, 1, 0, 1, 0, 1)))
        | films.in_elements((0x54CC, 8), (0x54BB, 8), (0x54DD, 8), (0x54AA, 8)),
        seen.of_headers(seen.crop_in_mp4, seen.video_number(0x54CC, 0x54BB, 0x54DD, 0x54AA)),
    ),
    Fact(
        "order of fields",
        films.in_boxes(box(b"fiel", b"\2\6")) | films.in_elements((0x9A, 1), (0x9D, 6)),
        seen.of_stream(
            "video", lambda s: int(s.codec_context.field_order) if s.codec_context.field_order > 1 else ""
        ),
    ),
    Fact(
        "transparency (alpha)",
        dict.fromkeys(films.ELEMENTS, films.addition(1, b"a picture", (0x53C0, 1))),
        seen.additions(1),
    ),
    Fact(
        "closed captions (CEA-608)",
        dict.fromkeys((".mp4", ".mov", ".3gp", ".mkv", ".flv"), films.captions),
        seen.side_data("A53_CC"),
    ),
    Fact(
        "frame rate",
        films.in_streams(lambda film: None),
        seen.of_stream("video", lambda s: round(float(s.average_rate), 1)),
    ),
    Fact("volume of a track", dict.fromkeys(films.BOXES, films.volume), seen.volume),
    Fact(
        "an unknown box",
        films.in_boxes(box(b"tEsT", b"tomorrow")),
        seen.of_headers(lambda b: b.get(b"tEsT", b"").hex(), lambda p: ""),
    ),
    Fact(
        "time code",
        films.in_streams(films.tag("video", "timecode", "01:00:00:00"), ".mp4", ".mov", ".mxf")
        | films.in_streams(films.tag("film", "timecode", "01:00:00:00"), ".mkv", ".wmv"),
        seen.time_code,
    ),
    Fact(
        "time of recording",
        films.in_streams(films.tag("film", "creation_time", "2001-02-03T04:05:06Z")),
        seen.film_tag("creation_time"),
    ),
    Fact("title", films.in_streams(films.tag("film", "title", "Ein Film")), seen.film_tag("title")),
    Fact("artist", films.in_streams(films.tag("film", "artist", "Anna")), seen.film_tag("artist")),
    Fact("tag with any name", films.in_streams(films.tag("film", "reel", "7")), seen.film_tag("reel")),
    Fact(
        "place",
        films.in_streams(films.tag("film", "location", "+48.2082+016.3738/")),
        seen.film_tag("location"),
    ),
    Fact(
        "tag of a track",
        films.in_streams(films.tag("sound", "microphone", "7")),
        seen.of_stream("audio", lambda s: {k.lower(): v for k, v in s.metadata.items()}.get("microphone")),
    ),
    Fact("name of a track", films.in_streams(films.name), seen.of_stream("audio", seen.title)),
    Fact("language", films.in_streams(films.tag("sound", "language", "deu")), seen.language),
    Fact(
        "language that Macintosh has no code for",
        films.in_streams(films.tag("sound", "language", "gsw")),
        seen.language,
    ),
    Fact(
        "language tag (BCP 47)",
        films.in_boxes(box(b"elng", bytes(4) + b"pt-BR\0"), (b"mdia",), b"soun")
        | films.in_elements((0x22B59D, b"pt-BR"), place=(), entry=1),
        seen.language_tag,
    ),
    *map(_flag, _FLAGS),
    Fact(
        "chapters",
        films.in_streams(films.chapters, ".mp4", ".mov", ".mkv", ".webm", ".wmv", ".3gp"),
        seen.chapters,
    ),
    Fact(
        "languages of chapters", dict.fromkeys(films.ELEMENTS, films.chapter_language), seen.chapter_language
    ),
    Fact("cover picture", films.in_streams(films.cover, ".mp4", ".mkv", ".mov", ".wmv"), seen.cover),
    Fact("attached file (a font)", films.in_streams(films.font, ".mkv"), seen.attachment),
    Fact(
        "subtitles: plain text",
        {
            **films.in_streams(films.subtitles("mov_text", b"\0\x09Guten Tag"), ".mp4", ".mov", ".3gp"),
            **films.in_streams(films.subtitles("subrip", b"Guten Tag"), ".mkv"),
            **films.in_streams(films.subtitles("webvtt", b"Guten Tag"), ".webm"),
        },
        seen.payload("subtitle"),
    ),
    Fact(
        "subtitles: TTML",
        films.in_streams(films.subtitles("ttml", b"<p>Guten Tag</p>"), ".mp4"),
        seen.payload("subtitle"),
    ),
    Fact(
        "subtitles: DVB",
        films.in_streams(films.subtitles("dvb_subtitle", b" \0\x0fGuten Tag"), ".ts", ".mkv"),
        seen.payload("subtitle"),
    ),
    Fact(
        "teletext",
        films.in_streams(films.subtitles("dvb_teletext", b"\x10Guten Tag"), ".ts"),
        seen.payload("subtitle"),
    ),
    Fact("telemetry", films.in_streams(films.data("bin_data"), ".mp4"), seen.payload("data")),
    Fact("data (KLV)", films.in_streams(films.data("klv"), ".ts"), seen.payload("data")),
    Fact("data (ID3)", films.in_streams(films.data("timed_id3"), ".ts"), seen.payload("data")),
)
"""Facts in the order of the table."""


def cell(fact: Fact, column: str, folder: Path) -> tuple[str, list[str]]:
    """The fate of a fact in one word, and entries of the report."""
    suffix, copy_suffix = COLUMNS[column]
    make = fact.makers.get(suffix)
    if make is None:
        return "", []
    source, copy = folder / f"film{suffix}", folder / f"copy{copy_suffix}"
    make(source)
    before = fact.seen(source)
    if not before[0]:
        return "", [f"{column}: {fact.name}: not there"]
    try:
        result = remux.mux(str(source), [np.zeros((1, RATE // 2), np.int16)], copy, Track(RATE // 2, 0.0))
    except MuxFailed as error:
        return "refused", [error.message]
    after, told = fact.seen(copy), [*result.dropped, *result.converted]
    if after == before:
        return "kept", told
    if after[0] == before[0]:
        return "moved", told
    return ("told" if told else "lost"), [*told, f"({before[0]!r} became {after[0]!r})"]


def table(columns: list[str], facts: tuple[Fact, ...] = FACTS) -> tuple[list[str], list[str]]:
    """Lines of the table, and lines about its cells."""
    lines, notes = [], []
    lines.append("| fact | " + " | ".join(columns) + " |")
    lines.append("|---|" + "---|" * len(columns))
    for fact in facts:
        words = []
        for column in columns:
            with tempfile.TemporaryDirectory() as folder:
                word, told = cell(fact, column, Path(folder))
            words.append(word)
            notes.append(f"{column}: {fact.name}: {word}: {told}")
        lines.append(f"| {fact.name} | " + " | ".join(words) + " |")
    return lines, notes


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--column", choices=list(COLUMNS))
    chosen = parser.parse_args(argv).column
    av.logging.set_level(None)
    lines, notes = table([chosen] if chosen else list(COLUMNS))
    print("\n".join(lines))
    if chosen:
        print("\n".join(notes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
