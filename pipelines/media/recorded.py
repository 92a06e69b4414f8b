"""Time at which a film was recorded, as its container and its first picture say it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

_LOCAL_TAGS = ("com.apple.quicktime.creationdate", "date", "modification_date")
"""Tags with the time of the camera, better than `creation_time` where they are whole; the last one is that of MXF."""

_UNSET = (1601, 1904, 1970)
"""Years from which formats count: a clock that was never set."""

_STAMP = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)[T ](\d\d):?(\d\d):?(\d\d)(?:\.\d+)?(Z|[+-]\d\d:?\d\d)?")

_MDPM = bytes.fromhex("17ee8c60f84d11d98cd60800200c9a66") + b"MDPM"
"""Beginning of the camera's data in H.264 pictures of AVCHD."""

_DV_BLOCK, _DV_FRAME, _DV_VAUX = 80, 12_000, 2
"""Bytes of a DIF block and of the smaller frame of DV; section type of the blocks that hold the date."""


def recorded_at(container: Any, video: Any, start_s: float, first: bytes) -> str:
    """Time at which a film begins, in ISO 8601 with the zone where it is known; empty if nothing says it.

    start_s: container time of the first picture; first: bytes of the first packet of `video`.
    """
    if container.format.name == "dhav":  # the recorder's clock, in its own zone, is that of the packets
        return text_of(datetime.fromtimestamp(0, UTC) + timedelta(seconds=start_s), zone=False)
    codec = video.codec_context.codec.canonical_name
    own = _of_dv(first) if codec == "dvvideo" else _of_avchd(first) if codec == "h264" else ""
    return own or next(_of_tags(container.metadata, video.metadata), "")


def text_of(time: datetime, zone: bool = True) -> str:
    """ISO 8601 to the second, such as `2026-01-03T12:05:00+01:00`; without the zone if it is not known."""
    time = time.replace(microsecond=0)
    return time.isoformat().replace("+00:00", "Z") if zone else time.replace(tzinfo=None).isoformat()


def parse_stamp(text: str) -> str:
    """The time in a tag, as `text_of` writes it; empty for a day without a time, and for a clock that was never set."""
    if (found := _STAMP.search(text)) is None:
        return ""
    *numbers, zone = found.groups()
    try:
        time = datetime(*map(int, numbers), tzinfo=_zone(zone))  # type: ignore[misc, arg-type]
    except ValueError:
        return ""
    return "" if time.year in _UNSET else text_of(time)


def _zone(text: str | None) -> timezone | None:
    if text is None:
        return None
    if text == "Z":
        return UTC
    minutes = 60 * int(text[1:3]) + int(text[-2:])
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


def _of_tags(*tags: Mapping[str, str]) -> Iterator[str]:
    for name in (*_LOCAL_TAGS[:2], "creation_time", *_LOCAL_TAGS[2:]):
        for found in tags:
            if time := parse_stamp(found.get(name, "")):
                yield time


def _of_avchd(packet: bytes) -> str:
    """The date in a camera's user data: tag 0x18 has zone, year and month, 0x19 day and time, in BCD."""
    at = packet.find(_MDPM)
    if at < 0:
        return ""
    data = packet[at + len(_MDPM) : at + len(_MDPM) + 200].replace(b"\x00\x00\x03", b"\x00\x00")
    tags = {
        data[k]: data[k + 1 : k + 5] for k in range(1, min(len(data) - 4, 5 * data[0] + 1) if data else 0, 5)
    }
    day, time = tags.get(0x18, b""), tags.get(0x19, b"")
    if len(day) < 4 or len(time) < 4:
        return ""
    return _of_bcd(day[1:4].hex() + time.hex())


def _of_dv(frame: bytes) -> str:
    """The date in the packs 0x62 and 0x63 of a DV frame's VAUX blocks: their last three bytes, in BCD with flags."""
    packs: dict[int, bytes] = {}
    for at in range(0, min(len(frame), _DV_FRAME) - _DV_BLOCK + 1, _DV_BLOCK):
        if frame[at] >> 5 == _DV_VAUX:
            for pack in range(at + 3, at + 3 + 15 * 5, 5):
                packs.setdefault(frame[pack], frame[pack + 1 : pack + 5])
    day, time = packs.get(0x62, b""), packs.get(0x63, b"")
    if len(day) < 4 or len(time) < 4:
        return ""
    year = day[3]
    century = 0x20 if year < 0x75 else 0x19
    return _of_bcd(
        bytes(
            [century, year, day[2] & 0x1F, day[1] & 0x3F, time[3] & 0x3F, time[2] & 0x7F, time[1] & 0x7F]
        ).hex()
    )


def _of_bcd(digits: str) -> str:
    """The time in 14 digits, YYYYMMDDhhmmss; empty if they are none."""
    return parse_stamp(f"{digits[:8]}T{digits[8:]}") if digits.isdigit() else ""
