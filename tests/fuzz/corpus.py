"""Inputs of the campaign: small real files of every container, and playlists, mutated by a seed and a number."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

from tests.fuzz.structured import EDITS, edited
from tests.support import media_files

KINDS: dict[str, dict[str, Any]] = {
    "a.mp4": dict(sound="audible"),
    "front.mp4": dict(sound="audible", container_options={"movflags": "faststart"}, rotation=90),
    "pieces.mp4": dict(sound="audible", container_options={"movflags": "frag_keyframe+empty_moov"}),
    "b.mov": dict(codec="mjpeg", pix_fmt="yuvj420p"),
    "c.mkv": dict(sound="audible", audio_codec="flac", bframes=2),
    "d.webm": dict(codec="libvpx", sound="audible", audio_codec="libopus", rate=48_000),
    "e.avi": dict(codec="mpeg4", sound="audible", audio_codec="mp3"),
    "raw.avi": dict(codec="rawvideo", size=(32, 24)),
    "f.flv": dict(codec="flv", sound="audible", audio_codec="aac"),
    "g.ts": dict(codec="mpeg2video", sound="audible", audio_codec="mp2"),
    "h.mpg": dict(codec="mpeg2video", sound="audible", audio_codec="mp2"),
    "i.wmv": dict(codec="wmv2", sound="audible", audio_codec="wmav2", container_format="asf"),
}
"""Material of the inputs, as arguments of `media_files.write_video`."""


def bait(url: str, secret: str) -> dict[str, bytes]:
    """Files that name others, in every way that a demuxer might follow."""
    entity = f'<!DOCTYPE d [<!ENTITY x SYSTEM "file://{secret}">]>'
    return {
        "hls.mp4": media_files.hls(url),
        "hls-file.mp4": media_files.hls(f"file://{secret}"),
        "hls-crypt.mp4": media_files.hls(url).replace(
            b"#EXTINF", f'#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF'.encode()
        ),
        "concat.mp4": media_files.ffconcat(secret),
        "concat-url.mkv": media_files.ffconcat(url),
        "subfile.mp4": media_files.hls(f"subfile,,start,0,end,64,,:{secret}"),
        "concat-protocol.mp4": media_files.hls(f"concat:{url}|{secret}"),
        "dash.mp4": (
            f'<?xml version="1.0"?>{entity}<MPD type="static"><Period><AdaptationSet><Representation>'
            f"<BaseURL>{url}&x;</BaseURL></Representation></AdaptationSet></Period></MPD>"
        ).encode(),
        "smil.mp4": f'<?xml version="1.0"?>{entity}<smil><body><video src="{url}">&x;</video></body></smil>'.encode(),
        "svg.mp4": f'<?xml version="1.0"?>{entity}<svg><image href="{url}"/><text>&x;</text></svg>'.encode(),
        "sdp.mp4": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
        "list.mp4": f"{url}\n{secret}\n".encode(),
        "image.mp4": f"push graphic-context\nimage over 0,0 0,0 '{url}'\npop graphic-context\n".encode(),
    }


def corpus(folder: Path, url: str, secret: str) -> dict[str, bytes]:
    """Seeds by name: real files of a third of a second, and bait."""
    found = {
        name: media_files.write_video(
            folder / name, **{"duration_s": 0.32, "size": (48, 32), "gop": 4, **given}
        ).read_bytes()
        for name, given in KINDS.items()
    }
    found["j.y4m"] = media_files.y4m(folder / "j.y4m", 1, 2).read_bytes()
    # A reference to another file inside an otherwise good one.
    linked = found["a.mp4"].replace(b"url ", b"alis", 1)
    return found | {"alias.mp4": linked} | bait(url, secret)


CLOCKS = (b"mvhd", b"mdhd", b"tkhd", b"stts", b"ctts", b"elst", b"trun", b"tfdt", b"avih", b"strh", b"F1:1",
          b"\x2a\xd7\xb1", b"\x44\x89", b"\xe7", b"\xa3", b"onMetaData",
          b"\x00\x00\x01\xba", b"\x00\x00\x01\xe0")  # fmt: skip
"""Beginnings of what holds times: boxes, chunks, elements and packets of containers."""

INTERESTING = (0, 1, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF)


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """`data` with one to four damages, most of them small: a file must stay good enough to be read on."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        n = len(made)
        if n < 8:
            return bytes(made)
        # Headers lie at the ends, and are what parsers stumble over.
        at = rng.choice((rng.randrange(n), rng.randrange(min(n, 600)), n - 1 - rng.randrange(min(n, 600))))
        length = min(rng.choice((1, 4, 16, 256, 2048)), n - at)
        kind = rng.randrange(11)
        if kind == 0:
            made[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            made[at : at + length] = rng.randbytes(length)
        elif kind == 2:
            made[at : at + length] = bytes([rng.choice((0, 0xFF))]) * length
        elif kind == 3:
            number = rng.choice(INTERESTING)
            order = rng.choice("<>")
            made[at : at + 4] = struct.pack(f"{order}I", number)
        elif kind == 4:
            del made[at : at + length]
        elif kind == 5:
            made[at:at] = made[at : at + length] * rng.choice((1, 2, 50))
        elif kind == 6 and n > 64:
            del made[rng.randrange(32, n) :]
        elif kind == 7:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            made[at : at + length] = other[start : start + length]
        elif kind == 8:
            a, b = sorted(rng.sample(range(n), 2))
            made = made[:a] + made[b:] + made[a:b]
        else:  # a forged time
            places = [made.find(mark) for mark in CLOCKS if mark in made]
            if places:
                at = min(rng.choice(places) + rng.randrange(4, 40), n - 4)
                number = rng.choice((*INTERESTING, 90_000, 86_400_000, rng.getrandbits(31)))
                made[at : at + 4] = struct.pack(f"{rng.choice('<>')}I", number)
    return bytes(made[: 1 << 20])


def made(number: int, seeds: dict[str, bytes], seed: int, structured: float = 0.5) -> tuple[str, bytes]:
    """Name and bytes of one input. The first of each seed is left as it is.

    structured: fraction of the films that get edits of their structure, instead of damage anywhere.
    """
    names = sorted(seeds)
    name = names[number % len(names)]
    if number < len(names):
        return name, seeds[name]
    rng = random.Random(f"{seed} {number}")
    if rng.random() < 0.9:  # most are films that can be read on for a while
        name = rng.choice([*sorted(KINDS), "j.y4m"])
    suffix = Path(name).suffix
    if name in KINDS and suffix in EDITS and rng.random() < structured:
        return name, edited(seeds[name], suffix, rng)
    return name, mutated(seeds[name], list(seeds.values()), rng)
