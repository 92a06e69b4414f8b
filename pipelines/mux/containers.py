"""Which container and codec a dubbed copy gets: the source's own where it can hold a named sound track."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

_WEBM_CODECS = {"vp8", "vp9", "av1", "libdav1d", "libvpx", "libvpx-vp9"}

_NOT_IN_MATROSKA = {
    *("flv1", "flv", "vp6f", "vp6a", "vp6", "h263", "h261"),
    *("wmv1", "wmv2", "wmv3", "vc1", "msmpeg4v1", "msmpeg4v2"),
    *("dvvideo", "dnxhd", "cinepak", "svq1", "svq3", "qtrle", "rpza", "smc", "8bps"),
}
"""Picture codecs of old films that FFmpeg's Matroska muxer does not take."""

_IN_MOV = {"dvvideo", "dnxhd", "cinepak", "svq1", "svq3", "qtrle", "rpza", "smc", "8bps", "h263", "vc1"}
"""Those of them that QuickTime holds."""


@dataclass(frozen=True)
class Coding:
    """How the generated track is coded."""

    encoder: str
    """FFmpeg's name."""
    bit_rate: int = 0
    rate: int | None = None
    """Sample rate of the coded track; None keeps the rate of the sound where the encoder can."""


CODECS = {
    "aac": Coding("aac", 192_000),
    "opus": Coding("libopus", 128_000, 48_000),
    "flac": Coding("flac"),
    "pcm": Coding("pcm_s16le"),
}
"""Codecs that can be asked for, by name."""

ENCODER_OPTIONS = {"aac": {"aac_coder": "fast"}}
"""Of FFmpeg's encoders. At 192 kbit/s the plain coder comes 0.4 to 8 dB nearer to the sound than the searching one,
which leaves bits unused, in half the time: coding is most of what a long film's mux costs."""

LOSSLESS = ("flac", "pcm_s16le")
"""FFmpeg's names of those that give every sample back."""


@dataclass(frozen=True)
class Container:
    """An output container: FFmpeg's muxer, the codec of the generated track, and what it can do."""

    muxer: str
    codec: str
    rate: int | None = None
    """Sample rate of the coded track; None keeps the rate of the sound."""
    bit_rate: int = 0
    suffixes: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    """Names of FFmpeg's demuxer that this container reads as: anything else changes container."""
    holds_start: bool = True
    """Whether a track can begin later than the file; where it cannot, silence is put before it."""
    names_tracks: bool = True
    """Whether a track can have a title. Where it cannot, only the container's comment says what it is."""
    tail: int = 0
    """Samples of silence after the sound, where the encoder does not give out its last ones otherwise."""
    options: tuple[tuple[str, str], ...] = ()
    subtitles: str = ""
    """Codec of a subtitle track of plain text; empty where the container holds none."""
    codecs: tuple[str, ...] = ()
    """Names of `CODECS` that it holds and players read there."""

    def holds(self, codec: str) -> bool:
        """Whether it holds a track of a codec of `CODECS`, or of its own (`auto`)."""
        return codec == "auto" or codec in self.codecs

    def coded(self, codec: str) -> Container:
        """This container with another codec for the generated track. Raises ValueError if it does not hold it."""
        if not self.holds(codec):
            able = ", ".join(self.codecs) or "none that can be chosen"
            raise ValueError(f"{self.muxer} does not hold {codec} sound; it holds {able}")
        if codec == "auto":
            return self
        coding = CODECS[codec]
        return replace(self, codec=coding.encoder, rate=coding.rate, bit_rate=coding.bit_rate, tail=0)

    def reads(self, format_name: str) -> bool:
        """Whether a film that FFmpeg's demuxer calls `format_name` stays in its own container here."""
        return bool(set(format_name.lower().split(",")) & set(self.source))


# Every tag is kept as it is (`use_metadata_tags`), and edit lists are as fine as the generated samples.
_MP4_OPTIONS = (("movflags", "+use_metadata_tags"), ("movie_timescale", "44100"))

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
    ),
    Container("avi", "pcm_s16le", suffixes=(".avi",), source=("avi",), holds_start=False, codecs=("pcm",)),
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
        names_tracks=False,
        codecs=("aac",),
    ),
    Container(
        "asf",
        "wmav2",
        suffixes=(".wmv", ".asf"),
        source=("asf",),
        bit_rate=192_000,
        names_tracks=False,
        tail=2048,
    ),
)


def output_name(path: str, *, container: str, video_codec: str, audio_codec: str = "auto") -> str:
    """Relative path of the dubbed copy of `path`: the same one where its container can hold the result.

    `container` and `video_codec` are what the probe found (FFmpeg's names). The container is kept when the
    suffix and the content agree and it can carry a named track: mp4, m4v, mov, mkv, avi, and webm with a
    codec that WebM allows; with an `audio_codec` (of `CODECS`) only where it holds that too. Everything else becomes
    `<path>.mkv`, but for old codecs that Matroska does not take: they stay in FLV or ASF, or go to `<path>.mov`,
    which then may not hold the sound's codec (`Container.coded` says so).
    """
    suffix = PurePosixPath(path).suffix.lower()
    codec = video_codec.lower()
    for kind in CONTAINERS:
        if suffix in kind.suffixes and kind.reads(container):
            if kind.muxer == "webm" and codec not in _WEBM_CODECS:
                continue
            if codec not in _NOT_IN_MATROSKA and not kind.holds(audio_codec):
                continue
            if kind.names_tracks or codec in _NOT_IN_MATROSKA:
                return path
    return f"{path}.mov" if codec in _IN_MOV else f"{path}.mkv"


def container_of(path: str | os.PathLike[str]) -> Container:
    """The output container that a destination's suffix stands for. Raises ValueError for any other suffix."""
    suffix = Path(path).suffix.lower()
    for kind in CONTAINERS:
        if suffix in kind.suffixes:
            return kind
    choices = ", ".join(s for kind in CONTAINERS for s in kind.suffixes)
    raise ValueError(
        f"cannot write a dubbed film as {suffix or 'a name without suffix'!r}; one of: {choices}"
    )
