"""Facts of headers by track, from mp4 and Matroska, whole and damaged."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import facts_films
from benchmarks.facts_films import DOLBY, in_boxes, in_elements
from pipelines.mux.facts import header_facts
from tests.support.ebml import element
from tests.support.mp4_boxes import box

MP4, MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("plain")
    return {
        MP4: facts_films.write(folder / "a.mp4").read_bytes(),
        MATROSKA: facts_films.write(folder / "a.mkv").read_bytes(),
    }


def test_dolby_vision_is_told_in_the_same_words(tmp_path: Path) -> None:
    in_boxes(box(b"dvvC", DOLBY))[".mp4"](tmp_path / "a.mp4")
    mapping = element(0x41E7, int.from_bytes(b"dvvC", "big")) + element(0x41ED, DOLBY)
    in_elements((0x41E4, mapping), place=())[".mkv"](tmp_path / "a.mkv")
    told = {}
    for path, name in ((tmp_path / "a.mp4", MP4), (tmp_path / "a.mkv", MATROSKA)):
        with path.open("rb") as file:
            tracks = header_facts.read_headers(file, name).tracks
        told[name] = [facts["Dolby Vision"] for facts in tracks.values() if "Dolby Vision" in facts]
    # Profile 8.1, level 3, by Dolby's layout of the configuration: 7 bits, 6 bits, three flags, 4 bits.
    assert told[MP4] == told[MATROSKA] == ["profile 8.1, level 3"]


def test_plain_films_and_others_have_none(plain: dict[str, bytes]) -> None:
    for name, data in plain.items():
        facts = header_facts.read_headers(io.BytesIO(data), name)
        assert set().union(*facts.tracks.values()) <= {"place of chroma samples"} and facts.film == {}
    assert header_facts.read_headers(io.BytesIO(b"RIFF"), "avi").tracks == {}


@given(st.data())
def test_any_damage_gives_fewer_facts_and_no_error(plain: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(plain)))
    damaged = bytearray(plain[name])
    start = damaged.rfind(b"moov") if name == MP4 else 0
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(start, min(len(damaged) - 1, start + 2000)))] = data.draw(
            st.integers(0, 255)
        )
    header_facts.read_headers(io.BytesIO(bytes(damaged)), name)
