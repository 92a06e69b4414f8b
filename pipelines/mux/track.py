"""Tracks to be muxed, the result, and failures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.media.errors import DecodeFailed
from pipelines.mux import subtitles
from pipelines.mux.packet_hashes import Digests

TITLE = "v2a (generated)"

LANGUAGE = "zxx"
"""ISO 639-2: no linguistic content."""

ALTERNATIVE = "v2a (generated, alternative {})"
"""Title of the second track and those after it."""


@dataclass(frozen=True)
class MuxResult:
    """Facts about a file that was written."""

    container: str
    """FFmpeg's name of the muxer: mp4, mov, webm, avi, matroska ..."""
    audio_codec: str
    n_samples: int
    """Samples of generated sound, at its own rate."""
    size: int
    """Bytes of the file."""
    dropped: tuple[str, ...] = ()
    """Streams and facts of the source that are not in the copy, in words."""
    source_sha256: str = ""
    """SHA-256 of the whole source as it was read for this copy."""
    digests: Digests = field(default_factory=Digests)
    """Hashes of the packets that were written."""
    presented: dict[str, Any] = field(default_factory=dict)
    """Description of what the file presents (`pipelines.mux.presented`)."""
    beside: int = 0
    """Bytes of the file beside the film, which holds streams that the copy does not; 0 for none."""
    converted: tuple[str, ...] = ()
    """Sound tracks of the source that are decoded in the copy, in words."""


Seal = Callable[[Path, int, MuxResult], None]
"""Called with each finished file before it gets its name, and its number from 1; it may replace the file."""


@dataclass(frozen=True)
class Track:
    """The sound track to add, or several with the same format."""

    n_samples: int
    video_start_s: float
    """Container time of the first picture (`Probe.video_start_s`), at which the first sample plays."""
    channels: int = 1
    sample_rate: int = 44_100
    title: str = TITLE
    default: bool = True
    """True for the track that players choose. It comes before the other sound tracks, because some players and
    containers have no other way to mark it. Use False if another track is audible: the new one then comes last."""
    tags: dict[str, str] = field(default_factory=dict)
    """Metadata of the container (`sidecar.tags`); a comment of the source stays before ours."""
    captions: Sequence[subtitles.Cue] = ()
    """Subtitles, written as a track if the container can hold one."""
    codec: str = "auto"
    """A name in `containers.CODECS`; `auto` for the codec of the container."""
    tracks: int = 1
    """Number of tracks; the sound has `tracks * channels` channels, track after track."""
    replaces: int | None = None
    """Number of the sound track of the source that the new one replaces."""
    old_comment: str = ""
    """Text to remove from the source's comment, with a track that is replaced."""
    broadcast: dict[str, str] = field(default_factory=dict)
    """Chunk `bext` of a WAV file (`audio_file.broadcast`); empty for none."""
    strict: bool = False
    """True if the copy fails rather than leave out a stream or a fact of the source."""

    @property
    def titles(self) -> list[str]:
        return [self.title, *(ALTERNATIVE.format(k) for k in range(2, self.tracks + 1))]


class MuxFailed(DecodeFailed):
    """The film cannot be copied, and the file is the reason."""

    def __init__(self, error_class: str, message: str, stage: str = "mux") -> None:
        super().__init__(error_class, message, stage)
