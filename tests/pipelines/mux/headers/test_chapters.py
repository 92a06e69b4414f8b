"""Chapters of Matroska stay byte for byte: languages, several titles, chapters in chapters."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.mux import remux
from pipelines.mux.headers import chapters
from pipelines.mux.headers.matroska import HeaderDamaged
from pipelines.mux.headers.matroska import element as short_element
from pipelines.mux.track import Track
from tests.support import ebml, media_files
from tests.support.ebml import ATOM, CHAPTERS, CLUSTER, DISPLAY, EDITION, SEGMENT, element
from tests.support.muxing import RATE


def atom(uid: int, start_s: float, *displays: bytes, inner: bytes = b"") -> bytes:
    parts = element(0x73C4, uid) + element(0x91, round(start_s * 1e9)) + b"".join(displays)
    return element(ATOM, parts + inner)


def title(text: str, language: str, tag: str) -> bytes:
    names = element(0x85, text.encode()) + element(0x437C, language.encode()) + element(0x437D, tag.encode())
    return element(DISPLAY, names)


_INNER = atom(3, 0.1, title("In", "ita", "it"))

EDITIONS = element(
    EDITION,
    element(0x45BC, 77)
    + atom(1, 0.0, title("Eins", "ger", "de-AT"), title("One", "eng", "en"), inner=_INNER)
    + atom(2, 0.2, title("Zwei", "ger", "de-AT")),
)  # fmt: skip


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_the_list_stays_byte_for_byte(tmp_path: Path, name: str) -> None:
    codec = "libvpx" if name == "a.webm" else "libx264"
    plain = media_files.write_video(tmp_path / f"plain-{name}", codec=codec, duration_s=0.4)
    source = tmp_path / name
    with av.open(str(plain)) as one, av.open(str(source), "w") as out:
        picture = out.add_stream_from_template(one.streams.video[0], opaque=True)
        out.set_chapters(chapters.placeholder(b""))
        for packet in one.demux():
            if packet.dts is not None:
                packet.stream = picture
                out.mux(packet)
    ebml.edit(source, (CHAPTERS,), lambda _: EDITIONS)
    copy = tmp_path / "out" / name
    copy.parent.mkdir()
    result = remux.mux(str(source), [np.zeros((1, RATE), np.int16)], copy, Track(RATE, 0.0))
    assert ebml.find(copy.read_bytes(), SEGMENT, CHAPTERS) == [EDITIONS]
    for path in (source, copy):
        with av.open(str(path)) as film:
            marks = [(m["start"] * m["time_base"], m["metadata"]["title"]) for m in film.chapters()]
            assert (Fraction(1, 5), "Zwei") in marks
            assert sum(1 for _ in film.decode(video=0)) == 10
    assert result.dropped == () and b"v2a chapters" not in copy.read_bytes()


def test_a_damaged_or_huge_list_is_what_ffmpeg_reads(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mkv", duration_s=0.2)
    for content in (b"\x45\xb9\xff", b"\0" * 40, bytes(2 << 20)):
        ebml.edit(source, (CHAPTERS,), lambda _, content=content: content)
        with source.open("rb") as file:
            assert chapters.read_chapters(file) == b""
    copy = tmp_path / "copy.mkv"
    remux.mux(str(source), [np.zeros((1, RATE), np.int16)], copy, Track(RATE, 0.0))
    assert copy.exists()


@given(st.binary(max_size=300), st.integers(0, 200))
def test_any_place_is_filled(content: bytes, more: int) -> None:
    there = short_element(
        CHAPTERS, chapters.placeholder(content)[0]["metadata"]["title"].encode() + bytes(more)
    )
    file = io.BytesIO(element(0x1A45DFA3, b"") + element(SEGMENT, there + element(CLUSTER, b"x")))
    size = len(file.getvalue())
    chapters.write_chapters(file, content)
    parts = [pair for pair in ebml.elements(ebml.find(file.getvalue(), SEGMENT)[0]) if pair[0] != 0xEC]
    assert len(file.getvalue()) == size and parts == [(CHAPTERS, content), (CLUSTER, b"x")]


def test_a_list_without_place_is_refused() -> None:
    file = io.BytesIO(element(SEGMENT, short_element(CHAPTERS, b"x") + element(CLUSTER, b"x")))
    with pytest.raises(HeaderDamaged):
        chapters.write_chapters(file, bytes(100))
