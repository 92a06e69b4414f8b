"""Put a generated sound track into a copy of a film, without re-encoding anything that was there.

The picture is copied packet by packet, bit for bit; sound tracks, subtitles, chapters, attachments, metadata
and rotation stay where the container can hold them; the generated track is added and named. One pass over
the source, one pass over the sound, memory flat in the film's length but for the index that the container
itself needs (in mp4, mov and avi some 90 bytes per packet: 20 MB for an hour, written at the end).

The same source and sound give the same bytes: no dates, no random identifiers.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from pipelines import media, storage
from pipelines.containers import Container, container_of, output_name
from pipelines.media import DecodeFailed
from pipelines.mux_io import Sink, Source, TooLarge, disk_error

__all__ = ["TITLE", "MuxFailed", "MuxResult", "Track", "mux", "mux_in_child", "output_name", "video_digest"]

TITLE = "v2a (generated)"
LANGUAGE = "zxx"
"""ISO 639-2: no linguistic content."""

_BLOCK = 8192
"""Samples that go to the encoder at a time; the track is never more than this ahead of the picture."""

_BITEXACT = 0x400  # AVFMT_FLAG_BITEXACT


@dataclass(frozen=True)
class Track:
    """The sound track to add."""

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
    """Streams of the source that the container cannot hold, in words (time code and chapter data, mostly)."""


class MuxFailed(DecodeFailed):
    """The file could not be copied, and the file is the reason."""

    def __init__(self, error_class: str, message: str, stage: str = "mux") -> None:
        super().__init__(error_class, message, stage)


def mux(
    source_uri: str,
    sound: Iterable[np.ndarray],
    destination: str | os.PathLike[str],
    *,
    n_samples: int,
    video_start_s: float,
    channels: int = 1,
    sample_rate: int = 44_100,
    tags: dict[str, str] | None = None,
    title: str = TITLE,
    default: bool = True,
) -> MuxResult:
    """Copy the film at `source_uri` to `destination` with one more sound track.

    sound: int16 arrays [channels, n] of any lengths, `n_samples` in all, at `sample_rate`; consumed as a
        stream, never more than a block ahead of the picture. The other arguments are described at `Track`.
    destination: a local path; its suffix names the container (`containers.CONTAINERS`). Written beside, then
        renamed: there is never a partial file under that name.

    Raises MuxFailed for what the file causes (`ContainerCannotHold`: take the `.mkv` name), StorageError for
    the disk, ValueError for sound that is not as announced.
    """
    track = Track(n_samples, video_start_s, channels, sample_rate, title, default, tags or {})
    target = Path(destination)
    container_of(target)
    temporary = Path(storage.temporary_name(str(target)))
    try:
        result = mux_to(source_uri, sound, str(temporary), track)
        temporary.replace(target)
    except OSError as error:
        raise disk_error(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return result


def mux_in_child(
    source_uri: str,
    sound: Iterable[np.ndarray],
    destination: str | os.PathLike[str],
    *,
    n_samples: int,
    video_start_s: float,
    channels: int = 1,
    sample_rate: int = 44_100,
    tags: dict[str, str] | None = None,
    title: str = TITLE,
    default: bool = True,
    memory_mb: int = 2048,
    stall_s: float = 120.0,
) -> MuxResult:
    """`mux` in a process of its own, for files that nobody vouches for.

    The child has `memory_mb` of address space and is killed when it makes no headway for `stall_s` seconds
    (time spent waiting for `sound` does not count). A crash, a hang or too much memory is MuxFailed
    (`MuxerCrashed`, `MuxerTimeout`, `MuxerOutOfMemory`); whatever `sound` raises comes through as it is.
    """
    from pipelines import mux_child  # which imports this module

    track = Track(n_samples, video_start_s, channels, sample_rate, title, default, tags or {})
    return mux_child.run(source_uri, sound, Path(destination), track, memory_mb, stall_s)


def mux_to(
    source_uri: str,
    sound: Iterable[np.ndarray],
    path: str,
    track: Track,
    beat: Callable[[], None] = lambda: None,
) -> MuxResult:
    """`mux` straight to `path`, where a partial file stays if it fails. Calls `beat` as it advances."""
    kind = container_of(path)
    try:
        with storage.open_read(source_uri) as file:
            source = Source(file, source_uri)
            # Entries of a hostile index may all point at the same bytes; a real copy is about as large
            # as its source and the sound together.
            limit = 2 * source.size + 4 * track.channels * track.n_samples + (64 << 20)
            with Sink(path, limit) as sink:
                dropped = _copy(source, sink, kind, _blocks(sound, track), track, beat)
                size = sink.finish()
    except OSError as error:
        raise disk_error(Path(path), error) from error
    return MuxResult(kind.muxer, kind.codec, track.n_samples, size, tuple(dropped))


def _copy(
    source: Source,
    sink: Sink,
    kind: Container,
    blocks: Iterator[np.ndarray],
    track: Track,
    beat: Callable[[], None],
) -> list[str]:
    """Write the film with its new track; the streams left out, in words."""
    try:
        with source.open() as film:
            shift = _shift(film, kind)
            out = _Output(film, sink, kind, track)
            encoder = _Encoder(out, track, float(shift))
            last_dts: dict[int, int] = {}
            for packet in _packets(film, out.copies):
                copy = out.copies[packet.stream]
                _repair_times(packet, last_dts, round(shift / packet.time_base))
                moment = packet.dts * packet.time_base
                while encoder.position <= moment and (block := next(blocks, None)) is not None:
                    encoder.feed(block)
                    beat()
                packet.stream = copy
                out.container.mux(packet)
                beat()
            for block in blocks:
                encoder.feed(block)
                beat()
            encoder.finish()
            out.container.close()
            return out.dropped
    except (av.FFmpegError, OSError, TooLarge) as error:
        if source.error is not None:
            raise source.error from error
        if isinstance(sink.error, OSError):
            raise sink.error from error
        if isinstance(error, TooLarge) or sink.error is not None:
            raise MuxFailed("OutputTooLarge", str(sink.error or error)) from error
        if isinstance(error, av.FFmpegError):
            raise MuxFailed(type(error).__name__, media.words(error)) from error
        raise


def _packets(film: Any, streams: Iterable[Any]) -> Iterator[Any]:
    """Packets until the end of what can be read: a cut-off file simply ends, as it does for `decode`."""
    packets = film.demux(*streams)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.InvalidDataError, av.EOFError):
            return
        if packet.size or packet.dts is not None:  # PyAV marks the end of each stream by an empty packet
            yield packet


def _shift(film: Any, kind: Container) -> Fraction:
    """Seconds to add to every time. A copy in the same container keeps its times; a copy into another one
    starts at zero, since broadcast streams begin anywhere up to a day in."""
    if kind.reads(film.format.name) or film.start_time is None:
        return Fraction(0)
    return -Fraction(film.start_time, av.time_base)


def _repair_times(packet: Any, last_dts: dict[int, int], shift: int) -> None:
    """Move a packet by `shift` ticks and give it the times that muxers insist on: a dts that rises within
    the stream and does not come after pts."""
    last = last_dts.get(packet.stream_index)
    if packet.dts is not None:
        dts = packet.dts + shift
    elif last is not None:
        dts = last + max(1, packet.duration or 1)
    else:
        dts = (packet.pts or 0) + shift
    pts = dts if packet.pts is None else packet.pts + shift
    if last is not None and dts <= last:
        dts = last + 1
    if pts < dts:
        # One of the two is wrong. Bringing dts forward keeps the picture at its time.
        if last is None or pts > last:
            dts = pts
        else:
            pts = dts
    packet.pts, packet.dts = pts, dts
    last_dts[packet.stream_index] = dts


class _Output:
    """The output container: a copy of every stream it can hold, the new track, and its header written."""

    container: Any
    copies: dict[Any, Any]
    track: Any
    dropped: list[str]

    def __init__(self, film: Any, sink: Sink, kind: Container, track: Track) -> None:
        self.kind, self._film, self._sink, self._spec = kind, film, sink, track
        # Players tell hvc1 from hev1 and XVID from FMP4 by the codec tag: it stays where the container does.
        # A muxer that refuses one is asked again without.
        same = kind.reads(film.format.name)
        for keep_codec_tags in (True, False) if same else (False,):
            sink.restart()
            try:
                self._open(keep_codec_tags)
                return
            except (av.FFmpegError, ValueError) as error:
                if sink.error is not None or not isinstance(error, (av.FFmpegError, ValueError)):
                    raise
                refusal: Exception = error
        words = media.words(refusal) if isinstance(refusal, av.FFmpegError) else str(refusal)
        raise MuxFailed("ContainerCannotHold", f"{kind.muxer} cannot hold this film: {words}") from refusal

    def _open(self, keep_codec_tags: bool) -> None:
        self.container = av.open(
            self._sink,
            "w",
            format=self.kind.muxer,
            container_options=dict(self.kind.options),
            metadata_errors="surrogateescape",
            buffer_size=1 << 18,
        )
        self.container.flags |= _BITEXACT
        self.copies, self.dropped = {}, []
        has_track = False
        for stream in self._film.streams:
            if stream.type == "audio" and self._spec.default and not has_track:
                self._add_track()
                has_track = True
            if why := self._add_copy(stream, keep_codec_tags):
                self.dropped.append(f"{stream.type} stream {stream.index}: {why}")
        if not has_track:
            self._add_track()
        alone = not any(stream.type == "audio" for stream in self.copies)
        self.track.disposition = Disposition.default if self._spec.default or alone else 0
        self.container.metadata.update(metadata(self._film.metadata, self._spec.tags))
        if chapters := self._film.chapters():
            self.container.set_chapters(chapters)
        self.container.start_encoding()

    def _add_copy(self, stream: Any, keep_codec_tag: bool) -> str:
        """Add a copy of a stream, or say why not."""
        context = stream.codec_context
        if stream.type == "attachment":
            if self.kind.muxer != "matroska":
                return f"{self.kind.muxer} holds no attachments"
            # Its content is part of the header: no packets to copy.
            self.container.add_stream_from_template(stream)
            return ""
        if stream.type not in ("video", "audio", "subtitle"):
            return (
                "time code, chapter or camera data"  # of these the muxer writes the first two from metadata
            )
        if context is None:
            return "a codec that FFmpeg does not know"
        try:
            # With `opaque` the parameters are copied as they are and no encoder of that name has to exist.
            copy = self.container.add_stream_from_template(stream, opaque=True)
        except ValueError:
            if stream.type == "subtitle":
                return f"{self.kind.muxer} does not hold {context.name} subtitles"
            raise
        copy.metadata.update(stream.metadata)
        disposition = int(stream.disposition)
        if stream.type == "audio" and self._spec.default:
            disposition &= ~int(Disposition.default)
        copy.disposition = disposition
        if stream.type == "video" and (aspect := stream.sample_aspect_ratio):
            copy.codec_context.sample_aspect_ratio = aspect
            # PyAV cannot pass it to the Matroska muxer: it survives in the codec's own headers or not at all.
            if aspect != 1 and self.kind.muxer in ("matroska", "webm") and context.name in ("vp8", "vp9"):
                self.dropped.append(f"video stream {stream.index}: its pixel aspect of {aspect}")
        if keep_codec_tag:
            copy.codec_context.codec_tag = context.codec_tag
        self.copies[stream] = copy
        return ""

    def _add_track(self) -> None:
        kind, spec = self.kind, self._spec
        self.track = self.container.add_stream(kind.codec, rate=kind.rate or spec.sample_rate)
        self.track.codec_context.layout = _layout(spec.channels)
        if kind.bit_rate:
            self.track.codec_context.bit_rate = kind.bit_rate
        self.track.metadata.update({"title": spec.title, "language": LANGUAGE})
        if kind.muxer in ("mp4", "mov"):
            self.track.metadata["handler_name"] = spec.title


def metadata(source: dict[str, str], tags: dict[str, str]) -> dict[str, str]:
    """Container metadata of the copy: what the source says, then what `tags` add."""
    brands = {
        "major_brand",
        "minor_version",
        "compatible_brands",
    }  # the muxer's own, not facts about the film
    kept = {key: value for key, value in source.items() if key.lower() not in brands}
    for key in list(kept):
        if (match := re.fullmatch(r"(.+)-[a-z]{3}", key)) and kept.get(match[1]) == kept[key]:
            del kept[key]  # FFmpeg lists a tag that has a language twice
    names = {key.lower(): key for key in kept}
    for key, value in tags.items():
        name = names.get(key.lower(), key)
        kept[name] = f"{kept[name]}\n{value}" if key == "comment" and kept.get(name) else value
    return kept


class _Encoder:
    """Feeds sound to the new track and its packets to the muxer."""

    def __init__(self, out: _Output, track: Track, shift_s: float) -> None:
        self._out, self._track = out.container, out.track
        self._rate, self._layout = track.sample_rate, _layout(track.channels)
        self._next = round((track.video_start_s + shift_s) * track.sample_rate)
        self._channels, self._tail = track.channels, out.kind.tail
        if not out.kind.holds_start:
            lead, self._next = max(0, self._next), min(0, self._next)
            self._rest(lead)

    @property
    def position(self) -> Fraction:
        """Container time, in seconds, of the next sample."""
        return Fraction(self._next, self._rate)

    def feed(self, block: np.ndarray) -> None:
        """int16 [channels, n]"""
        interleaved = np.ascontiguousarray(block.T).reshape(1, -1)
        frame: Any = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=self._layout)
        frame.sample_rate = self._rate
        frame.time_base = Fraction(1, self._rate)
        frame.pts = self._next
        self._next += block.shape[1]
        self._out.mux(self._track.encode(frame))

    def finish(self) -> None:
        self._rest(self._tail)
        self._out.mux(self._track.encode(None))

    def _rest(self, n_samples: int) -> None:
        for at in range(0, n_samples, _BLOCK):
            self.feed(np.zeros((self._channels, min(_BLOCK, n_samples - at)), np.int16))


def _layout(channels: int) -> str:
    if channels not in (1, 2):
        raise ValueError(f"a generated track has 1 or 2 channels, not {channels}")
    return "mono" if channels == 1 else "stereo"


def _blocks(sound: Iterable[np.ndarray], track: Track) -> Iterator[np.ndarray]:
    """The sound in blocks of at most `_BLOCK` samples, checked: int16 [channels, n]."""
    seen = 0
    for chunk in sound:
        if chunk.dtype != np.int16 or chunk.ndim != 2 or chunk.shape[0] != track.channels:
            raise ValueError(
                f"sound must be int16 [{track.channels}, n], not {chunk.dtype} {list(chunk.shape)}"
            )
        seen += chunk.shape[1]
        if seen > track.n_samples:
            raise ValueError(f"the sound has more than the {track.n_samples} samples that were announced")
        for at in range(0, chunk.shape[1], _BLOCK):
            yield chunk[:, at : at + _BLOCK]
    if seen < track.n_samples:
        raise ValueError(f"the sound ends after {seen} of {track.n_samples} samples")


def video_digest(uri: str, *, nal_units: bool = False) -> str:
    """sha256 over the payloads of the video packets, stream after stream: equal before and after `mux`.

    nal_units: hash H.264 and HEVC as sequences of NAL units, whatever separates them. Needed where the copy
    went from a transport stream (start codes) to Matroska (lengths); the units themselves are the same bits.
    """
    with storage.open_read(uri) as file, Source(file, uri).open() as film:
        streams = [stream for stream in film.streams.video if not media.is_attached(stream)]
        hashes = {stream.index: hashlib.sha256() for stream in streams}
        for packet in _packets(film, streams) if streams else ():
            payload = bytes(packet)
            if nal_units and packet.stream.codec_context.name in ("h264", "hevc"):
                payload = b"".join(_nal_units(payload, packet.stream.codec_context))
            hashes[packet.stream_index].update(payload)
    return hashlib.sha256(b"".join(h.digest() for h in hashes.values())).hexdigest()


def _nal_units(payload: bytes, context: Any) -> Iterator[bytes]:
    extradata = bytes(context.extradata or b"")
    if extradata[:1] != b"\x01":  # start codes
        yield from (unit.rstrip(b"\0") for unit in re.split(rb"\x00\x00\x00?\x01", payload) if unit)
        return
    width = 1 + (extradata[4 if context.name == "h264" else 21] & 3)
    at = 0
    while at + width <= len(payload):
        size = int.from_bytes(payload[at : at + width], "big")
        yield payload[at + width : at + width + size].rstrip(b"\0")
        at += width + size
