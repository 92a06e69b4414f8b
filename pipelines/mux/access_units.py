"""Content and configuration of packets, in a form that every container keeps.

Containers separate the NAL units of H.264, HEVC and VVC differently (lengths or start codes) and cut PCM into blocks of
any size. Everything else about a packet is the same everywhere: its boundaries and its bytes.
"""

from __future__ import annotations

import hashlib
import re

_NAL_CODECS = ("h264", "hevc", "vvc")

_SELF_CONTAINED = re.compile(
    r"pcm_.*|vp8|vp9|mpeg1video|mpeg2video|mjpeg|mp[123]|mp[123]float|ac3|eac3|dts|rawvideo|subrip|text|mov_text"
)
"""Codecs whose packets say all that a decoder needs: some containers keep a configuration of them, others do not."""

_START_CODE = re.compile(rb"\x00\x00\x00?\x01")


def is_pcm(codec: str) -> bool:
    """True for sound whose packets have no boundaries of their own."""
    return codec.startswith("pcm_")


def pcm_bytes(codec: str) -> int:
    """Bytes of one sample of one channel."""
    bits = re.match(r"pcm_[suf](\d+)", codec)
    return int(bits[1]) // 8 if bits else 1


def length_size(codec: str, extradata: bytes) -> int:
    """Bytes of the lengths before NAL units; 0 for start codes, and for codecs without NAL units."""
    at = {"h264": 4, "hevc": 21}.get(codec)
    if at is None or extradata[:1] != b"\x01" or len(extradata) <= at:
        return 0
    return 1 + (extradata[at] & 3)


def unit(payload: bytes, codec: str, width: int) -> bytes:
    """A packet with the boundaries of its NAL units, whatever separates them; other packets as they are.

    width: from `length_size`.
    """
    if codec not in _NAL_CODECS or (codec == "vvc" and not _START_CODE.match(payload)):
        return payload
    return _joined(_by_length(payload, width) if width else _START_CODE.split(payload))


def _joined(units: list[bytes]) -> bytes:
    """NAL units, each after its length. Zeros at the end of a unit mean nothing, and some muxers drop them."""
    kept = [bare for whole in units if (bare := whole.rstrip(b"\0"))]
    return b"".join(len(bare).to_bytes(4, "big") + bare for bare in kept)


def _by_length(payload: bytes, width: int) -> list[bytes]:
    units: list[bytes] = []
    at = 0
    while at + width <= len(payload):
        size = int.from_bytes(payload[at : at + width], "big")
        if at + width + size > len(payload):
            # No decoder takes such a unit. Its length is part of it, so that it equals no other.
            return [*units, b"damaged" + payload[at:] + b"\1"]
        units.append(payload[at + width : at + width + size])
        at += width + size
    return [*units, payload[at:]]


def configuration(codec: str, extradata: bytes) -> str:
    """SHA-256 in hex digits of what a decoder is given before the first packet; empty for nothing.

    codec: FFmpeg's name of the coding format.
    """
    if not extradata or _SELF_CONTAINED.fullmatch(codec):
        return ""
    normal = extradata
    if codec in ("h264", "hevc"):
        sets = _parameter_sets(codec, extradata) if extradata[:1] == b"\x01" else _START_CODE.split(extradata)
        normal = _joined(sets)
        if codec == "h264" and extradata[:1] == b"\x01" and sets and extradata[1:4] != sets[0][1:4]:
            normal += extradata[1:4]  # profile and level are not those of the parameter set
    elif codec == "flac":
        # Sizes of frames, rate, channels and bits. The rest of STREAMINFO (length, MD5) is known only at the end.
        info = extradata[8:] if extradata[:4] == b"fLaC" else extradata
        normal = info[:4] + info[10:13] + bytes([info[13] & 0xF0]) if len(info) > 13 else info
    return hashlib.sha256(normal).hexdigest()


def _parameter_sets(codec: str, data: bytes) -> list[bytes]:
    """Parameter sets of an `avcC` or `hvcC` record (ISO/IEC 14496-15)."""
    units: list[bytes] = []

    def take(at: int, number: int) -> int:
        for _ in range(number):
            size = int.from_bytes(data[at : at + 2], "big")
            units.append(data[at + 2 : at + 2 + size])
            at += 2 + size
        return at

    if codec == "h264":
        at = take(6, data[5] & 31) if len(data) > 6 else len(data)
        at = take(at + 1, data[at]) if at < len(data) else at
        if at + 4 <= len(data):  # chroma format and bit depths, which the parameter sets repeat
            take(at + 4, data[at + 3])
        return units
    at, arrays = 23, data[22] if len(data) > 22 else 0
    for _ in range(arrays):
        at = take(at + 3, int.from_bytes(data[at + 1 : at + 3], "big"))
        if at >= len(data):
            break
    return units
