"""Pictures of a sequence coded anew, as a film to listen with (`python -P -m pipelines.mux.streams.proxy`).

The pictures are decoded and encoded in a process of their own, by the protocol of `pipelines.sandbox.child`. The film
that it writes has no sound; `remux` adds that as to any film.
"""

from __future__ import annotations

import itertools
import re
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
from av.codec.codec import find_best_pix_fmt_of_list
from av.video.reformatter import ColorRange

from pipelines import storage
from pipelines.media import container
from pipelines.media.errors import DecodeFailed
from pipelines.mux.files import check_disk, disk_error
from pipelines.mux.track import MuxFailed
from pipelines.sandbox.child import Beat, ChildFailed, converse, load_decoders, serve
from pipelines.sandbox.lent_files import borrowed, lend

PROXY_SUFFIXES = {"mp4": ".mp4", "ffv1": ".mkv"}
"""Suffix of a proxy by its kind."""

MOST_LINES = 1080
"""Lines of the largest mp4."""

_FLOAT = re.compile("f(16|32)")

_CLOCK = Fraction(1, 90_000)

_LARGEST = 20
"""Largest size of a proxy, as a multiple of that of its pictures."""


def encode_in_child(
    source_uri: str, destination: Path, kind: str, *, memory_mb: int = 2048, stall_s: float = 120.0
) -> None:
    """Write the pictures of the film at `source_uri` as a film at `destination`, which may not exist yet.

    kind: `mp4` for H.264 of 8 bits and at most MOST_LINES lines, `ffv1` for FFV1 in Matroska, lossless but for pixels
    of floating point (EXR), which become 16 bits. A picture that cannot be decoded is held. Raises MuxFailed,
    SourceLost, StorageError for the disk.
    """
    try:
        with (
            storage.reading_source(),
            lend(source_uri) as source,
            destination.open("xb+", buffering=0) as output,
        ):
            order = {"source": source.to_json(), "output": output.fileno(), "kind": kind}
            most, fds = _LARGEST * source.size + (1 << 30), (source.fd, output.fileno())
            module = "pipelines.mux.streams.proxy"
            answer = converse(module, order, memory_mb, stall_s, fds=fds, writes=most)
            source.check()
            if answer.get("error") == "output":
                check_disk(output.fileno())
            if "error" in answer:
                raise MuxFailed("ProxyFailed", str(answer.get("message"))[:1000], "proxy")
    except ChildFailed as error:
        raise MuxFailed(f"Proxy{error.reason}", error.message, "proxy") from error
    except OSError as error:
        raise disk_error(destination, error) from error


# ------------------------------------------------------------------------------------- in the child


def _proxy(order: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    with borrowed(order["source"]) as source, open(order["output"], "wb", buffering=0) as output:
        try:
            return {"pictures": _encode(source, output, order["kind"])}
        except DecodeFailed as error:
            return {"error": "file", "message": f"{error.error_class}: {error.message}"[:1000]}
        except (av.FFmpegError, OSError) as error:
            return {"error": "output", "message": container.error_text(error)[:1000]}


def _encode(source: Any, output: Any, kind: str) -> int:
    """Number of pictures that were written. Raises DecodeFailed, OSError, FFmpegError."""
    beat, number = Beat(), 0
    with (
        container.opened(source) as film,
        av.open(output, "w", format="mp4" if kind == "mp4" else "matroska") as out,
    ):
        out.flags |= av.container.Flags.bitexact.value  # type: ignore[operator]
        video = container.video_stream(film, "proxy")
        pictures = container.pictures(film, video, beat)
        first = next(pictures, None)
        if first is None:
            raise DecodeFailed("NoFrames", "no picture can be decoded", "proxy")
        stream = _stream(out, kind, first[1], video)
        # JPEG has levels from 0 to 255, which FFV1 keeps if they are not named by the format of the pixels.
        full = kind == "ffv1" and first[1].format.name.startswith("yuvj")
        levels: dict[str, Any] = (
            {"src_color_range": ColorRange.JPEG, "dst_color_range": ColorRange.JPEG} if full else {}
        )
        if full:
            stream.codec_context.color_range = ColorRange.JPEG.value
        for time, frame in itertools.chain([first], pictures):
            made = frame.reformat(stream.width, stream.height, stream.pix_fmt, **levels)
            made.pts, made.time_base, made.pict_type = round((time - first[0]) / _CLOCK), _CLOCK, 0
            out.mux(stream.encode(made))
            number += 1
        out.mux(stream.encode(None))
    return number


def _stream(out: Any, kind: str, frame: Any, video: Any) -> Any:
    """The stream of the pictures: their size and pixels are those of the first one."""
    rate = Fraction(1 / container.frame_step(video)).limit_denominator(1001)
    stream: Any = out.add_stream("libx264" if kind == "mp4" else "ffv1", rate=rate)
    stream.time_base = stream.codec_context.time_base = _CLOCK
    if kind == "mp4":
        lines = min(frame.height, MOST_LINES)
        stream.height = max(2, lines // 2 * 2)
        stream.width = max(2, round(frame.width * lines / frame.height / 2) * 2)
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "20", "threads": "2"}
    else:
        # FFV1 of floating point is of a version that is not finished.
        formats = [each for each in av.Codec("ffv1", "w").video_formats or [] if not _FLOAT.search(each.name)]
        stream.width, stream.height = frame.width, frame.height
        best, _ = find_best_pix_fmt_of_list(formats, frame.format, True)
        assert best is not None  # FFV1 has some
        stream.pix_fmt = best.name
        stream.options = {"level": "3", "slicecrc": "1", "threads": "2"}
        stream.gop_size = 1
    return stream


if __name__ == "__main__":
    serve(_proxy, load_decoders)
