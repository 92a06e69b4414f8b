"""Facts that a copy does not hold are named, and no others."""

from __future__ import annotations

import dataclasses
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import given
from hypothesis import strategies as st

from pipelines.mux import child, remux
from pipelines.mux.facts import comparison
from pipelines.mux.facts.comparison import FilmFacts, TrackFacts
from pipelines.mux.files import Source
from pipelines.mux.track import Track
from tests.support import media_files
from tests.support.mp4_boxes import ENTRY, box, edited
from tests.support.muxing import RATE

SILENCE = np.zeros((1, RATE), np.int16)

_TEXT = st.text("abcdefgh", min_size=1, max_size=6)
_VALUES = st.dictionaries(_TEXT, _TEXT, max_size=4)


@st.composite
def films(draw: st.DrawFn) -> FilmFacts:
    tracks = {
        number: TrackFacts(
            f"audio stream {number}",
            draw(_VALUES),
            draw(_TEXT),
            int(Disposition.forced),
            draw(_VALUES),
            False,
        )
        for number in range(draw(st.integers(0, 3)))
    }
    return FilmFacts(tracks, draw(_VALUES), draw(_VALUES))


@given(films())
def test_the_same_film_has_lost_nothing(film: FilmFacts) -> None:
    assert comparison.lost(film, film, {number: number for number in film.tracks}) == []


@given(films(), st.data())
def test_every_fact_that_is_gone_is_named_once(film: FilmFacts, data: st.DataObject) -> None:
    copies = {number: number + 1 for number in film.tracks}
    after = FilmFacts({copies[k]: t for k, t in film.tracks.items()}, film.tags, film.values)
    assert comparison.lost(film, after, copies) == []
    if film.tags:
        gone = data.draw(st.sampled_from(sorted(film.tags)))
        less = dataclasses.replace(after, tags={k: v for k, v in film.tags.items() if k != gone})
        assert comparison.lost(film, less, copies) == [f"film: tag {gone!r}"]
    for number, track in film.tracks.items():
        bare = TrackFacts(track.title, {}, "", 0, {}, False)
        told = comparison.lost(
            film, dataclasses.replace(after, tracks={**after.tracks, number + 1: bare}), copies
        )
        names = [f"{name} ({value})" for name, value in track.values.items()]
        names += [f"name {track.name!r}", "flag 'forced'", *(f"tag {name!r}" for name in track.tags)]
        assert told == [f"{track.title}: its {name}" for name in names]


def test_a_comment_may_grow_and_lose_what_is_taken_out() -> None:
    before = FilmFacts({}, {"comment": "mine\nours"})
    assert comparison.lost(before, FilmFacts({}, {"comment": "mine\nours\nmore"}), {}) == []
    assert comparison.lost(before, FilmFacts({}, {"comment": "mine\nnew"}), {}, removed="ours") == []
    assert comparison.lost(before, FilmFacts({}, {"comment": "mine\nnew"}), {}) == ["film: tag 'comment'"]


def test_a_time_code_is_told_once() -> None:
    entries = ["film: time code (1:00:00:00)", "film: chapters (2)"]
    assert comparison.told(entries, ["data stream 2: webm holds no time code"]) == entries[1:]
    assert comparison.told(entries, []) == entries


def test_entries_are_bounded_texts() -> None:
    told = comparison.told([f"film: tag {k} \udcff" for k in range(1000)], [])
    assert len(told) == 201 and told[0] == "film: tag 0 ?" and told[-1] == "film: 800 more facts"


def test_a_hostile_title_and_many_tags_fail_nothing(tmp_path: Path) -> None:
    plain = media_files.write_video(tmp_path / "plain.mkv", duration_s=0.2, codec="mpeg4")
    source = tmp_path / "a.mkv"
    with av.open(str(plain)) as one, av.open(str(source), "w") as out:
        copy = out.add_stream_from_template(one.streams.video[0], opaque=True)
        out.metadata.update({f"tag {k} x": "y" for k in range(400)} | {"title": "TITLE"})
        for packet in one.demux():
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    source.write_bytes(source.read_bytes().replace(b"TITLE", b"\xff\xfe\xff\xfe\xff"))
    result = child.mux_in_child(str(source), [SILENCE], tmp_path / "a.avi", Track(RATE, 0.0))
    assert 0 < len(result.dropped) <= 201


def film(path: Path) -> Path:
    """An mp4 film with a colour profile, a box of tomorrow, and facts that every container holds."""
    source = media_files.write_video(
        path, sound="audible", rotation=90, aspect=Fraction(16, 11), duration_s=0.4
    )
    boxes = box(b"colr", b"prof" + bytes(140)) + box(b"tEsT", b"tomorrow")
    boxes += box(b"clli", struct.pack(">2H", 1000, 400))
    source.write_bytes(edited(source.read_bytes(), ENTRY, boxes))
    return source


def test_the_report_names_what_matroska_does_not_hold(tmp_path: Path) -> None:
    source = film(tmp_path / "a.mp4")
    same = child.mux_in_child(str(source), [SILENCE], tmp_path / "b.mp4", Track(RATE, 0.0, strict=True))
    assert same.dropped == ()
    other = child.mux_in_child(str(source), [SILENCE], tmp_path / "b.mkv", Track(RATE, 0.0))
    title = "video stream 0 (h264): its"
    assert sorted(other.dropped) == [f"{title} box 'tEsT'", f"{title} colour profile (ICC)"]
    with pytest.raises(remux.MuxFailed, match="tEsT") as failed:
        child.mux_in_child(str(source), [SILENCE], tmp_path / "c.mkv", Track(RATE, 0.0, strict=True))
    assert failed.value.error_class == "StreamLeftOut" and not (tmp_path / "c.mkv").exists()


def test_reading_ends_with_the_first_pictures(tmp_path: Path) -> None:
    source = media_files.write_video(tmp_path / "a.mkv", duration_s=4)
    ticks: list[None] = []
    with source.open("rb") as file, Source(file).open() as opened:
        facts = comparison.read(opened, file, lambda: ticks.append(None))
    assert facts.tracks[0].has_picture and 0 < len(ticks) < 20
