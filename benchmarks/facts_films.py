"""Films with one fact of picture or film each, made with PyAV and by editing bytes, for `facts_table`."""

from __future__ import annotations

import functools
import struct
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from tests.support import ebml, media_files, mp4_boxes
from tests.support.ebml import ENTRY, TRACKS, VIDEO
from tests.support.mp4_boxes import box

CODECS: dict[str, tuple[str, str | None]] = {
    ".mp4": ("libx264", "aac"), ".mov": ("libx264", "aac"), ".3gp": ("libx264", "aac"),
    ".mkv": ("libx264", "flac"), ".webm": ("libvpx-vp9", "libopus"), ".avi": ("mpeg4", "pcm_s16le"),
    ".ts": ("libx264", "aac"), ".flv": ("libx264", "aac"), ".wmv": ("wmv2", "wmav2"),
    ".mxf": ("mpeg2video", "pcm_s16le"),
}  # fmt: skip
"""Codecs of pictures and sound by suffix."""

Maker = Callable[[Path], object]
Makers = dict[str, Maker]
"""Makers of a film with one fact, by suffix."""

BOXES = (".mp4", ".mov", ".3gp")
ELEMENTS = (".mkv", ".webm")

_SIZE = (64, 48)


@functools.cache
def _base(suffix: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="facts-"))
    codec, sound = CODECS[suffix]
    options: dict[str, Any] = {
        "size": _SIZE,
        "duration_s": 0.4,
        "codec": codec,
        "rate": 48_000,
        "channels": 2,
    }
    return media_files.write_video(
        folder / f"base{'.mkv' if suffix != '.wmv' else '.wmv'}",
        sound="audible",
        audio_codec=sound,
        **options,
    )


class Film:
    """A film that is being written: a second copy of the packets of a plain one, with more in it."""

    def __init__(self, path: Path, source: Any) -> None:
        options = {"strict": "unofficial"} | (
            {"movflags": "use_metadata_tags"} if path.suffix == ".mov" else {}
        )
        self.out = av.open(str(path), "w", container_options=options)
        self.copies: dict[int, Any] = {}
        for stream in source.streams:
            copy = self.out.add_stream_from_template(stream, opaque=True)
            copy.codec_context.codec_tag = "\0\0\0\0"
            self.copies[stream.index] = copy
        self.video, self.sound = self.copies.values()
        self.video.codec_context.framerate = Fraction(25)
        self.later: list[Any] = []
        """Packets to write at the start."""

    def packet(self, stream: Any, data: bytes, ms: int = 0) -> None:
        """Write a packet of another stream."""
        packet: Any = av.Packet(data)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = ms
        packet.duration = 200
        self.later.append(packet)


def write(path: Path, more: Callable[[Film], None] = lambda film: None, first: bytes = b"") -> Path:
    """Write a film of ten pictures and a sound track, with `more`, and bytes before its first picture; its path."""
    with av.open(str(_base(path.suffix))) as source:
        film = Film(path, source)
        more(film)
        film.out.start_encoding()
        for packet in film.later:
            film.out.mux(packet)
        for packet in source.demux():
            if packet.dts is None:
                continue
            stream = film.copies[packet.stream.index]
            if first and packet.stream.type == "video":
                packet, old, first = av.Packet(first + bytes(packet)), packet, b""
                packet.pts, packet.dts, packet.time_base = old.pts, old.dts, old.time_base
                packet.duration, packet.is_keyframe = old.duration, True
            packet.stream = stream
            film.out.mux(packet)
        film.out.close()
    return path


def with_box(
    more: bytes, place: tuple[bytes, ...] = mp4_boxes.ENTRY, kind: bytes = b"vide"
) -> Callable[[Path], None]:
    """Maker of an mp4 or mov film with a box in a track."""

    def make(path: Path) -> None:
        write(path).write_bytes(mp4_boxes.edited(path.read_bytes(), place, more, kind))

    return make


def with_elements(
    *more: tuple[int, bytes | int], place: tuple[int, ...] = (VIDEO,), entry: int = 0
) -> Callable[[Path], None]:
    """Maker of a Matroska or WebM film with elements in a track."""
    return lambda path: (ebml.add(write(path), (TRACKS, ENTRY, *place), *more, entry=entry), None)[1]


def with_streams(more: Callable[[Film], None]) -> Callable[[Path], None]:
    """Maker of a film with more that PyAV writes."""
    return lambda path: (write(path, more), None)[1]


def floating(value: float) -> bytes:
    return struct.pack(">d", value)


def cover(film: Film) -> None:
    picture = media_files.numbered(1, *_SIZE)
    encoder: Any = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = *_SIZE, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
    frame.pts = 0
    data = bytes([*encoder.encode(frame), *encoder.encode(None)][0])
    if "matroska" in film.out.format.name:
        film.out.add_attachment("cover.jpg", "image/jpeg", data)
        return
    cover: Any = film.out.add_stream("mjpeg", rate=25)
    cover.width, cover.height, cover.pix_fmt = *_SIZE, "yuvj420p"
    cover.disposition = Disposition.attached_pic
    film.packet(cover, data)


def chapters(film: Film) -> None:
    marks = [(0, 200, "One"), (200, 400, "Zwei")]
    film.out.set_chapters(
        [
            {"id": k + 1, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
            for k, (a, b, title) in enumerate(marks)
        ]
    )


def subtitles(codec: str, data: bytes) -> Callable[[Film], None]:
    def more(film: Film) -> None:
        stream: Any = film.out.add_mux_stream(codec)
        stream.metadata["language"] = "deu"
        film.packet(stream, data)

    return more


def data(codec: str) -> Callable[[Film], None]:
    def more(film: Film) -> None:
        stream = film.out.add_data_stream(codec)
        stream.time_base = Fraction(1, 1000)
        film.packet(stream, b"a value")

    return more


def tag(of: str, name: str, value: str) -> Callable[[Film], None]:
    return lambda film: (film.out if of == "film" else getattr(film, of)).metadata.update({name: value})


def flag(flag: Disposition) -> Callable[[Film], None]:
    def more(film: Film) -> None:
        film.sound.disposition = flag

    return more


def chapter_language(path: Path) -> None:
    write(path, chapters)
    place = (ebml.CHAPTERS, ebml.EDITION, ebml.ATOM, ebml.DISPLAY)
    ebml.add(path, place, (0x437C, b"ger"), (0x437D, b"de-AT"))


def captions(path: Path) -> None:
    """CEA-608 in a message (SEI) before the first picture."""
    user = b"\xb5\x00\x31GA94\x03\xc1\xff\xfc\x80\x80\xff"
    unit = b"\x06\x04" + bytes([len(user)]) + user + b"\x80"
    write(path, first=len(unit).to_bytes(4, "big") + unit)


DOLBY = bytes([1, 0, 16, 29, 16]) + bytes(19)
"""Configuration of Dolby Vision, profile 8.1."""

MDCV = box(b"mdcv", struct.pack(">8H2I", 13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450, 10_000_000, 1))
MASTERING = b"".join(
    ebml.element(0x55D1 + k, floating(value))
    for k, value in enumerate((0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 1000.0, 0.0001))
)
SPHERE = box(
    b"sv3d", box(b"svhd", bytes(4) + b"x\0") + box(b"proj", box(b"prhd", bytes(16)) + box(b"equi", bytes(20)))
)


def in_boxes(more: bytes, place: tuple[bytes, ...] = mp4_boxes.ENTRY, kind: bytes = b"vide") -> Makers:
    return dict.fromkeys(BOXES, with_box(more, place, kind))


def in_elements(*more: tuple[int, bytes | int], place: tuple[int, ...] = (VIDEO,), entry: int = 0) -> Makers:
    return dict.fromkeys(ELEMENTS, with_elements(*more, place=place, entry=entry))


def in_streams(more: Callable[[Film], None], *suffixes: str) -> Makers:
    return dict.fromkeys(suffixes or CODECS, with_streams(more))


def matrix(rotation: int, mirrored: bool) -> Maker:
    return lambda path: media_files.set_matrix(write(path), media_files.matrix(rotation, mirrored))


def addition(number: int, data: bytes, *more: tuple[int, bytes | int]) -> Maker:
    def make(path: Path) -> None:
        with_elements(*more)(path)
        ebml.with_addition(path, number, data)

    return make


def hdr10_plus() -> bytes:
    bits = (
        f"{0xB5:08b}{0x3C:016b}{1:016b}{4:08b}{1:08b}"
        + f"{1:02b}{1000:027b}0"
        + 3 * f"{5000:017b}"
        + f"{400:017b}"
    )
    bits += f"{0:04b}{0:010b}" + "000"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def name(film: Film) -> None:
    """Name the sound track."""
    film.sound.metadata.update({"title": "Kommentar"})
    if film.out.format.name in ("mp4", "mov", "3gp"):
        film.sound.metadata["handler_name"] = "Kommentar"


def font(film: Film) -> None:
    """Attach a file."""
    film.out.add_attachment("type.ttf", "font/ttf", b"glyphs")


def volume(path: Path) -> None:
    """Play the sound track at half its volume."""
    data = bytearray(write(path).read_bytes())
    at = data.index(b"tkhd", data.index(b"tkhd") + 1) + 4 + 36
    data[at : at + 2] = struct.pack(">h", 128)
    path.write_bytes(data)
