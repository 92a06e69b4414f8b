"""Damaged and hostile files through scan and decode, as many as one likes: `python -m tests.fuzz --inputs 5000`.

Every input is a function of the seed and its number: a small real file of some container, or a playlist, mutated. It
must end as one row of the scan, and decode or fail with a DecodeFailed; anything else that reaches the parent is an
escape, kept in --keep with its number. An HTTP server and a file that playlists name watch whether anything is read
through them.
"""

from __future__ import annotations

import argparse
import http.server
import random
import shutil
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pipelines import storage
from pipelines.archive import scan
from pipelines.media.errors import DecodeFailed
from pipelines.sandbox.decoder import Sandbox, View
from tests.support import media_files

VIEWS = [View(5, 32, 32), View(2, 24, 16, fit="contain")]

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
    # A reference to another file inside an otherwise good one.
    linked = found["a.mp4"].replace(b"url ", b"alis", 1)
    return found | {"alias.mp4": linked} | bait(url, secret)


INTERESTING = (0, 1, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF)


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """`data` with one to six damages, most of them small: a file must stay good enough to be read on."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        n = len(made)
        if n < 8:
            return bytes(made)
        # Headers lie at the ends, and are what parsers stumble over.
        at = rng.choice((rng.randrange(n), rng.randrange(min(n, 600)), n - 1 - rng.randrange(min(n, 600))))
        length = min(rng.choice((1, 4, 16, 256, 2048)), n - at)
        kind = rng.randrange(9)
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
    return bytes(made[: 1 << 20])


@dataclass
class Tally:
    """Observations of a campaign."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    escapes: list[str] = field(default_factory=list)
    """Inputs after which something else than a row and a DecodeFailed reached the parent. Must stay empty."""
    fetched: list[str] = field(default_factory=list)
    """Requests that the HTTP server saw. Must stay empty."""
    seconds: float = 0.0
    slowest_s: float = 0.0
    growth_mb: float = 0.0
    """Memory of the parent after the first fiftieth of the inputs, against the end."""

    def lines(self) -> list[str]:
        told = [f"{self.inputs} inputs in {self.seconds:.0f} s, the slowest {self.slowest_s:.1f} s"]
        told += [f"  {count:6d}  {name}" for name, count in self.outcomes.most_common()]
        told += [
            f"crashes of the parent: {len(self.escapes)}; requests over the network: {len(self.fetched)}"
        ]
        return [*told, f"memory of the parent grew by {self.growth_mb:.0f} MB", *self.escapes]


def examine(path: Path, sandbox: Sandbox) -> str:
    """The file through scan and decode; the outcome in words. Raises what an escape raises."""
    [info] = [each for each in storage.list_tree(str(path.parent)) if each.path == path.name]
    row = scan.scan_file(info, sandbox)
    scan.to_table([row])
    if row["status"] != "ok":
        return f"scan: {row['status']} {row['error_class']}".rstrip()
    try:
        arrays = sandbox.decode_views(str(path), VIEWS, 0.0, 0.4)
        assert [a.shape for a in arrays] == [(2, 32, 32, 3), (1, 16, 24, 3)], (
            "pictures that were not asked for"
        )
    except DecodeFailed as error:
        return f"pictures: {error.error_class}"
    if row["audio_state"] not in ("audible", "silent"):
        return "decoded"
    try:
        sound = sandbox.decode_sound(str(path), 0.0, 0.3, channels=1)
        assert sound.shape == (1, 13230) and np.isfinite(sound).all(), "sound that was not asked for"
    except DecodeFailed as error:
        return f"sound: {error.error_class}"
    return "decoded with sound"


class Watch(http.server.ThreadingHTTPServer):
    """An HTTP server that nobody may ask."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        seen = self.seen

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.path)
                self.send_error(404)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/stolen.ts"


def made(number: int, seeds: dict[str, bytes], seed: int) -> tuple[str, bytes]:
    """Name and bytes of one input. The first of each seed is left as it is."""
    names = sorted(seeds)
    name = names[number % len(names)]
    if number < len(names):
        return name, seeds[name]
    rng = random.Random(f"{seed} {number}")
    return name, mutated(seeds[name], list(seeds.values()), rng)


def campaign(inputs: int, seed: int, keep: Path | None = None, first: int = 0) -> Tally:
    """Runs the inputs numbered from `first` on."""
    tally, started = Tally(), time.monotonic()
    parent, early_mb = psutil.Process(), 0.0
    with tempfile.TemporaryDirectory() as scratch, Watch() as server:
        secret = Path(scratch, "secret")
        secret.write_bytes(b"what nobody may read\n" * 50)
        (Path(scratch) / "seeds").mkdir()
        seeds = corpus(Path(scratch) / "seeds", server.url, str(secret))
        with Sandbox(memory_mb=1024, timeout_s=20, threads=1, retries=0) as sandbox:
            for number in range(first, first + inputs):
                name, data = made(number, seeds, seed)
                place = Path(scratch, "one")
                place.mkdir(exist_ok=True)
                path = place / name
                path.write_bytes(data)
                begun = time.monotonic()
                try:
                    tally.outcomes[examine(path, sandbox)] += 1
                except Exception as error:  # the thing that is looked for
                    tally.escapes.append(f"input {number} ({name}): {type(error).__name__}: {error}")
                    if keep is not None:
                        keep.mkdir(parents=True, exist_ok=True)
                        shutil.copy(path, keep / f"{number}-{name}")
                path.unlink()
                tally.slowest_s = max(tally.slowest_s, time.monotonic() - begun)
                tally.inputs += 1
                if tally.inputs == max(1, inputs // 50):
                    early_mb = parent.memory_info().rss / 2**20
        server.shutdown()
        tally.fetched = server.seen
    tally.growth_mb = parent.memory_info().rss / 2**20 - early_mb
    tally.seconds = time.monotonic() - started
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first input, to go on or to look again"
    )
    parser.add_argument(
        "--keep", type=Path, default=Path("out/fuzz"), help="where inputs that escaped are kept"
    )
    given = parser.parse_args()
    tally = campaign(given.inputs, given.seed, given.keep, given.first)
    print("\n".join(tally.lines()))
    return 1 if tally.escapes or tally.fetched else 0


if __name__ == "__main__":
    sys.exit(main())
