"""The facts that a film's tracks may have, and how a reader sees each of them in a file.

A reader is one that knows nothing of v2a: FFmpeg's demuxer, the first picture that its decoder gives, and the headers.
Values are texts that do not depend on the container; an empty one stands for a fact that is not there.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.media import geometry
from pipelines.mux import stream_facts


@dataclass(frozen=True)
class View:
    """A track as a reader sees it."""

    stream: Any
    """FFmpeg's stream, with a known codec."""
    frame: Any = None
    """The first picture; None for sound, and where nothing can be decoded."""
    additions: frozenset[int] = frozenset()
    """Kinds of additions to the first packets (BlockAddID of Matroska)."""


@dataclass(frozen=True)
class Fact:
    """A fact of a track."""

    name: str
    """Words for a report."""
    value: Callable[[View], str]
    by_picture: bool = False
    """True if only a decoded picture tells it."""


def _aspect(view: View) -> str:
    aspect = view.stream.sample_aspect_ratio
    return f"{float(aspect):.3f}" if aspect and aspect != 1 else ""


def _colour(attribute: str, unspecified: int) -> Callable[[View], str]:
    def value(view: View) -> str:
        number = int(getattr(view.stream.codec_context, attribute))
        return "" if number in (0, unspecified) else str(number)

    return value


def _fields(view: View) -> str:
    order = int(view.stream.codec_context.field_order)
    return str(order) if order > 1 else ""


def _side_data(name: str, text: Callable[[bytes], str]) -> Callable[[View], str]:
    def value(view: View) -> str:
        found = [bytes(data) for data in geometry.side_data(view.frame) or () if data.type.name == name]
        return text(found[0]) if found else ""

    return value


def digest(raw: bytes) -> str:
    """A value for bytes that tell a reader nothing."""
    return hashlib.sha256(raw).hexdigest()[:16]


def _there(raw: bytes) -> str:
    return "present"


def _numbers(layout: str) -> Callable[[bytes], str]:
    size = struct.calcsize(layout)
    return lambda raw: " ".join(map(str, struct.unpack(layout, raw[:size])))


def _mastering(raw: bytes) -> str:
    """Primaries, white point and luminance; Matroska holds them as floating numbers."""
    numbers = struct.unpack("=20i", raw[:80])
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return " ".join(f"{a / b:.3g}" if b else "-" for a, b in pairs)


def _turn(raw: bytes) -> str:
    text = stream_facts.turn(raw)
    return "" if text == "0 0 0 0" else text  # which no reader can show


def _addition(*numbers: int) -> Callable[[View], str]:
    return lambda view: "present" if view.additions & set(numbers) else ""


PICTURE_FACTS = (
    Fact("aspect of its pixels", _aspect),
    Fact("colour primaries", _colour("color_primaries", 2)),
    Fact("colour transfer", _colour("color_trc", 2)),
    Fact("colour matrix", _colour("colorspace", 2)),
    Fact("colour range", _colour("color_range", 0)),
    Fact("order of fields", _fields),
    Fact("transparency", _addition(1)),
    Fact("colour profile (ICC)", _side_data("ICC_PROFILE", digest), by_picture=True),
    Fact("mastering display", _side_data("MASTERING_DISPLAY_METADATA", _mastering), by_picture=True),
    Fact("light levels", _side_data("CONTENT_LIGHT_LEVEL", _numbers("=2I")), by_picture=True),
    Fact("light around it", _side_data("AMBIENT_VIEWING_ENVIRONMENT", digest), by_picture=True),
    Fact("HDR10+", _side_data("DYNAMIC_HDR_PLUS", _there), by_picture=True),
    Fact("HDR Vivid", _side_data("DYNAMIC_HDR_VIVID", _there), by_picture=True),
    Fact("stereo", _side_data("STEREO3D", _numbers("=2i")), by_picture=True),
    Fact("projection", _side_data("SPHERICAL", _numbers("=4i")), by_picture=True),
    Fact("rotation or mirroring", _side_data("DISPLAYMATRIX", _turn), by_picture=True),
    Fact("closed captions", _side_data("A53_CC", _there), by_picture=True),
)
"""Facts of a track of pictures."""


def _language(view: View) -> str:
    tags = {key.lower(): value for key, value in view.stream.metadata.items()}
    return stream_facts.language(tags.get("language", ""))


TRACK_FACTS = (Fact("language", _language),)
"""Facts of every track, but for its names, flags and tags, which are compared one by one."""


def values(view: View, is_picture: bool) -> dict[str, str]:
    """The facts of a track by name, without those that are not there."""
    facts = TRACK_FACTS + (PICTURE_FACTS if is_picture else ())
    found = {f.name: f.value(view) for f in facts if view.frame is not None or not f.by_picture}
    return {name: value for name, value in found.items() if value}


def by_picture(name: str) -> bool:
    """True for a fact that only a decoded picture tells."""
    return any(fact.by_picture for fact in PICTURE_FACTS if fact.name == name)


_OTHERWISE = re.compile("timecode|software|encoder-.*")
"""Tags that are a fact of their own, or name the program that wrote the file."""


def tags(metadata: Mapping[str, str]) -> dict[str, str]:
    """Tags of a film or track by name, as containers spell them the same, without those of muxers."""
    known = stream_facts.tags(metadata)
    named = {key.lower(): value.strip() for key, value in metadata.items()}
    told = {name: named[name] for name in known if name in named and not _OTHERWISE.fullmatch(name)}
    return {name.replace(" ", "_"): value for name, value in told.items()}
