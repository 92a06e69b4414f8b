"""Copy of a film with a generated sound track, without re-encoding anything that was there.

The picture is copied packet by packet, bit for bit. Sound tracks, subtitles, chapters, attachments, metadata and
rotation are kept if the container can hold them; the generated track is added and named. There is one pass over the
source and one over the sound. Memory does not grow with the film, except for the container's own index (in mp4, mov and
avi about 90 bytes per packet: 20 MB for an hour, written at the end).

The same source and sound give the same bytes: no dates, no random identifiers.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np

from pipelines import storage
from pipelines.media import container as media_container
from pipelines.media.clock import JOINED
from pipelines.media.pictures.cropping import read_crops
from pipelines.mux import read_back, subtitles
from pipelines.mux.audio_encoder import Encoder, checked_blocks
from pipelines.mux.containers import Container, container_of, output_name
from pipelines.mux.facts import comparison
from pipelines.mux.files import Sink, Source, TooLarge, disk_error
from pipelines.mux.headers import chapters, matroska, mp4
from pipelines.mux.headers.source import read_source
from pipelines.mux.packet_hashes import Digests
from pipelines.mux.packets import Output, repair_times, shift_of
from pipelines.mux.read_back import Place, Reading, Shown
from pipelines.mux.streams import configurations, left_out
from pipelines.mux.streams.beside import write_streams
from pipelines.mux.times.edit_lists import BrokenIndex, EditListCopy, movie_timescale, read_edit_lists
from pipelines.mux.times.hidden_packets import HiddenPackets
from pipelines.mux.times.squeezed import SqueezedPictures
from pipelines.mux.times.unstamped import ShownOrder, lacks_times
from pipelines.mux.track import TITLE, MuxFailed, MuxResult, Track

__all__ = ["TITLE", "MuxFailed", "MuxResult", "Track", "mux", "output_name"]


_DECODED_BYTES_S = 48_000 * 4 * 2
"""Bytes per second of a stereo track that is decoded (`converted.ConvertedTrack`)."""


def mux(
    source_uri: str, sound: Iterable[np.ndarray], destination: str | os.PathLike[str], track: Track
) -> MuxResult:
    """Copy the film at `source_uri` to `destination` with one more sound track.

    sound: int16 arrays [tracks * channels, n] of any lengths, as `track` says in total; consumed as a
        stream, at most about 15 s ahead of the picture (`audio_encoder.Pieces.lead`).
    destination: a local path; its suffix names the container (`containers.CONTAINERS`). Written under a temporary
        name, then renamed: there is never a partial file under that name.

    Raises MuxFailed for errors of the file (`ContainerCannotHold`: take the `.mkv` name), SourceLost if it can no
    longer be read, StorageError for the disk, ValueError for sound that is not as announced.
    """
    target = Path(destination)
    kind = container_of(target).coded(track.codec)
    temporary = Path(storage.temporary_name(str(target)))
    try:
        with storage.reading_source():
            source = storage.open_read(source_uri)
        with source, temporary.open("xb+", buffering=0) as output:
            result = mux_files(source, output, sound, kind, track)
        storage.rename(temporary, target)
    except OSError as error:
        raise disk_error(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return result


def mux_files(
    source: BinaryIO,
    output: BinaryIO,
    sound: Iterable[np.ndarray],
    kind: Container,
    track: Track,
    beat: Callable[[], None] = lambda: None,
    beside: BinaryIO | None = None,
) -> MuxResult:
    """`mux` from one open file to another, for reading and writing and unbuffered; a failure leaves a part of it there.

    beside: an empty file for streams that the copy does not hold (`streams.beside`); None to leave them out.

    Calls `beat` as it advances. Raises OSError for `output`, SourceLost for `source`.
    """
    film = Source(source)
    sink = Sink(output, size_limit(film.size, track))
    copied = _copy(film, sink, kind, checked_blocks(sound, track), track, beat, early=beside is None)
    _finish_headers(film, output, kind, copied)
    size = sink.finish()
    n_beside = 0 if beside is None else _keep_beside(film, beside, copied.out, beat)
    dropped = copied.out.dropped + _lost_facts(film, output, copied.out, track, beat)
    if track.strict:
        left_out.check_strict(dropped, kind.muxer)
    facts = kind.muxer, kind.codec, track.n_samples, size, tuple(dropped), film.sha256(beat)
    converted = tuple(made.told for made in copied.out.converted.values())
    with open(output.fileno(), "rb", closefd=False) as written:
        found_digests, found, described = read_back.read_copy(written, copied.new_tracks, beat)
    wanted, digests = copied.wanted, copied.digests
    if copied.edits is not None:
        # A reader follows the edit lists: it finds some packets twice and others not at all.
        wanted, digests = read_back.shown_by(film, copied.places, beat), found_digests
    read_back.compare({copied.places[index]: fact for index, fact in wanted.facts.items()}, found)
    end_s = copied.sound_start_s - wanted.start_s + track.n_samples / track.sample_rate
    for place, digest in zip(copied.new_tracks, copied.digests.new, strict=True):
        read_back.check_sound(found[place], digest, end_s)
    return MuxResult(*facts, digests, described, n_beside, converted)


@dataclass(frozen=True)
class _Copied:
    """Facts about a film that was copied."""

    out: Output
    """The output, which is closed."""
    digests: Digests
    new_tracks: tuple[Place, ...]
    """Places of the new tracks in the copy."""
    edits: EditListCopy | None
    """Edit lists that are still to be put into the copy, if it has the times of the media."""
    chapters: bytes
    """Chapters of Matroska that are still to be put into the copy; empty for none."""
    places: dict[int, Place]
    """Places of the copied streams in the copy, by their index in the source."""
    wanted: Shown
    """Facts about the packets that were written, by the index of their stream in the source."""
    sound_start_s: float
    """Start of the new sound on the clock of the copy."""


def _finish_headers(film: Source, output: BinaryIO, kind: Container, copied: _Copied) -> None:
    """Put into the finished copy what FFmpeg's muxers do not write: edit lists, and facts of the source's headers."""
    out = copied.out
    if copied.edits is not None:
        try:
            with open(output.fileno(), "r+b", buffering=0, closefd=False) as written:
                copied.edits.write(written)
        except BrokenIndex as error:
            raise MuxFailed("ContainerCannotHold", f"the edit lists cannot be copied: {error}") from error
    with open(output.fileno(), "rb+", closefd=False) as written:
        try:
            if out.headers:
                matroska.write_headers(written, out.headers)
            if copied.chapters:
                chapters.write_chapters(written, copied.chapters)
            if kind.muxer in ("mp4", "mov"):
                same = kind.reads(out.source_format)
                facts = mp4.read_facts(cast(BinaryIO, film)) if same else mp4.Mp4Facts()
                mp4.add_facts(written, facts, out.track_ids, out.comment, out.languages)
        except (ValueError, struct.error) as error:
            raise MuxFailed("ContainerCannotHold", f"{kind.muxer}: {error}") from error
        except OSError as error:
            raise film.error or error from error


def _keep_beside(source: Source, beside: BinaryIO, out: Output, beat: Callable[[], None]) -> int:
    """Write the streams that are left out into a file of their own, and say so in their entries; its bytes."""
    film = cast(BinaryIO, source)
    try:
        written = write_streams(film, beside, out.source_format, out.left, beat)
    except OSError as error:
        raise source.error or error from error
    for place in out.left.values() if written else ():
        out.dropped[place] += f"; {left_out.KEPT}"
    return written


def _lost_facts(
    source: Source, output: BinaryIO, out: Output, track: Track, beat: Callable[[], None]
) -> list[str]:
    """Facts of the film that the finished copy does not have, in words (`facts.comparison`)."""
    try:
        with source.open() as film:
            before = comparison.read(film, cast(BinaryIO, source), beat)
    except av.FFmpegError:
        if source.error is not None:
            raise source.error from None
        return []  # its packets were copied: whatever FFmpeg does not read twice is no fact
    with open(output.fileno(), "rb", closefd=False) as written, Source(written).open() as copy:
        after = comparison.read(copy, written, beat)
    return comparison.told(comparison.lost(before, after, out.indexes, track.old_comment), out.dropped)


def size_limit(source_size: int, track: Track) -> int:
    """Bytes of the largest copy that is plausible.

    Entries of a hostile index may all refer to the same bytes; a real copy is about as large as its source and the
    sound together, with a track of its own that had to be decoded.
    """
    decoded = track.n_samples * _DECODED_BYTES_S // track.sample_rate
    return 2 * source_size + 4 * track.channels * track.tracks * track.n_samples + decoded + (64 << 20)


def _copy(
    source: Source,
    sink: Sink,
    kind: Container,
    blocks: Iterator[np.ndarray],
    track: Track,
    beat: Callable[[], None],
    early: bool,
) -> _Copied:
    """Write the film with its new track. early: with `strict`, fail before it is written, not after."""
    try:
        headers = read_source(source, kind.muxer)
        edits, marks = _edits_to_copy(source, kind)
        unstamped = lacks_times(source)
        with source.open(edit_lists=edits is None) as film:
            shift = shift_of(film, kind)
            clock = 0 if edits is None else movie_timescale(edits.lists, track.sample_rate)
            crops = read_crops(cast(BinaryIO, source), film)
            out = Output(film, sink, kind, track, headers, crops, clock, marks)
            hidden = (
                HiddenPackets(() if film.format.name == JOINED else out.copies, kind)
                if edits is None
                else None
            )
            late: set[str] = set()
            if track.strict and early:
                left_out.check_strict(out.dropped, kind.muxer)
            with Encoder(out, track, float(shift)) as encoder:
                start_s = track.video_start_s + float(shift)
                captions = subtitles.SubtitleWriter(
                    out.container,
                    out.captions,
                    kind.subtitles,
                    track.captions if out.captions else (),
                    start_s,
                )
                written = Reading(out.copies)
                last_dts: dict[int, int] = {}
                squeezed = SqueezedPictures()
                # Fractions cost more than the copying: convert once per stream, compare once per block.
                ticks = {stream: round(shift / stream.time_base) for stream in out.copies}
                tick_s = {stream: float(stream.time_base) for stream in out.copies}
                fed_s = float(encoder.position)
                steps: dict[Any, int] = {}
                if kind.muxer in ("mp4", "mov"):
                    # There a last picture without a length is not shown.
                    pictures = [stream for stream in out.copies if stream.type == "video"]
                    steps = {s: round(media_container.frame_step(s) / float(s.time_base)) for s in pictures}

                def write_converted(stream: Any, packet: Any) -> None:
                    for made in out.converted[stream].packets(packet):
                        written.update(made, stream)
                        out.container.mux(made)

                packets = media_container.packets(
                    film, out.copies, with_empty=True, unannounced=lambda: late.add(left_out.LATE)
                )
                if unstamped:
                    packets = ShownOrder(media_container.video_stream(film, "mux")).stamped(packets)
                for packet in packets:
                    stream = packet.stream
                    if hidden is not None and hidden.leaves_out(packet):
                        continue
                    if edits is not None and packet.stream_index not in last_dts:
                        first_s = packet.dts * stream.time_base
                        edits.note(out.copies[stream].index, stream.id, first_s)
                    wanted = None if packet.pts is None else packet.pts + ticks[stream]
                    repair_times(packet, last_dts, ticks[stream])
                    packet.duration = packet.duration or steps.get(stream, 0)
                    if stream.type == "video":
                        squeezed.note(packet, wanted)
                    time_s = packet.dts * tick_s[stream]
                    while fed_s <= time_s and (block := next(blocks, None)) is not None:
                        encoder.feed(block)
                        fed_s = float(encoder.position)
                        beat()
                    captions.advance(time_s)
                    if stream in out.converted:
                        write_converted(stream, packet)
                    else:
                        packet = configurations.settled(packet, kind.muxer)
                        written.update(packet, stream)
                        packet.stream = out.copies[stream]
                        out.container.mux(packet)
                    beat()
                squeezed.finish()
                for stream in out.converted:
                    write_converted(stream, None)
                for block in blocks:
                    encoder.feed(block)
                    beat()
                encoder.finish()
                captions.finish()
                places, new_tracks = read_back.places_in(out, written)
                out.container.close()
            if track.strict and early:
                left_out.check_strict(sorted(late), kind.muxer)
            first, *others = encoder.digests
            out.dropped += sorted(late)
            digests = Digests(written.hasher.of("video"), written.hasher.of("audio"), first, tuple(others))
            return _Copied(
                out, digests, new_tracks, edits, headers.chapters, places, written.shown(), start_s
            )
    except (av.FFmpegError, OSError, TooLarge) as error:
        if source.error is not None:
            raise source.error from error
        if isinstance(sink.error, OSError):
            raise sink.error from error
        if isinstance(error, TooLarge) or sink.error is not None:
            raise MuxFailed("OutputTooLarge", str(sink.error or error)) from error
        if isinstance(error, av.FFmpegError) and kind.tries:
            words = f"{kind.muxer} cannot hold this film: {media_container.error_text(error)}"
            raise MuxFailed("ContainerCannotHold", words) from error
        if isinstance(error, av.FFmpegError):
            raise MuxFailed(type(error).__name__, media_container.error_text(error)) from error
        raise


def _edits_to_copy(source: Source, kind: Container) -> tuple[EditListCopy | None, Any]:
    """Edit lists that FFmpeg cannot write and the container can hold, and the chapters at the times that they give.

    None for an ordinary film.
    """
    lists = read_edit_lists(source)
    if lists.plain or kind.muxer not in ("mp4", "mov"):
        return None, None
    with source.open() as film:
        if "mov" not in film.format.name.split(","):
            return None, None
        return EditListCopy(lists), film.chapters()
