"""Headers of RIFF (BITMAPINFOHEADER, WAVEFORMATEX), by which Matroska holds codecs without a name of its own."""

from __future__ import annotations

import io
import struct
from typing import Any

import av

_SMALLEST_BLOCK = 8

_LARGEST = 1 << 20
"""Bytes of a header that is kept; a real one has at most some thousand."""


def header_of(stream: Any) -> bytes:
    """The content of the `strf` chunk for a stream of pictures or sound; empty if RIFF knows no tag for its codec.

    FFmpeg's own AVI muxer makes it: with the tag, the sizes of blocks and samples, and the decoder's configuration.
    """
    file = io.BytesIO()
    try:
        with av.open(file, "w", format="avi") as out:
            copy = out.add_stream_from_template(stream, opaque=True)
            if _is_riff_tag(stream):
                copy.codec_context.codec_tag = stream.codec_context.codec_tag
            out.start_encoding()
            head = file.getvalue()
    except (av.FFmpegError, ValueError):
        return b""
    header = _strf(head)
    if stream.codec_context.name.startswith("adpcm_") and len(header) >= 14:
        # Without the size of a block, which some containers do not hold, nobody can decode it.
        block = struct.unpack("<H", header[12:14])[0]
        return header if block >= _SMALLEST_BLOCK else b""
    return header


def _is_riff_tag(stream: Any) -> bool:
    """True if the file of a stream has tags of RIFF; those of QuickTime mean other codecs."""
    names = set(stream.container.format.name.split(","))
    return bool(names & {"avi", "asf", "wav", "matroska", "webm"})


def _strf(head: bytes) -> bytes:
    at = head.find(b"strf")
    if at < 0 or at + 8 > len(head):
        return b""
    size = struct.unpack("<I", head[at + 4 : at + 8])[0]
    content = head[at + 8 : at + 8 + size]
    return content if len(content) == size <= _LARGEST else b""
