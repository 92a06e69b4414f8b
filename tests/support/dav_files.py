"""Files as recorders of Dahua write them: chunks from `DHAV` to `dhav`, each with the recorder's clock."""

from __future__ import annotations

import struct
from datetime import datetime, timedelta
from pathlib import Path

import av
import numpy as np

BEGAN = datetime(2026, 1, 3, 12, 5)

_KEY, _PICTURE, _SOUND = 0xFD, 0xFC, 0xF0
_SOUNDS = {"pcm_s16le": 0x0C, "pcm_mulaw": 0x0A, "pcm_alaw": 0x0E}
SOUND_RATE = 8_000


def write_dav(
    source: Path,
    path: Path,
    begins: bytes = b"",
    began: datetime = BEGAN,
    sound: str = "",
    tone: float = 0.5,
) -> Path:
    """The H.264 pictures of a film as a recorder of Dahua writes them, after the bytes `begins`; returns `path`.

    began: the recorder's clock at the first picture. sound: codec of a tone of 440 Hz that goes with each picture.
    """
    chunks = [begins]
    with av.open(str(source)) as film:
        video = film.streams.video[0]
        annex_b = av.BitStreamFilterContext("h264_mp4toannexb", video)
        packets = [out for packet in film.demux(video) for out in annex_b.filter(packet)]
        rate = round(float(video.average_rate))
        more = bytes([0x80, 0, video.width // 8, video.height // 8, 0x81, 0, 2, rate])
        for number, packet in enumerate(packets):
            time_s = float(packet.pts * packet.time_base)
            kind = _KEY if packet.is_keyframe else _PICTURE
            chunks.append(chunk(kind, number, began, time_s, more, bytes(packet)))
            if sound:
                about = bytes([0x83, 1, _SOUNDS[sound], 2])
                data = _tone(sound, number * SOUND_RATE // rate, SOUND_RATE // rate, tone)
                chunks.append(chunk(_SOUND, number, began, time_s, about, data))
    path.write_bytes(b"".join(chunks))
    return path


def chunk(kind: int, number: int, began: datetime, time_s: float, more: bytes, data: bytes) -> bytes:
    """One frame. more: extension blocks."""
    now, n = began + timedelta(seconds=time_s), 24 + len(more) + len(data) + 8
    date = (
        (now.year - 2000) << 26
        | now.month << 22
        | now.day << 17
        | now.hour << 12
        | now.minute << 6
        | now.second
    )
    head = struct.pack("<4sBBBBIII", b"DHAV", kind, 0, 1, 0, number, n, date)
    head += struct.pack("<HBB", round(1000 * time_s) % 65536, len(more), 0)
    return head + more + data + struct.pack("<4sI", b"dhav", n)


def _tone(codec: str, start: int, n: int, level: float) -> bytes:
    samples = (level * 32767 * np.sin(2 * np.pi * 440 * np.arange(start, start + n) / SOUND_RATE)).astype(
        np.int16
    )
    if codec == "pcm_s16le":
        return samples.tobytes()
    encoder = av.CodecContext.create(codec, "w")
    encoder.sample_rate, encoder.layout, encoder.format = SOUND_RATE, "mono", "s16"
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate = SOUND_RATE
    return b"".join(bytes(packet) for packet in encoder.encode(frame))
