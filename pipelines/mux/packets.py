"""The output container of a mux, with a copy of every stream it can hold, and the repair of packet times.

The encoder of the new track is in `pipelines.mux.audio_encoder`.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
from av.stream import Discard, Disposition

from pipelines.media import container as media_container
from pipelines.media.pictures.cropping import Crop
from pipelines.mux import stream_facts, subtitles
from pipelines.mux.containers import Container, coded_rate, set_up
from pipelines.mux.files import Sink
from pipelines.mux.headers import chapters as matroska_chapters
from pipelines.mux.headers import matroska, mxf, riff
from pipelines.mux.headers.source import SourceHeaders
from pipelines.mux.streams import left_out, time_code
from pipelines.mux.streams.converted import ConvertedTrack
from pipelines.mux.track import LANGUAGE, MuxFailed, Track

_REORDERED = 16
"""Largest number of pictures that a decoder may hold back."""


def shift_of(film: Any, kind: Container) -> Fraction:
    """Seconds to add to every time.

    A copy in the same container keeps its times. A copy in another one starts at zero, because broadcast streams begin
    at any time up to a day.
    """
    if kind.reads(film.format.name) or film.start_time is None:
        return Fraction(0)
    return -Fraction(film.start_time, av.time_base)


def repair_times(packet: Any, last_dts: dict[int, int], shift: int) -> None:
    """Move a packet by `shift` ticks and give it the times that muxers require.

    Its dts must rise within the stream and not exceed its pts. last_dts: the last dts by stream, updated here.
    """
    last, guesses = last_dts.get(packet.stream_index), ~packet.stream_index
    if packet.dts is not None:
        dts = packet.dts + shift
        last_dts[guesses] = _REORDERED
    elif last is not None:
        # Matroska has no dts for the first pictures if a decoder holds some back. The next ones are small: whole steps
        # here would push them, and their pictures, to later times.
        held_back = packet.pts is not None and last_dts.get(guesses, 0) < _REORDERED
        dts = last + (1 if held_back else max(1, packet.duration or 1))
        last_dts[guesses] = last_dts.get(guesses, 0) + 1
    else:
        dts = (packet.pts or 0) + shift
    pts = dts if packet.pts is None else packet.pts + shift
    if last is not None and dts <= last:
        dts = last + 1
    if pts < dts:
        # One of the two is wrong. An earlier dts keeps the picture at its time.
        if last is None or pts > last:
            dts = pts
        else:
            pts = dts
    packet.pts, packet.dts = pts, dts
    last_dts[packet.stream_index] = dts


class Output:
    """The output container, its header written: a copy of every stream it can hold, and the new track."""

    container: Any
    copies: dict[Any, Any]
    tracks: list[Any]
    captions: Any
    """The subtitle stream, or None."""
    dropped: list[str]
    """Streams and facts of the film that are not in the container, in words."""
    left: dict[int, int]
    """Places in `dropped` of the streams that are left out, by their identifiers."""
    headers: dict[int, matroska.TrackHeader]
    """Headers to write into the finished file (`matroska.write_headers`)."""
    comment: str
    """The comment in the tags of the copy."""
    indexes: dict[int, int]
    """Indexes of the copied streams, by those of the source's."""
    track_ids: dict[int, int]
    """Identifiers of the copied tracks in mp4, by those of the source's."""
    languages: dict[int, str]
    """Codes of languages by the identifiers of the tracks in mp4."""
    source_format: str
    """FFmpeg's name of the demuxer of the film."""
    converted: dict[Any, ConvertedTrack]
    """Sound streams of the film that are decoded, because the container does not hold their coding."""

    def __init__(
        self, film: Any, sink: Sink, kind: Container, track: Track, headers: SourceHeaders,
        crops: dict[int, Crop], timescale: int = 0, chapters: Any = None,
    ) -> None:  # fmt: skip
        """headers: facts that FFmpeg does not tell. crops: what the film's container leaves out of its pictures, by
        stream. timescale: ticks in a second of the film's clock in mp4; 0 for the usual one. chapters: those of the
        copy, if `film` does not have their times."""
        self.kind, self._film, self._sink, self._spec = kind, film, sink, track
        self._headers, self._timescale, self._crops = headers, timescale, crops
        self._chapters = film.chapters() if chapters is None else chapters
        # Players distinguish hvc1 from hev1 and XVID from FMP4 by the codec tag, so it is kept with the container. If
        # the muxer refuses it, try without.
        same = kind.reads(film.format.name)
        self.headers: dict[int, matroska.TrackHeader] = {}
        self.converted: dict[Any, ConvertedTrack] = {}
        # No list says which data a muxer takes: try with all of it.
        with_data = (True, False) if any(map(_is_data, film.streams)) else (False,)
        tags = (True, False) if same else (False,)
        for keep_codec_tags, keep_data in itertools.product(tags, with_data):
            sink.restart()
            try:
                self._open(keep_codec_tags, keep_data)
                return
            except (av.FFmpegError, ValueError) as error:
                if sink.error is not None:
                    raise
                refusal: Exception = error
        words = media_container.error_text(refusal) if isinstance(refusal, av.FFmpegError) else str(refusal)
        raise MuxFailed("ContainerCannotHold", f"{kind.muxer} cannot hold this film: {words}") from refusal

    def _open(self, keep_codec_tags: bool, keep_data: bool) -> None:
        self.container = av.open(
            self._sink,
            "w",
            format=self.kind.muxer,
            container_options=self._options(),
            metadata_errors="surrogateescape",
            buffer_size=1 << 18,
        )
        self.container.flags |= av.container.Flags.bitexact.value
        self.copies, self.dropped, self.tracks, self.left = {}, [], [], {}
        self.headers.clear()
        self.without_time_code = False
        self.converted.clear()
        spec = self._spec
        old = None if spec.replaces is None else self._film.streams.audio[spec.replaces]
        for stream in self._film.streams:
            if stream is old or (stream.type == "audio" and spec.default and old is None and not self.tracks):
                self._add_tracks()
            if stream is old:
                continue
            if picture := self._headers.pictures.get(stream.index):
                self.container.add_attachment(picture.name, picture.media_type, picture.data)
            elif keep_data and _is_data(stream):
                self.copies[stream] = self.container.add_stream_from_template(stream)
            elif why := self._add_copy(stream, keep_codec_tags):
                self.left[stream.id] = len(self.dropped)
                self.dropped.append(f"{left_out.title(stream)}: {why}")
        if not self.tracks:
            self._add_tracks()
        wanted = self.kind.subtitles and spec.captions
        self.captions = subtitles.add_stream(self.container, self.kind.subtitles) if wanted else None
        alone = not any(stream.type == "audio" for stream in self.copies)
        self.tracks[0].disposition = Disposition.default if spec.default or alone else 0
        if old is not None:
            self.tracks[0].disposition = old.disposition
        tags = metadata(mxf.tags_of(self._film), spec.tags, spec.old_comment)
        if self.without_time_code:
            tags.pop("timecode", None)
        is_mxf = self.kind.muxer == "mxf"
        self.container.metadata.update(mxf.as_comments(tags, self._film.metadata) if is_mxf else tags)
        if self._headers.chapters:
            self.container.set_chapters(matroska_chapters.placeholder(self._headers.chapters))
        elif self._chapters:
            self.container.set_chapters(self._chapters)
        self.comment = next((v for k, v in tags.items() if k.lower() == "comment"), "")
        self.indexes = {stream.index: copy.index for stream, copy in self.copies.items()}
        self.track_ids = {stream.id: copy.index + 1 for stream, copy in self.copies.items()}
        named = [*self.copies.values(), *self.tracks]
        self.languages = {copy.index + 1: str(copy.metadata.get("language", "")) for copy in named}
        self.source_format = str(self._film.format.name)
        self.container.start_encoding()

    def _options(self) -> dict[str, str]:
        # Without this every packet is a write of its own.
        options = {"flush_packets": "0", **dict(self.kind.options)}
        if any(stream.disposition & Disposition.attached_pic for stream in self._film.streams.video):
            # An mp4 file has either tags with any names or the usual ones and a cover picture.
            options.pop("movflags", None)
        if self._timescale:
            options["movie_timescale"] = str(self._timescale)
        return options

    def _add_copy(self, stream: Any, keep_codec_tag: bool) -> str:
        """Add a copy of a stream; the reason if the container cannot hold it, else an empty string."""
        context = stream.codec_context
        if stream.type == "attachment":
            if self.kind.muxer != "matroska":
                return f"{self.kind.muxer} holds no attachments"
            # Its content is part of the header: there are no packets to copy.
            self.container.add_stream_from_template(stream)
            return ""
        if stream.type == "data":
            return self._not_remade(stream)
        if stream.type not in ("video", "audio", "subtitle"):
            return "neither picture, sound nor subtitles"
        if context is None:
            return "a codec that FFmpeg does not know"
        if stream.type == "audio" and self.kind.muxer == "flv":
            raise ValueError("players support only one sound track in flv")
        try:
            # With `opaque` the parameters are copied unchanged, and no encoder of that name has to exist.
            copy = self.container.add_stream_from_template(stream, opaque=True)
        except ValueError:
            if stream.type == "subtitle":
                return f"{self.kind.muxer} does not hold {context.name} subtitles"
            return self._add_otherwise(stream)
        return self._describe(stream, copy, keep_codec_tag)

    def _add_otherwise(self, stream: Any) -> str:
        """Add a copy of a stream that PyAV says the container does not hold. Raises ValueError if that is true."""
        if self.kind.muxer == "matroska" and (private := riff.header_of(stream)):
            context = stream.codec_context
            is_video = stream.type == "video"
            # Any codec that needs no configuration will do: the header gets the real one.
            copy = (
                self.container.add_mux_stream("mjpeg", width=context.width, height=context.height)
                if is_video
                else self.container.add_mux_stream("truehd", rate=context.sample_rate)
            )
            copy.time_base = stream.time_base
            self.headers[stream.index] = matroska.TrackHeader(
                codec_id="V_MS/VFW/FOURCC" if is_video else "A_MS/ACM",
                private=private,
                channels=0 if is_video else context.layout.nb_channels,
            )
            return self._describe(stream, copy, keep_codec_tag=False)
        if stream.type == "audio" and self.kind.muxer in ("matroska", "mov"):
            self.converted[stream] = ConvertedTrack(self.container, stream)
            return self._describe(stream, self.converted[stream].stream, keep_codec_tag=False)
        raise ValueError(f"{self.kind.muxer} does not hold {stream.codec_context.name}")

    def _describe(self, stream: Any, copy: Any, keep_codec_tag: bool) -> str:
        """Give a copy what the container says of the stream. Returns an empty string."""
        context = stream.codec_context
        copy.metadata.update(stream.metadata)
        disposition = int(stream.disposition)
        if stream.type == "audio" and self._spec.default:
            disposition &= ~int(Disposition.default)
        copy.disposition = disposition
        aspect = stream.sample_aspect_ratio if stream.type == "video" else None
        if aspect and copy.codec_context is not None:
            copy.codec_context.sample_aspect_ratio = aspect
        # For uncompressed pictures the tag is the layout of their bytes; Matroska holds none without it.
        if keep_codec_tag or context.name == "rawvideo":
            copy.codec_context.codec_tag = context.codec_tag
        if stream.type == "video" and self.kind.muxer == "mxf":
            # PyAV passes the rate of the decoder, which may be that of its clock.
            copy.codec_context.framerate = stream.average_rate or stream.guessed_rate
        is_film = stream.type == "video" and not media_container.is_attached(stream)
        if is_film and (left := time_code.add_time_code(self._film, stream, copy, self.kind.muxer)):
            self.without_time_code = True
            self.dropped.append(left)
        if self.kind.muxer in ("matroska", "webm"):
            self._add_header(stream, copy)
        self.copies[stream] = copy
        return ""

    def _add_header(self, stream: Any, copy: Any) -> None:
        """Note what PyAV cannot pass to the Matroska muxer: aspect, language tag, a name of mp4."""
        rate = stream.average_rate if stream.type == "video" else None
        if rate and rate == stream.guessed_rate and copy.codec_context is not None:
            # Without it, readers take the rate from the pictures' own headers, which may be another.
            copy.codec_context.framerate = rate
        header = self.headers.get(stream.index, matroska.TrackHeader())
        aspect = stream.sample_aspect_ratio if stream.type == "video" else None
        if aspect and aspect != 1:
            context = stream.codec_context
            size = self._crops.get(stream.index, Crop()).shown_size(context.width, context.height)
            header = replace(header, display=matroska.display(*size, Fraction(aspect)))
        header = replace(header, language=self._headers.languages.get(stream.index, ""))
        name = stream.metadata.get("title") or stream.metadata.get("handler_name", "")
        name = "" if stream_facts.is_usual_name(name) else name
        if name:
            copy.metadata["title"] = name
        if header != matroska.TrackHeader():
            self.headers[stream.index] = replace(header, name=name)
            copy.metadata["title"] = self.headers[stream.index].placeholder(stream.index)

    def _not_remade(self, stream: Any) -> str:
        """The reason why a data stream is left out; an empty string if the muxer makes it from the metadata."""
        # The chapters of QuickTime are a track too; nobody reads its packets.
        if stream.discard == Discard.all:
            return ""
        if "timecode" in stream.metadata:
            return "" if self.kind.muxer in time_code.MUXERS else f"{self.kind.muxer} holds no time code"
        return f"{self.kind.muxer} holds no such data"

    def _add_tracks(self) -> None:
        kind, spec = self.kind, self._spec
        if kind.muxer == "flv" and spec.tracks > 1:
            raise ValueError("players support only one sound track in flv")
        for title in spec.titles:
            track = self.container.add_stream(
                kind.codec, rate=kind.rate or coded_rate(kind, spec.sample_rate)
            )
            set_up(track.codec_context, kind, spec.channels)
            track.metadata.update({"title": title, "language": LANGUAGE})
            if kind.muxer in ("mp4", "mov"):
                track.metadata["handler_name"] = title
            track.disposition = 0
            self.tracks.append(track)


def _is_data(stream: Any) -> bool:
    """True for a stream of data that is neither a list of chapters nor a time code: muxers make those anew."""
    return stream.type == "data" and stream.discard != Discard.all and "timecode" not in stream.metadata


def metadata(source: dict[str, str], tags: dict[str, str], without: str = "") -> dict[str, str]:
    """Container metadata of the copy: the source's, without the text `without` in its comment, and `tags`."""
    # Written by the muxer; not facts about the film.
    brands = {"major_brand", "minor_version", "compatible_brands"}
    kept = {key: value for key, value in source.items() if key.lower() not in brands}
    for key in list(kept):
        if (match := re.fullmatch(r"(.+)-[a-z]{3}", key)) and kept.get(match[1]) == kept[key]:
            del kept[key]  # FFmpeg lists a tag that has a language twice
    names = {key.lower(): key for key in kept}
    if without and (comment := names.get("comment")):
        kept[comment] = kept[comment].replace(without, "").rstrip("\n")
    for key, value in tags.items():
        name = names.get(key.lower(), key)
        kept[name] = f"{kept[name]}\n{value}" if key == "comment" and kept.get(name) else value
    return kept
