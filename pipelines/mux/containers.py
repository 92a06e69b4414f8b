"""Containers and codecs of dubbed copies: the source's own container if it can hold a named sound track."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import av

from pipelines.mux.headers import mxf

_WEBM_CODECS = {"vp8", "vp9", "av1", "libdav1d", "libvpx", "libvpx-vp9"}

_NOT_IN_MATROSKA = {
    *("flv1", "flv", "vp6f", "vp6a", "vp6", "h263", "h261"),
    *("wmv1", "wmv2", "wmv3", "vc1", "msmpeg4v1", "msmpeg4v2"),
    *("dvvideo", "dnxhd", "cinepak", "svq1", "svq3", "qtrle", "rpza", "smc", "8bps"),
}
"""Picture codecs of old films that FFmpeg's Matroska muxer does not take."""

_IN_MOV = {"dvvideo", "dnxhd", "cinepak", "svq1", "svq3", "qtrle", "rpza", "smc", "8bps", "h263", "vc1"}
"""Codecs of `_NOT_IN_MATROSKA` that QuickTime holds."""


@dataclass(frozen=True)
class Coding:
    """Encoder settings of the generated track."""

    encoder: str
    """FFmpeg's name of the encoder."""
    bit_rate: int = 0
    rate: int | None = None
    """Sample rate of the coded track; None keeps the rate of the sound if the encoder can."""


CODECS = {
    "aac": Coding("aac", 192_000),
    "opus": Coding("libopus", 128_000, 48_000),
    "flac": Coding("flac"),
    "pcm": Coding("pcm_s16le"),
}
"""Codecs that can be chosen, by name."""

ENCODER_OPTIONS = {"aac": {"aac_coder": "fast"}}
"""Options by FFmpeg's encoder. At 192 kbit/s the fast AAC coder is 0.4 to 8 dB nearer to the sound than the two-loop
one, which leaves bits unused, and takes half the time; coding takes most of a long film's mux."""

LOSSLESS = ("flac", "pcm_s16le")
"""FFmpeg's names of the codecs that give every sample back."""


@dataclass(frozen=True)
class Container:
    """An output container: FFmpeg's muxer, the codec of the generated track, and its abilities."""

    muxer: str
    codec: str
    rate: int | None = None
    """Sample rate of the coded track; None keeps the rate of the sound."""
    bit_rate: int = 0
    suffixes: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    """FFmpeg's demuxer names for this container; films that others read change their container."""
    holds_start: bool = True
    """A track can begin later than the file; otherwise silence is put before it."""
    kept: bool = True
    """Films of this container keep it where it can hold the result; otherwise only those whose pictures Matroska does
    not hold, as players know one track there, or no title."""
    pictures: frozenset[str] = frozenset()
    """Codecs of pictures that it holds; empty for all that its muxer takes."""
    sound_rate: int | None = None
    """Sample rate that the sound must have before it is coded; None for any."""
    tries: bool = False
    """The muxer refuses films only while they are written, so every failure means that it cannot hold them."""
    tail: int = 0
    """Samples of silence after the sound, for encoders that keep their last samples otherwise."""
    options: tuple[tuple[str, str], ...] = ()
    subtitles: str = ""
    """Codec of a plain text subtitle track; empty if the container holds none."""
    codecs: tuple[str, ...] = ()
    """Names in `CODECS` that the container holds and players support there."""

    def holds(self, codec: str) -> bool:
        """True if the container holds this codec, a name in `CODECS` or `auto` for its own."""
        return codec == "auto" or codec in self.codecs

    def shows(self, video_codec: str) -> bool:
        """True if the container may hold pictures of this codec."""
        return not self.pictures or video_codec in self.pictures

    def coded(self, codec: str) -> Container:
        """This container with another codec for the generated track. Raises ValueError if it cannot hold that."""
        if not self.holds(codec):
            able = ", ".join(self.codecs) or "none that can be chosen"
            raise ValueError(f"{self.muxer} does not hold {codec} sound; it holds {able}")
        if codec == "auto":
            return self
        coding = CODECS[codec]
        return replace(self, codec=coding.encoder, rate=coding.rate, bit_rate=coding.bit_rate, tail=0)

    def reads(self, format_name: str) -> bool:
        """True if a film keeps its container here. format_name: FFmpeg's demuxer."""
        return bool(set(format_name.lower().split(",")) & set(self.source))


# Tags with any names are kept (`use_metadata_tags`), edit lists are as precise as the generated samples, and Dolby
# Vision, spherical video and stereo are written.
_MP4_OPTIONS = (("movflags", "+use_metadata_tags"), ("movie_timescale", "44100"), ("strict", "unofficial"))

CONTAINERS = (
    Container(
        "mp4",
        "aac",
        suffixes=(".mp4", ".m4v"),
        source=("mov",),
        bit_rate=192_000,
        options=_MP4_OPTIONS,
        subtitles="mov_text",
        codecs=("aac", "opus", "flac"),
    ),
    Container(
        "mov",
        "aac",
        suffixes=(".mov", ".qt"),
        source=("mov",),
        bit_rate=192_000,
        options=_MP4_OPTIONS,
        subtitles="mov_text",
        codecs=("aac", "pcm"),
    ),
    Container(
        "webm",
        "libopus",
        suffixes=(".webm",),
        source=("matroska", "webm"),
        rate=48_000,
        bit_rate=128_000,
        codecs=("opus",),
        pictures=frozenset(_WEBM_CODECS),
    ),
    Container("avi", "pcm_s16le", suffixes=(".avi",), source=("avi",), holds_start=False, codecs=("pcm",)),
    Container(
        "mxf",
        "pcm_s16le",
        suffixes=(".mxf",),
        source=("mxf",),
        holds_start=False,
        codecs=("pcm",),
        pictures=mxf.PICTURES,
        sound_rate=mxf.SOUND_RATE,
        tries=True,
    ),
    Container(
        "matroska",
        "flac",
        suffixes=(".mkv",),
        source=("matroska", "webm"),
        codecs=("aac", "opus", "flac", "pcm"),
        subtitles="subrip",
    ),
    Container(
        "flv",
        "aac",
        suffixes=(".flv",),
        source=("flv",),
        bit_rate=192_000,
        kept=False,
        codecs=("aac",),
    ),
    Container(
        "asf",
        "wmav2",
        suffixes=(".wmv", ".asf"),
        source=("asf",),
        bit_rate=192_000,
        kept=False,
        tail=2048,
    ),
)


_MOV = next(kind for kind in CONTAINERS if kind.muxer == "mov")


def output_name(path: str, *, container: str, video_codec: str, audio_codec: str = "auto") -> str:
    """Relative path of the dubbed copy of `path`: the same path if its container can hold the result.

    `container` and `video_codec` are FFmpeg's names, from the probe. The container is kept if the suffix matches the
    content and it can carry a named track: mp4, m4v, mov, mkv, avi, webm with a codec that WebM allows, and MXF (whose
    tracks have no names) with one that FFmpeg writes there; with an `audio_codec` (in `CODECS`) only if it holds that
    too. Relatives of mp4 with other suffixes, such as 3gp, become `<path>.mov`, which has their edit lists. Everything
    else becomes `<path>.mkv`, except for old codecs that Matroska does not hold: they stay in FLV or ASF, or go to
    `<path>.mov`, which then may not hold the sound's codec (`Container.coded` raises for that).
    """
    suffix = PurePosixPath(path).suffix.lower()
    codec = video_codec.lower()
    for kind in CONTAINERS:
        if suffix in kind.suffixes and kind.reads(container):
            old = codec in _NOT_IN_MATROSKA
            if not kind.shows(codec) or not (kind.holds(audio_codec) or (old and not kind.tries)):
                continue
            if kind.kept or old:
                return path
    if codec not in _IN_MOV and not (_MOV.reads(container) and _MOV.holds(audio_codec)):
        return f"{path}.mkv"
    return f"{path}.mov"


def container_of(path: str | os.PathLike[str]) -> Container:
    """The output container for a destination's suffix. Raises ValueError for any other suffix."""
    suffix = Path(path).suffix.lower()
    for kind in CONTAINERS:
        if suffix in kind.suffixes:
            return kind
    choices = ", ".join(s for kind in CONTAINERS for s in kind.suffixes)
    raise ValueError(
        f"cannot write a dubbed film as {suffix or 'a name without suffix'!r}; one of: {choices}"
    )


def set_up(context: Any, kind: Container, channels: int) -> None:
    """Set layout, options and bit rate of an encoder of the generated sound."""
    context.layout = layout(channels)
    context.options = dict(ENCODER_OPTIONS.get(kind.codec, {}))
    if kind.bit_rate:
        context.bit_rate = kind.bit_rate


def coded_rate(kind: Container, rate: int) -> int:
    """Rate of the coded track for sound at `rate`: the same, or the next higher one that the encoder supports."""
    rates = sorted(av.Codec(kind.codec, "w").audio_rates or [])
    return next((r for r in rates if r >= rate), rates[-1]) if rates else rate


def layout(channels: int) -> str:
    """FFmpeg's name of the layout of a generated track. Raises ValueError unless it has 1 or 2 channels."""
    if channels not in (1, 2):
        raise ValueError(f"a generated track has 1 or 2 channels, not {channels}")
    return "mono" if channels == 1 else "stereo"
