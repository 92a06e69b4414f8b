"""Tracks to be muxed, the result, and failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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
    """What was written."""

    container: str
    """FFmpeg's name of the muxer: mp4, mov, webm, avi, matroska."""
    audio_codec: str
    n_samples: int
    """Samples of generated sound that were taken, at the rate of the sound."""
    size: int
    """Bytes of the file."""
    dropped: tuple[str, ...] = ()
    """Streams of the source that the container cannot hold, in words."""
    source_sha256: str = ""
    """Of the whole source as it was read for this copy."""
    digests: Digests = field(default_factory=Digests)
    """Of the packets that were written."""


@dataclass(frozen=True)
class Track:
    """The sound track to add, or several of the same form."""

    n_samples: int
    video_start_s: float
    """Container time of the first picture, as the probe reports it: the first sample belongs there."""
    channels: int = 1
    sample_rate: int = 44_100
    title: str = TITLE
    default: bool = True
    """The track that players choose. It then comes before the other sound tracks, since some players and
    containers know no other way. Say False where another track is audible: it then comes last."""
    tags: dict[str, str] = field(default_factory=dict)
    """Metadata for the container (`provenance.tags`); a comment of the source stays in front of ours."""
    captions: Sequence[subtitles.Cue] = ()
    """Written as a subtitle track where the container holds one."""
    codec: str = "auto"
    """One of `containers.CODECS`, or that of the container."""
    tracks: int = 1
    """How many tracks; the sound has `tracks * channels` channels then, track after track."""
    replaces: int | None = None
    """Number of a sound track of the source that is left out, and in whose place the new one comes."""
    old_comment: str = ""
    """What of the source's comment goes away, with a track that is replaced."""

    @property
    def titles(self) -> list[str]:
        return [self.title, *(ALTERNATIVE.format(k) for k in range(2, self.tracks + 1))]


class MuxFailed(DecodeFailed):
    """The file could not be copied, and the file is the reason."""

    def __init__(self, error_class: str, message: str, stage: str = "mux") -> None:
        super().__init__(error_class, message, stage)
