"""Facts that FFmpeg tells about a film and its streams, in a form that does not depend on the container."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from av.stream import Discard, Disposition

from pipelines.media import container, geometry

SIDE_DATA = ("new_extradata", "param_change", "palette", "webvtt_settings", "matroska_block_additional")
"""Side data of packets that changes what is presented; the last one is transparency, and colour of wide range."""

_TECHNICAL = re.compile(
    r"major_brand|minor_version|compatible_brands|encoder|creation_time|modification_time|duration|_statistics.*|bps"
    r"|number_of_(frames|bytes)|handler_name|vendor_id|title|name|language|timecode_rate|mimetype|filename"
    r"|(bps|duration|number_of_\w+|_statistics\w*)-\w+"
)
"""Tags that muxers write about their own work, and those that are compared as facts of their own."""

_HANDLERS = {
    *("VideoHandler", "SoundHandler", "SubtitleHandler", "TextHandler", "DataHandler"),
    *("Core Media Video", "Core Media Audio", "ISO Media file produced by Google Inc."),
}
"""Names that muxers give to tracks without a name."""

_FLAGS = [flag for flag in Disposition if flag is not Disposition.attached_pic]

_BIBLIOGRAPHIC = {
    "alb": "sqi", "arm": "hye", "baq": "eus", "bur": "mya", "chi": "zho", "cze": "ces", "dut": "nld", "fre": "fra",
    "geo": "kat", "ger": "deu", "gre": "ell", "ice": "isl", "mac": "mkd", "mao": "mri", "may": "msa", "per": "fas",
    "rum": "ron", "slo": "slk", "tib": "bod", "wel": "cym",
}  # fmt: skip
"""ISO 639-2/B, which Matroska writes, by ISO 639-2/T."""

_TEXT_CODECS = ("mov_text", "subrip", "text")

_BIT_RATE = re.compile(rb"\0\0\0\x14btrt.{12}", re.DOTALL)
"""A box that says how large the subtitles are."""

PLAIN_STYLE = "6b41990a7c949b7a6b8360647020907c"
"""Value of a description's `style` for white text below the picture, as FFmpeg writes it."""

_LONGEST = 300
"""Characters of a name that are kept."""

_MOST_TAGS = 200
"""Tags that are compared one by one."""


def kind(stream: Any) -> str:
    """Kind of a stream in a description: video, sound, subtitles, cover, attachment or data; empty for none.

    Chapters and time codes of QuickTime are streams too; they are described as chapters and as a tag.
    """
    if stream.type == "video":
        return "cover" if container.is_attached(stream) else "video"
    if stream.type == "data" and (stream.discard == Discard.all or "timecode" in stream.metadata):
        return ""
    return {"audio": "sound", "subtitle": "subtitles", "attachment": "attachment"}.get(stream.type, "data")


def codec(stream: Any) -> str:
    """Name of the coding format; empty if FFmpeg does not know it."""
    return container.codec_name(stream) if stream.codec_context is not None else ""


def name_of(stream: Any) -> str:
    """Name of a stream; empty if it has none but those that muxers give."""
    names = _names({key.lower(): value for key, value in stream.metadata.items()})
    return _clipped(names[0]) if names else ""


def _names(metadata: Mapping[str, str]) -> list[str]:
    names = [metadata.get(name, "") for name in ("title", "name", "handler_name")]
    return [name for name in names if name and not is_usual_name(name)]


def is_usual_name(name: str) -> bool:
    """True for a name that muxers give to tracks without one."""
    return name in _HANDLERS


def facts(stream: Any, kind_: str) -> dict[str, Any]:
    """Statements of the container about a stream. Unset values are left out."""
    metadata = {key.lower(): value for key, value in stream.metadata.items()}
    names = _names(metadata)
    described: dict[str, Any] = {
        "codec": codec(stream) or "unknown",
        "name": _clipped(names[0]) if names else "",
        "otherNames": _clipped(" / ".join(dict.fromkeys(name for name in names[1:] if name != names[0]))),
        "language": language(metadata.get("language", "")),
        "flags": " ".join(str(flag.name) for flag in _FLAGS if stream.disposition & flag),
        "tags": tags(stream.metadata),
    }
    context = stream.codec_context
    if kind_ == "video" and context is not None:
        described |= _picture(stream, context)
    elif kind_ == "sound" and context is not None:
        described |= {"rate": str(context.sample_rate), "layout": _layout(context)}
    elif kind_ == "subtitles" and context is not None and described["codec"] == "mov_text":
        described["style"] = _short(_BIT_RATE.sub(b"", bytes(context.extradata or b"")))
    elif kind_ == "attachment":
        described["name"] = _clipped(str(metadata.get("filename") or stream.name or ""))
        described["content"] = _short(bytes(stream.data or b""))
    return {name: value for name, value in described.items() if value not in ("", {})}


def language(code: str) -> str:
    """ISO 639-2/T code; empty for undetermined."""
    code = _BIBLIOGRAPHIC.get(code.lower(), code.lower())
    return "" if code == "und" else _clipped(code, 50)


def _picture(stream: Any, context: Any) -> dict[str, str]:
    aspect = stream.sample_aspect_ratio
    colour = [context.color_range, context.color_primaries, context.color_trc, context.colorspace]
    # 2 is "unspecified", but for the range, where it is "full".
    named = [int(colour[0]), *(0 if int(value) == 2 else int(value) for value in colour[1:])]
    order = int(context.field_order)
    return {
        "size": f"{context.width}x{context.height}",
        "aspect": "" if not aspect or aspect == 1 else str(Fraction(aspect)),
        "colour": "" if not any(named) else " ".join(map(str, named)),
        "fields": "" if order < 2 else str(order),
        "pixels": str(context.pix_fmt or "") if context.name == "rawvideo" else "",
    }


def _layout(context: Any) -> str:
    name = str(context.layout.name)
    # Matroska and AVI keep the number of channels only.
    return {"1 channels": "mono", "2 channels": "stereo"}.get(name, name)


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32] if data else ""


def tags(metadata: Mapping[str, str], titled: bool = False) -> dict[str, str]:
    """Digests of the tags by name in lower case, without those of muxers. titled: with the title."""
    found: dict[str, str] = {}
    for key, value in sorted(metadata.items()):
        name, digest = key.lower(), _short(value.strip().encode(errors="replace"))
        if re.fullmatch(r".+-[a-z]{3}", name) and found.get(name[:-4]) == digest:
            continue  # FFmpeg lists a tag that has a language twice
        if value and (not _TECHNICAL.fullmatch(name) or (titled and name == "title")):
            found[_clipped(name, 60)] = digest
    kept = dict(sorted(found.items())[:_MOST_TAGS])
    return (
        kept
        if len(kept) == len(found)
        else kept | {"more tags": _short(repr(sorted(found.items())).encode())}
    )


def _clipped(text: str, longest: int = _LONGEST) -> str:
    """A text of at most so many characters; one that is longer ends with a digest of all."""
    return (
        text if len(text) <= longest else text[: longest - 33] + " " + _short(text.encode(errors="replace"))
    )


def chapters(film: Any, origin: float) -> list[str]:
    """Start in seconds from the first picture, and title, of each chapter."""
    marks, titles = film.chapters()[:10_000], chapter_titles(film)
    starts = [float(mark["start"] * (mark["time_base"] or Fraction(1, 1000))) - origin for mark in marks]
    return [_clipped(f"{start:.3f} {title}") for start, title in zip(starts, titles, strict=True)]


def chapter_titles(film: Any) -> list[str]:
    """Titles of the chapters, in order."""
    marks = film.chapters()[:10_000]
    return [next((v for k, v in mark["metadata"].items() if k.lower() == "title"), "") for mark in marks]


def cue_text(codec_name: str, payload: bytes) -> bytes:
    """Text of a subtitle, and its formatting; other subtitles as they are."""
    if codec_name == "mov_text":
        size = int.from_bytes(payload[:2], "big")
        text, boxes = payload[2 : 2 + size], payload[2 + size :]
        if not text.strip():
            return b""
        return _lines(text) + (b"\0" + boxes if boxes else b"")
    return _lines(payload) if codec_name in _TEXT_CODECS else payload


def _lines(text: bytes) -> bytes:
    return b"\n".join(line.rstrip() for line in text.replace(b"\r\n", b"\n").strip(b"\n \0").split(b"\n"))


class FirstLook:
    """Facts that only a decoded picture tells: display matrix, stereo, projection, light levels."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._frame, self._left = stream, None, 32
        if stream.codec_context is None:
            self._left = 0
        else:
            stream.codec_context.thread_count = 1

    def offer(self, packet: Any) -> None:
        """Take a packet, until one picture is out."""
        if self._frame is None and self._left > 0 and packet.size and not container.is_encrypted(packet):
            self._left -= 1
            self._take(packet)

    def _take(self, packet: Any) -> None:
        try:
            self._frame = next(iter(self._stream.codec_context.decode(packet)), None)
        except container.SKIPPED:
            return
        except Exception:  # no decoder, or a damaged picture: the packets are compared all the same
            self._left = 0

    @property
    def is_done(self) -> bool:
        """True if no further packet is wanted."""
        return self._frame is not None or self._left <= 0

    def frame(self) -> Any:
        """The first picture; None if none can be decoded."""
        if self._frame is None and self._left > 0:
            self._take(None)
        return self._frame

    def facts(self) -> dict[str, str]:
        """The facts, without what is unset."""
        if self.frame() is None:
            return {}
        found = {}
        for data in geometry.side_data(self._frame):
            name, raw = data.type.name, bytes(data)
            if name == "DISPLAYMATRIX" and len(raw) >= 36:
                found["matrix"] = turn(raw)
            elif name == "STEREO3D":  # kind, and whether the eyes are exchanged
                found["stereo3d"] = "{} {}".format(*struct.unpack("=2i", raw[:8]))
            elif name == "SPHERICAL":  # projection, yaw, pitch, roll
                found["spherical"] = "{} {} {} {}".format(*struct.unpack("=4i", raw[:16]))
            elif name == "ICC_PROFILE":
                found["icc"] = _short(raw)
            elif name == "CONTENT_LIGHT_LEVEL":
                found["light"] = "{} {}".format(*struct.unpack("=2I", raw[:8]))
        return {name: value for name, value in found.items() if value}


def turn(raw: bytes) -> str:
    """Rotation, mirroring and scale of a display matrix; empty for none. Its shift only places it on a page."""
    matrix = struct.unpack("=9i", raw[:36])
    parts = [round(matrix[k] / 65536, 2) for k in (0, 1, 3, 4)]
    text = " ".join(f"{part:g}" for part in parts).replace("-0 ", "0 ")
    return "" if parts == [1, 0, 0, 1] else text
