"""Facts in the boxes of mp4 and mov stay, byte for byte, as an independent reader of boxes finds them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.mux import remux
from pipelines.mux.headers import mp4
from pipelines.mux.track import Track
from tests.support import media_files
from tests.support.mp4_boxes import ENTRY, box, boxes, child, edited, handler, sample_entry, tracks
from tests.support.muxing import RATE, title_of

DOLBY = box(b"dvvC", bytes([1, 0, 16, 29, 16]) + bytes(19))
"""Dolby Vision, profile 8.1."""

LIGHT = box(b"mdcv", struct.pack(">8H2I", 13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450, 10_000_000, 1)) + box(
    b"clli", struct.pack(">2H", 1000, 400)
)  # fmt: skip

_PROJECTION = box(b"prhd", bytes(4) + struct.pack(">3i", 10 << 16, 0, 0)) + box(b"equi", bytes(20))
SPHERE = box(b"st3d", bytes(4) + b"\2") + box(
    b"sv3d", box(b"svhd", bytes(4) + b"x\0") + box(b"proj", _PROJECTION)
)

APERTURE = box(b"clap", struct.pack(">8I", 90, 1, 60, 1, 0, 1, 0, 1))

UNKNOWN = box(b"tEsT", b"a fact of tomorrow")

FACTS = {"dolby vision": DOLBY, "light": LIGHT, "sphere": SPHERE, "aperture": APERTURE, "unknown": UNKNOWN}


def film(path: Path, more: bytes, place: tuple[bytes, ...] = ENTRY, **options: object) -> Path:
    source = media_files.write_video(path, sound="silent", duration_s=0.2, **options)  # type: ignore[arg-type]
    source.write_bytes(edited(source.read_bytes(), place, more))
    return source


def copied(source: Path, name: str) -> Path:
    out = source.parent / "out"
    out.mkdir(exist_ok=True)
    track = Track(RATE, 0.0, tags={"comment": "Synthetic sound"})
    result = remux.mux(str(source), [np.zeros((1, RATE), np.int16)], out / name, track)
    assert result.dropped == ()
    return out / name


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("fact", FACTS)
def test_facts_of_the_picture_stay(tmp_path: Path, fact: str, suffix: str) -> None:
    source = film(tmp_path / f"a{suffix}", FACTS[fact])
    copy = copied(source, source.name)
    [picture] = [track for track in tracks(copy) if handler(track) == b"vide"]
    found = sample_entry(picture)
    for kind, content in boxes(FACTS[fact]):
        assert found[kind] == content, kind
    again = copied(copy, f"again{suffix}")
    assert sample_entry(next(t for t in tracks(again) if handler(t) == b"vide")) == found
    with av.open(str(copy)) as opened:
        assert sum(1 for _ in opened.decode(video=0)) == 5
        assert remux.TITLE in [title_of(stream) for stream in opened.streams.audio]


def test_language_tags_stay(tmp_path: Path) -> None:
    source = film(tmp_path / "a.mp4", box(b"elng", bytes(4) + b"pt-BR\0"), (b"mdia",))
    copy = copied(source, "a.mp4")
    assert [child(t, b"mdia", b"elng") for t in tracks(copy) if handler(t) == b"vide"] == [
        bytes(4) + b"pt-BR\0"
    ]


ITEMS = {
    b"\xa9ART": (1, b"An artist"), b"\xa9day": (1, b"1999"), b"desc": (1, b"What it shows"),
    b"trkn": (0, bytes([0, 0, 0, 1, 0, 2, 0, 0])), b"stik": (21, b"\x09"), b"\xa9cmt": (1, b"16 mm"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_tags_of_itunes_and_of_cameras_stay(tmp_path: Path, suffix: str) -> None:
    items = b"".join(box(k, box(b"data", struct.pack(">II", n, 0) + v)) for k, (n, v) in ITEMS.items())
    meta = box(b"meta", bytes(4) + box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9)) + box(b"ilst", items))
    place = box(b"\xa9xyz", struct.pack(">HH", 17, 0x15C7) + b"+48.2082+016.3738")
    source = media_files.write_video(tmp_path / f"a{suffix}", duration_s=0.2)
    data = source.read_bytes()
    at = data.rfind(b"moov") - 4
    movie = [(k, c) for k, c in boxes(data[at + 8 :]) if k != b"udta"]
    joined = b"".join(box(k, c) for k, c in movie) + box(b"udta", meta + place)
    source.write_bytes(data[:at] + box(b"moov", joined))
    copy = copied(source, source.name)
    user = child(copy.read_bytes(), b"moov", b"udta")
    found = dict(boxes(child(user, b"meta")[4:]))
    assert found[b"hdlr"][8:12] == b"mdir"
    kept = {kind: dict(boxes(content))[b"data"] for kind, content in boxes(found[b"ilst"])}
    wanted = {kind: struct.pack(">II", n, 0) + value for kind, (n, value) in ITEMS.items()}
    wanted[b"\xa9cmt"] += b"\nSynthetic sound"
    assert kept == wanted
    assert child(user, b"\xa9xyz") == struct.pack(">HH", 17, 0x15C7) + b"+48.2082+016.3738"
    with av.open(str(copy)) as opened:
        assert opened.metadata["artist"] == "An artist" and opened.metadata["comment"].endswith(
            "Synthetic sound"
        )


def test_plain_films_are_not_touched(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mp4", sound="silent")
    file = io.BytesIO(source.read_bytes())
    mp4.add_facts(file, mp4.read_facts(file), {1: 1, 2: 2})
    assert file.getvalue() == source.read_bytes()


def test_damaged_sources_give_no_facts_and_foreign_copies_are_refused(tmp_path: Path) -> None:
    whole = film(tmp_path / "a.mp4", DOLBY).read_bytes()
    for data in (b"", b"abc", whole[:-40], whole.replace(b"stsd", b"\xff\xff\xff\xff")):
        facts = mp4.read_facts(io.BytesIO(data))
        assert not facts.entries.get(1)
    with pytest.raises(ValueError, match="last box"):
        mp4.add_facts(io.BytesIO(whole + box(b"free", b"")), mp4.Mp4Facts(), {})
