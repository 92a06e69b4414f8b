"""Writes the media that tests need, good and bad, with PyAV.

Every picture carries its number as six black and white bars, so that a test can tell which one it got
after compression, scaling and rotation.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pyarrow as pa
from av.stream import Disposition

Sound = Literal["empty", "silent", "quiet", "audible"]
BITS = 6
LEVELS = {"silent": 0.0, "quiet": 0.0005, "audible": 0.5}
"""Peak of the 440 Hz tone of each kind of track; `quiet` is -66 dBFS."""

USUAL = {
    ".mkv": "flac",
    ".webm": "libopus",
    ".avi": "pcm_s16le",
    ".wav": "pcm_s16le",
    ".mp3": "libmp3lame",
    ".mpg": "mp2",
    ".wmv": "wmav2",
}
"""Sound codec by suffix; AAC elsewhere."""


def numbered(number: int, width: int, height: int) -> np.ndarray:
    """Picture uint8 [height, width, 3]: `number` modulo 64 as vertical bars, white for 1, highest first."""
    edges = np.linspace(0, width, BITS + 1).round().astype(int)
    picture = np.full((height, width, 3), 16, np.uint8)
    for bit in range(BITS):
        if number >> (BITS - 1 - bit) & 1:
            picture[:, edges[bit] : edges[bit + 1]] = 235
    return picture


def number_of(picture: np.ndarray) -> int:
    """The number in a picture made by `numbered`, at any size."""
    bars = np.array_split(picture.astype(float).mean(axis=(0, 2)), BITS)
    return int(sum((float(np.median(bar)) > 128) << (BITS - 1 - k) for k, bar in enumerate(bars)))


def quadrants(number: int, width: int, height: int) -> np.ndarray:
    """Picture with corners red (top left), green (top right), blue (bottom left), white (bottom right)."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2, 0] = 255
    picture[: height // 2, width // 2 :, 1] = 255
    picture[height // 2 :, : width // 2, 2] = 255
    picture[height // 2 :, width // 2 :] = 255
    return picture


def corners(picture: np.ndarray) -> str:
    """Colours of the four corners, top left, top right, bottom left, bottom right: `rgbw` if upright."""
    h, w = picture.shape[:2]
    named = {(1, 0, 0): "r", (0, 1, 0): "g", (0, 0, 1): "b", (1, 1, 1): "w"}
    spots = [(h // 4, w // 4), (h // 4, 3 * w // 4), (3 * h // 4, w // 4), (3 * h // 4, 3 * w // 4)]
    return "".join(named.get(tuple(int(c > 128) for c in picture[y, x]), "?") for y, x in spots)


def write_video(
    path: Path,
    *,
    duration_s: float = 1.0,
    fps: float | Fraction = 25,
    size: tuple[int, int] = (96, 64),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times_s: Sequence[float] | None = None,
    start_s: float = 0.0,
    sound: Sound | Sequence[Sound] = (),
    sound_start_s: float = 0.0,
    sound_s: float | None = None,
    audio_codec: str | None = None,
    rate: int = 44_100,
    channels: int = 1,
    aspect: Fraction | None = None,
    rotation: int = 0,
    picture: Callable[[int, int, int], np.ndarray] = numbered,
    gop: int = 12,
    bframes: int = 0,
    container_format: str | None = None,
    container_options: dict[str, str] | None = None,
    title: str | None = None,
) -> Path:
    """Writes a video and returns its path; the container follows from the suffix.

    `times_s` gives the time of each picture (variable rate), `start_s` moves all of them; `sound` is one
    kind of track or several, each `sound_s` long (default: as the pictures); mp4 leaves `empty` tracks
    out, mkv keeps them. `rotation` is what a player turns clockwise (mp4 and mov only).
    """
    path = Path(path)
    rate_fps = Fraction(fps).limit_denominator(100_000)
    # AVI counts pictures and MPEG codecs know few clocks: the rate itself is theirs.
    clock = 1 / rate_fps if path.suffix.lower() == ".avi" or codec.startswith("mpeg") else Fraction(1, 90_000)
    if times_s is None:
        times_s = [float(k / rate_fps) for k in range(round(duration_s * rate_fps))]
    tracks: Sequence[Sound] = (sound,) if isinstance(sound, str) else sound
    options = {"avoid_negative_ts": "disabled", **(container_options or {})}
    with av.open(str(path), "w", format=container_format, options=options) as out:
        if title is not None:
            out.metadata["title"] = title
        video: Any = out.add_stream(codec, rate=rate_fps)
        video.width, video.height, video.pix_fmt, video.gop_size = *size, pix_fmt, gop
        video.time_base = video.codec_context.time_base = clock
        video.max_b_frames = bframes
        if codec == "libx264":
            video.options = {"preset": "ultrafast", "threads": "1", "bf": str(bframes)}
        if aspect is not None:
            video.sample_aspect_ratio = aspect
        audio = [_add_track(out, path, audio_codec, rate, channels) for _ in tracks]
        for number, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = round((start_s + time_s) / clock), clock
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for stream, kind in zip(audio, tracks, strict=True):
            if kind != "empty":
                seconds = duration_s if sound_s is None else sound_s
                for packet in _tone(stream, seconds, LEVELS[kind], rate, channels, sound_start_s):
                    out.mux(packet)
    if rotation:
        set_matrix(path, matrix(rotation))
    return path


def write_sound(
    path: Path, seconds: float = 1.0, kind: Sound = "audible", rate: int = 44_100, cover: bool = False
) -> Path:
    """A file with sound only; `cover` adds a picture of the kind that music players show."""
    with av.open(str(path), "w") as out:
        if cover:
            picture: Any = out.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuvj420p"
            picture.disposition = Disposition.attached_pic
        stream = _add_track(out, path, None, rate, 1)
        if cover:
            frame = av.VideoFrame.from_ndarray(quadrants(0, 64, 64), format="rgb24")
            frame = frame.reformat(format="yuvj420p")
            frame.pts = 0
            out.mux([*picture.encode(frame), *picture.encode(None)])
        for packet in _tone(stream, seconds, LEVELS[kind], rate, 1, 0.0):
            out.mux(packet)
    return path


def _add_track(out: Any, path: Path, codec: str | None, rate: int, channels: int) -> Any:
    codec = codec or USUAL.get(path.suffix.lower(), "aac")
    stream = out.add_stream(codec, rate=48_000 if codec == "libopus" else rate)
    stream.bit_rate = 128_000
    stream.codec_context.layout = "mono" if channels == 1 else {2: "stereo", 6: "5.1"}[channels]
    return stream


def _tone(stream: Any, seconds: float, level: float, rate: int, channels: int, start_s: float) -> list[Any]:
    n = round(seconds * rate)
    wave = level * np.sin(2 * np.pi * 440 * np.arange(n) / rate)
    sound = np.tile((wave * 32767).round().astype(np.int16), (channels, 1))
    context = stream.codec_context
    resampler = av.AudioResampler(format=context.format, layout=context.layout, rate=context.sample_rate)
    packets: list[Any] = []
    for at in range(0, n, 1024):
        block = np.ascontiguousarray(sound[:, at : at + 1024].T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout=context.layout)
        frame.sample_rate, frame.pts = rate, at + round(start_s * rate)
        frame.time_base = Fraction(1, rate)
        for part in resampler.resample(frame):
            packets += stream.encode(part)
    for part in resampler.resample(None):
        packets += stream.encode(part)
    return packets + stream.encode(None)


# ---- damage and disguise


def matrix(rotation: int, mirrored: bool = False) -> list[int]:
    """Display matrix (16.16 and 2.30 fixed point) of a clockwise turn after a left-right mirroring."""
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[rotation % 360]
    flip = -1 if mirrored else 1
    one = 1 << 16
    return [flip * cos * one, flip * sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30]


def set_matrix(path: Path, values: Sequence[int]) -> None:
    """Overwrites the display matrix of the first track of an mp4 or mov file."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4
    at += 4 + (32 if data[at] == 1 else 20) + 16  # version and flags; times, id, length; reserved, layer, ...
    data[at : at + 36] = struct.pack(">9i", *values)
    path.write_bytes(data)


def set_avi_size(path: Path, width: int, height: int) -> None:
    """Makes an AVI file announce another picture size."""
    data = bytearray(path.read_bytes())
    header, format_ = data.index(b"avih") + 8, data.index(b"strf") + 8
    data[header + 32 : header + 40] = struct.pack("<2i", width, height)
    data[format_ + 4 : format_ + 12] = struct.pack("<2i", width, height)
    path.write_bytes(data)


def set_jpeg_size(path: Path, width: int, height: int) -> None:
    """Makes every JPEG picture inside a file announce another size."""
    data = bytearray(path.read_bytes())
    at = 0
    while (at := data.find(b"\xff\xc0\x00\x11\x08", at)) >= 0:
        data[at + 5 : at + 9] = struct.pack(">2H", height, width)
        at += 5
    path.write_bytes(data)


def y4m(path: Path, s_per_picture: int, n: int = 1) -> Path:
    """An uncompressed film of `n` pictures of 32 x 16, each of which its header lets stand for so many seconds."""
    head = f"YUV4MPEG2 W32 H16 F1:{s_per_picture} Ip A1:1 C420jpeg\n".encode()
    pictures = (b"FRAME\n" + bytes([40 * k % 256]) * (32 * 16 * 3 // 2) for k in range(n))
    path.write_bytes(head + b"".join(pictures))
    return path


def write_photo(path: Path) -> Path:
    """An AVIF photo."""
    return write_video(path, times_s=[0.0], codec="libsvtav1", container_format="avif")


def truncated(source: Path, path: Path, share: float = 0.5) -> Path:
    """The first `share` of a file."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def scrambled(source: Path, path: Path, share: float = 1.0, seed: int = 0) -> Path:
    """An mp4 file whose picture and sound data (not its index) is partly replaced by noise."""
    data = bytearray(source.read_bytes())
    at = data.index(b"mdat")
    start, stop = at + 4, at - 4 + int.from_bytes(data[at - 4 : at], "big")
    start = stop - int((stop - start) * share)
    data[start:stop] = np.random.default_rng(seed).bytes(stop - start)
    path.write_bytes(data)
    return path


def encrypted(path: Path, **more: Any) -> Path:
    """An mp4 file with common encryption."""
    options = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    return write_video(path, container_options=options, **more)


def hls(target: str) -> bytes:
    """An HLS playlist with one entry."""
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n".encode()


def ffconcat(target: str) -> bytes:
    """A playlist of FFmpeg's own kind with one entry."""
    return f"ffconcat version 1.0\nfile '{target}'\n".encode()


ODD_NAMES = (
    "a b  c.mp4",
    "[brackets] {braces} (parens).mp4",
    "quote ' and \" double.mp4",
    "-leading-dash.mp4",
    "Čeština 日本語 🎬.mp4",
    "percent %41 & hash # question ?.mp4",
    "semi;colon $HOME `tick`.mp4",
    "new\nline.mp4",
    "UPPER.MP4",
    "file:like.mp4",
)
"""File names that have broken tools before."""


def damaged_page(content: bytes) -> bytes:
    """A Parquet file (compressed with snappy) of which the footer can be read and the first page cannot."""
    return content[:60] + bytes(byte ^ 0xFF for byte in content[60:200]) + content[200:]


def texts_of_no_encoding(*values: bytes) -> pa.Array:
    """A column of texts that are not UTF-8, as another program may have written it."""
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values, pa.binary()).buffers())
