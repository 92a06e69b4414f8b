"""Facts as other readers than v2a's see them in a file, for `facts_table`: a value, and the form it has."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from tests.support import ebml, mp4_boxes
from tests.support.muxing import title_of

Seen = tuple[str, str]
"""A value, empty for none, and the form it has."""

Reader = Callable[[Path], Seen]

TITLE = "v2a (generated)"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with av.open(str(path), metadata_errors="replace") as film:
        yield film


def _stream(film: Any, kind: str) -> Any:
    """The film's first stream of a kind that is not new, not a cover and not a list of chapters; None without any."""
    streams = [s for s in film.streams if s.type == kind and title_of(s) != TITLE]
    return next((s for s in streams if not s.disposition & Disposition.attached_pic), None)


def of_stream(kind: str, value: Callable[[Any], Any]) -> Reader:
    """Reader of what FFmpeg tells of a stream."""

    def seen(path: Path) -> Seen:
        with _opened(path) as film:
            stream = _stream(film, kind)
            return ("" if stream is None else str(value(stream) or ""), "")

    return seen


def colour(stream: Any) -> str:
    context = stream.codec_context
    values = context.color_primaries, context.color_trc, context.colorspace, context.color_range
    return " ".join(map(str, map(int, values))) if int(values[0]) != 2 else ""


def side_data(name: str, value: Callable[[bytes], str] = lambda raw: raw.hex()) -> Reader:
    """Reader of what a decoder adds to the first picture."""

    def seen(path: Path) -> Seen:
        with _opened(path) as film:
            frame = next(film.decode(film.streams.video[0]))
            found = [bytes(data) for data in frame.side_data if data.type.name == name]
            return (value(found[0]) if found else "", "")

    return seen


def mastering(raw: bytes) -> str:
    numbers = struct.unpack("=22i", raw[:88])
    return " ".join(
        f"{a / b:.4f}" if b else "-" for a, b in zip(numbers[0:20:2], numbers[1:20:2], strict=True)
    )


def turn(raw: bytes) -> str:
    parts = [round(value / 65536, 2) + 0.0 for value in struct.unpack("=9i", raw[:36])]
    return " ".join(map(str, (parts[0], parts[1], parts[3], parts[4])))


def _entry(path: Path) -> dict[int, bytes]:
    """Elements of the first track of pictures in a Matroska file."""
    entries = ebml.find(path.read_bytes(), ebml.SEGMENT, ebml.TRACKS, ebml.ENTRY)
    return next(found for entry in entries if (found := dict(ebml.elements(entry))).get(0x83) == b"\1")


def of_headers(
    in_mp4: Callable[[dict[bytes, bytes]], Any], in_mkv: Callable[[dict[int, bytes]], Any]
) -> Reader:
    """Reader of the boxes of a sample entry, or of the elements of a track, of pictures."""

    def seen(path: Path) -> Seen:
        if path.suffix in (".mkv", ".webm"):
            return str(in_mkv(_entry(path)) or ""), ""
        [track] = [t for t in mp4_boxes.tracks(path) if mp4_boxes.handler(t) == b"vide"]
        return str(in_mp4(mp4_boxes.sample_entry(track)) or ""), ""

    return seen


def dolby_in_mp4(boxes: dict[bytes, bytes]) -> str:
    return next((data[:24].hex() for kind, data in boxes.items() if kind in (b"dvcC", b"dvvC")), "")


def dolby_in_mkv(parts: dict[int, bytes]) -> str:
    return dict(ebml.elements(parts.get(0x41E4, b""))).get(0x41ED, b"").hex()


def video_number(*names: int) -> Callable[[dict[int, bytes]], str]:
    """Reader of numbers in Matroska's element Video."""

    def seen(parts: dict[int, bytes]) -> str:
        found = dict(ebml.elements(parts[ebml.VIDEO]))
        return " ".join(str(int.from_bytes(found[name], "big")) for name in names if name in found)

    return seen


def crop_in_mp4(boxes: dict[bytes, bytes]) -> str:
    if b"clap" not in boxes:
        return ""
    width, _, height, _, x, _, y, _ = struct.unpack(">IIIIiIiI", boxes[b"clap"])
    left, top = (64 - width) // 2 + x, (48 - height) // 2 + y
    return f"{left} {top} {64 - width - left} {48 - height - top}"


def additions(number: int) -> Reader:
    """Reader of the first packet's side data of Matroska."""

    def seen(path: Path) -> Seen:
        with _opened(path) as film:
            packet = next(film.demux(film.streams.video[0]))
            found = bytes(packet.get_sidedata("matroska_block_additional") or b"")
            return (found[8:].hex() if found[:8] == number.to_bytes(8, "big") else ""), ""

    return seen


def time_code(path: Path) -> Seen:
    with _opened(path) as film:
        tags = [("track", s.metadata) for s in film.streams] + [("tag", film.metadata)]
        for form, metadata in tags:
            for name, value in metadata.items():
                if name.lower() == "timecode":
                    return value, form
    return "", ""


def film_tag(name: str) -> Reader:
    def seen(path: Path) -> Seen:
        with _opened(path) as film:
            return next((v for k, v in film.metadata.items() if k.lower() == name), ""), ""

    return seen


def chapters(path: Path) -> Seen:
    with _opened(path) as film:
        marks = film.chapters()
        return " ".join(
            f"{float(m['start'] * m['time_base']):.2f} {m['metadata'].get('title')}" for m in marks
        ), ""


def chapter_language(path: Path) -> Seen:
    place = ebml.SEGMENT, ebml.CHAPTERS, ebml.EDITION, ebml.ATOM, ebml.DISPLAY
    shown = [dict(ebml.elements(content)) for content in ebml.find(path.read_bytes(), *place)]
    return " ".join(f"{d.get(0x437C, b'').decode()} {d.get(0x437D, b'').decode()}" for d in shown).strip(), ""


def cover(path: Path) -> Seen:
    with _opened(path) as film:
        found = [s for s in film.streams.video if s.disposition & Disposition.attached_pic]
        data = b"".join(bytes(p) for p in film.demux(found)) if found else b""
        return (hashlib.sha256(data).hexdigest()[:8] if data else ""), "file" if path.suffix == ".mkv" else ""


def attachment(path: Path) -> Seen:
    with _opened(path) as film:
        return " ".join(f"{s.name} {len(s.data)}" for s in film.streams.attachments), ""


def payload(kind: str) -> Reader:
    """Reader of the packets of subtitles or data."""

    def seen(path: Path) -> Seen:
        with _opened(path) as film:
            streams = [s for s in film.streams if s.type == kind and "timecode" not in s.metadata]
            data = b"".join(bytes(p) for p in film.demux(streams) if p.size > 2) if streams else b""
            return data[-9:].hex(), ""

    return seen


def language_tag(path: Path) -> Seen:
    if path.suffix in (".mkv", ".webm"):
        entries = ebml.find(path.read_bytes(), ebml.SEGMENT, ebml.TRACKS, ebml.ENTRY)
        return " ".join(
            dict(ebml.elements(entry)).get(0x22B59D, b"").decode() for entry in entries
        ).strip(), ""
    tags = [mp4_boxes.child(track, b"mdia", b"elng")[4:] for track in mp4_boxes.tracks(path)]
    return " ".join(tag.rstrip(b"\0").decode() for tag in tags).strip(), ""


def language(path: Path) -> Seen:
    with _opened(path) as film:
        code = _stream(film, "audio").metadata.get("language", "")
        if code in ("", "und") and path.suffix in (".mov", ".3gp", ".mp4"):
            return language_tag(path)[0], "tag"
        return {"ger": "deu"}.get(code, code), ""


def colour_numbers(*names: int) -> Callable[[dict[int, bytes]], str]:
    """Reader of numbers in Matroska's element Colour."""

    def seen(parts: dict[int, bytes]) -> str:
        found = dict(ebml.elements(dict(ebml.elements(parts[ebml.VIDEO])).get(ebml.COLOUR, b"")))
        return " ".join(str(int.from_bytes(found[name], "big")) for name in names if name in found)

    return seen


def title(stream: Any) -> str:
    """The name of a track that is not one that muxers give."""
    name = title_of(stream)
    return "" if name in ("SoundHandler", "VideoHandler") else name


def volume(path: Path) -> Seen:
    """Volume of the film's own sound track in mp4, of 256; empty for the usual one."""
    if path.suffix not in (".mp4", ".mov", ".3gp"):
        return "", ""
    tracks = [t for t in mp4_boxes.tracks(path) if mp4_boxes.handler(t) == b"soun"]
    volumes = [struct.unpack(">h", mp4_boxes.child(track, b"tkhd")[36:38])[0] for track in tracks]
    return next((str(value) for value in volumes if value not in (0, 256)), ""), ""
