"""The time code of a film on its way into a copy: a track in mp4 and mov, a tag in Matroska."""

from __future__ import annotations

from typing import Any

from pipelines.mux.streams import left_out

MUXERS = ("mp4", "mov", "matroska", "mxf")
"""Muxers that write a time code from the metadata."""


def add_time_code(film: Any, stream: Any, copy: Any, muxer: str) -> str:
    """Give a copy of a stream of pictures the film's time code.

    The time code in words if mov cannot hold it, and `film`'s own must not be passed on; else an empty string.
    """
    codes = [other.metadata["timecode"] for other in film.streams.data if "timecode" in other.metadata]
    code = stream.metadata.get("timecode") or (codes[0] if codes else "")
    if code:
        copy.metadata["timecode"] = code
    code = code or film.metadata.get("timecode", "")
    if not code or muxer not in ("mp4", "mov") or copy.codec_context is None:
        return ""
    rate = stream.average_rate or stream.guessed_rate
    # The muxer counts pictures by this rate; it fails if there is none, or drop frames do not go with it.
    if rate and round(rate) and (round(rate) % 30 == 0 or not {";", "."} & set(code)):
        copy.codec_context.framerate = rate
        return ""
    copy.metadata.pop("timecode", None)
    return f"{left_out.title(stream)}: its time code {code}, at {rate} pictures per second"
