"""Kinds of files by their first bytes: which may be films, and what else is passed over."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping

HEAD = 4096
"""Bytes from the start of a file that decide its kind."""

FILM = "film"
"""Kind of containers and streams of footage; some of them hold sound only, which shows when they are opened."""
SOUND, PHOTO, APPLE_DOUBLE, TEXT = "sound file", "photo", "AppleDouble file", "text file"
DOCUMENT, PACKED, EMPTY, OTHER = "document", "packed file", "empty file", "other file"

SHARED_SUFFIXES = frozenset((".ts", ".mts", ".mod", ".tod", ".rm", ".qt", ".dv", ".nut", ".avc", ".dav"))
"""Suffixes of footage that other files have too: TypeScript, Qt's translations, Go's and Fortran's modules, ..."""

_STILL_BRANDS = frozenset(
    (
        *(
            b"avif",
            b"avis",
            b"heic",
            b"heix",
            b"heim",
            b"heis",
            b"hevc",
            b"hevx",
            b"hevm",
            b"hevs",
            b"mif1",
            b"mif2",
        ),
        *(
            b"msf1",
            b"miaf",
            b"avci",
            b"avcs",
            b"j2ki",
            b"j2is",
            b"jpeg",
            b"jpgs",
            b"crx ",
            b"jp2 ",
            b"jpx ",
            b"jxl ",
        ),
    )
)
"""Major brands of photos, bursts and animations in boxes as those of mp4: AVIF, HEIC, JPEG 2000, Canon's raw photos."""

_STARTS = {
    APPLE_DOUBLE: (b"\x00\x05\x16\x07", b"\x00\x05\x16\x00"),
    FILM: (
        b"\x1a\x45\xdf\xa3",  # Matroska, WebM
        b"FLV\x01",
        b"OggS",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF
        b"\xb7\xd8\x00\x20\x37\x49\xda\x11",  # WTV
        b"\x00\x00\x01\xba",  # MPEG program stream
        b"\x00\x00\x01\xb3",  # MPEG video
        *(b"\x00\x00\x01\xb0", b"\x00\x00\x01\xb5", b"\x00\x00\x01\x00\x00\x00\x01\x20"),  # MPEG-4 video
        b"\x00\x00\x01\xe0",  # packets of MPEG
        b"\x06\x0e\x2b\x34\x02\x05\x01\x01",  # MXF
        b".RMF",
        b"DKIF",
        b"nut/multimedia container",
        b"YUV4MPEG2 ",
        b"\x12\x00\x0a",  # AV1 as a stream
        b"DHAV",  # recorders: Dahua
        b"DAHUA",
        b"IMKH",  # Hikvision
        b"\x1f\x07\x00\x3f",  # DV of 525 lines, and of 625 below
        b"\x1f\x07\x00\xbf",
    ),
    SOUND: (
        b"fLaC",
        b"ID3",
        b"#!AMR",
        b"caff\x00",
        b".snd",
        b"MThd",
        b"wvPk",
        b"MAC ",
        b"DSD ",
        b"riff\x2e\x91",
    ),
    PHOTO: (
        *(
            b"\xff\xd8\xff",
            b"\x89PNG\r\n\x1a\n",
            b"GIF87a",
            b"GIF89a",
            b"II*\x00",
            b"MM\x00*",
            b"8BPS",
            b"II+\x00",
        ),
        *(
            b"\x00\x00\x00\x0cjP  ",
            b"\xff\x4f\xff\x51",
            b"\x00\x00\x00\x0cJXL ",
            b"\xff\x0a",
            b"SDPX",
            b"XPDS",
        ),
        *(b"v/1\x01", b"IIRO", b"IIRS", b"IIU\x00", b"FUJIFILMCCD-RAW"),
    ),
    DOCUMENT: (b"%PDF-", b"{\\rtf", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    PACKED: (b"PK\x03\x04", b"\x1f\x8b\x08", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"BZh", b"\xfd7zXZ\x00"),
}

_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"styp", b"pnot", b"free", b"skip")

_H264_PROFILES = frozenset((44, 66, 77, 83, 86, 88, 100, 110, 118, 122, 128, 138, 144, 244))

_CONTROL = re.compile(rb"[^\t\n\f\r\x1b\x20-\x7e\x80-\xff]")

_START_CODE = re.compile(rb"\x00\x00\x01(?=(.{3}))", re.DOTALL)


def kind_of(head: bytes) -> str:
    """Kind of a file by its first HEAD bytes (or all of them): FILM, or one of what is passed over; OTHER if nothing
    tells."""
    if not head:
        return EMPTY
    if _is_text(head):  # first: words such as "The wide" look like boxes
        return DOCUMENT if head.startswith(_STARTS[DOCUMENT]) else TEXT
    if head[4:8] in (b"ftyp", b"styp") and head[8:12] in _STILL_BRANDS:
        return PHOTO
    if head[:4] in (b"RIFF", b"RF64"):
        return {b"AVI ": FILM, b"WAVE": SOUND, b"WEBP": PHOTO}.get(head[8:12], OTHER)
    if head[:4] == b"FORM":
        return SOUND if head[8:12] in (b"AIFF", b"AIFC") else OTHER
    if head.startswith(b"\x00\x00\x00\x0cjP  ") and head[20:24] == b"mjp2":  # Motion JPEG 2000
        return FILM
    if head[4:8] in _BOXES or _is_transport_stream(head) or _is_annex_b(head):
        return FILM
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return PHOTO
    return next((kind for kind, starts in _STARTS.items() if head.startswith(starts)), OTHER)


def is_passed_over(kind: str, suffix: str, named_video: bool) -> bool:
    """True for a file that is no film by its content, and that need not be opened.

    A photo and an AppleDouble file are none under any name. What else is no film has failed under the name of one, but
    for names that others share.
    """
    if kind == PHOTO and suffix in (".mjpeg", ".mjpg"):  # such a stream begins as a photo does
        return False
    if kind in (PHOTO, APPLE_DOUBLE):
        return True
    return kind in (TEXT, DOCUMENT, PACKED) and (not named_video or suffix in SHARED_SUFFIXES)


def counted(counts: Mapping[str, int]) -> str:
    """The kinds with their numbers, most frequent first: "212 photos, 1 text file"."""
    ordered: Iterable[tuple[str, int]] = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n:,} {kind}{'s' if n != 1 else ''}" for kind, n in ordered)


def _is_transport_stream(head: bytes) -> bool:
    """True for packets of MPEG-TS: of 188 bytes, with a time before each (M2TS) or a checksum after each; the first may
    be cut off."""
    for size in (188, 192, 204):
        for start in range(min(size, len(head))):
            syncs = head[start::size]
            if len(syncs) >= 2 and syncs.count(0x47) == len(syncs) and (start in (0, 4) or len(syncs) >= 8):
                return True
    return False


def _is_annex_b(head: bytes) -> bool:
    """True for H.264, H.265 or H.266 as a stream of NAL units, which begins with a start code and soon has the
    parameters of a sequence."""
    if not head.lstrip(b"\x00").startswith(b"\x01") or not head.startswith(b"\x00\x00"):
        return False
    units = [unit[1] for unit in _START_CODE.finditer(head)]
    h264 = any(u[0] & 0x9F == 7 and u[0] & 0x60 and u[1] in _H264_PROFILES for u in units)
    h265 = any(u[0] in (0x40, 0x42) and u[1] == 1 for u in units)  # VPS or SPS, of layer 0 and time 0
    h266 = any(u[0] == 0 and u[1] in (0x71, 0x79) for u in units)
    return h264 or h265 or h266


def _is_text(head: bytes) -> bool:
    """True for text in any encoding of bytes, and for UTF-16 with a mark: it has no control characters but its own."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            text = codecs.getincrementaldecoder("utf-16")().decode(head)  # the last character may be cut off
        except UnicodeDecodeError:
            return False
        return not any(character < " " and character not in "\t\n\r\f" for character in text)
    return not _CONTROL.search(head)
