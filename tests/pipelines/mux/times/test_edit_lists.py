"""Copies of mp4 and mov show what the edit lists of their sources show, picture for picture and time for time."""

from __future__ import annotations

import io
import random
import struct
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.media.errors import DecodeFailed
from pipelines.mux import remux
from pipelines.mux.times.edit_lists import (
    BrokenIndex,
    Edit,
    EditListCopy,
    EditLists,
    TrackEdits,
    movie_timescale,
    read_edit_lists,
)
from pipelines.mux.track import MuxFailed, Track
from tests.support import media_files
from tests.support.mp4_boxes import box, edited
from tests.support.mp4_edits import boxes, edits_of, set_edits, shown
from tests.support.muxing import dub, read

LISTS: dict[str, list[tuple[float, float | None]]] = {
    "end trimmed": [(1.0, 0)],
    "both ends trimmed": [(1.0, 0.5)],
    "a part cut out": [(0.5, 0), (0.6, 1.1)],
    "a part twice": [(0.5, 0), (0.5, 0.3)],
    "late, and both ends trimmed": [(0.3, None), (0.7, 0.2)],
    "nothing in between": [(0.4, 0.1), (0.3, None), (0.4, 1.0)],
    "in another order": [(0.4, 1.2), (0.4, 0.2)],
}


def film(path: Path, **more: Any) -> Path:
    return media_files.write_video(path, duration_s=2, **{"sound": "audible", **more})


@pytest.mark.parametrize("edits", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize(("name", "bframes"), [("a.mp4", 2), ("a.mov", 0), ("a.3gp", 2), ("a.3g2", 0)])
def test_a_copy_shows_what_its_source_shows(
    tmp_path: Path, name: str, bframes: int, edits: list[tuple[float, float | None]]
) -> None:
    source = film(tmp_path / name, bframes=bframes, rate=16_000)
    late_s = bframes / 25
    set_edits(source, [(length, m if m is None else m + late_s) for length, m in edits])
    before = shown(source)
    copy, _ = dub(source, tmp_path / "out", at_s=0.3, default=False)
    assert copy.name == name if name in ("a.mp4", "a.mov") else f"{name}.mov"
    assert shown(copy) == before
    assert read(copy).click_s == pytest.approx(0.3, abs=0.003)


def test_the_film_and_its_sound_keep_their_own_lists(tmp_path: Path) -> None:
    source = film(tmp_path / "a.mp4", bframes=2)
    video, sound = [(0.5, 0.08), (0.6, 1.12)], [(0.75, 0.25), (0.25, None), (0.1, 1.0)]
    set_edits(source, video, 0)
    set_edits(source, sound, 1)
    copy, _ = dub(source, tmp_path / "out", default=False)
    for track, edits in enumerate((video, sound)):
        assert edits_of(source, track) == edits_of(copy, track)
        assert [m for _, m in edits_of(copy, track)] == [pytest.approx(m, abs=1e-4) for _, m in edits]


def test_an_ordinary_film_is_copied_as_before(tmp_path: Path) -> None:
    options: dict[str, dict[str, Any]] = {"a.mp4": {"bframes": 2}, "b.mp4": {"start_s": 0.37}, "c.mov": {}}
    for name, more in options.items():
        with film(tmp_path / name, **more).open("rb") as file:
            assert read_edit_lists(file).plain


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_edit_list(data: st.DataObject) -> None:
    draw = data.draw
    n_frames = draw(st.integers(2, 30))
    random_ = random.Random(draw(st.integers(0, 9)))
    times = sorted({round(random_.uniform(0, 2), 3) for _ in range(n_frames)} | {0.0})
    part = st.tuples(st.floats(0.04, 1.5), st.one_of(st.none(), st.floats(0, 1.9)))
    lists = [draw(st.lists(part, min_size=1, max_size=4)) for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        source = film(
            Path(folder, draw(st.sampled_from(["a.mp4", "a.mov", "a.m4v"]))),
            bframes=draw(st.sampled_from([0, 1, 3])),
            gop=draw(st.sampled_from([1, 5, 12])),
            times_s=draw(st.sampled_from([None, times])),
        )
        for track, edits in enumerate(lists):
            set_edits(source, edits, track)
        try:
            before = shown(source)
            copy, _ = dub(source, Path(folder, "out"), at_s=0.0, default=False)
        except (IndexError, DecodeFailed):  # nothing is shown
            return
        assert shown(copy) == before


def test_containers_without_edit_lists_get_no_hidden_pictures(tmp_path: Path) -> None:
    for name, edits in LISTS.items():
        source = set_edits(film(tmp_path / f"{name}.mp4", gop=100), edits)
        copy = tmp_path / f"{name}.mkv"
        try:
            remux.mux(str(source), [np.zeros((1, 100), np.int16)], copy, Track(100, 0.0, default=False))
        except MuxFailed as error:
            assert error.error_class == "ContainerCannotHold" and name != "end trimmed"
            continue
        assert [n for _, n in shown(copy)] == [n for _, n in shown(source)]
        assert [t for t, _ in shown(copy)] == pytest.approx([t for t, _ in shown(source)], abs=0.0015)


def test_plain_lists() -> None:
    def plain(*edits: tuple[int, int], rate: int = 1 << 16) -> bool:
        return TrackEdits(90_000, 180_000, tuple(Edit(d, m, rate) for d, m in edits)).is_plain(1000)

    assert plain() and plain((2000, 0)) and plain((0, 0)) and plain((500, -1), (1000, 90_000))
    assert plain((1999, 0))  # rounded
    assert not plain((1990, 0)) and not plain((1000, 0), (1000, 90_000)) and not plain((500, -1))
    assert not plain((2000, 0), (100, -1)) and not plain((2000, 0), rate=1 << 15)


def test_the_clock_of_the_movie_is_exact_where_it_can_be() -> None:
    def clock(timescale: int) -> int:
        return movie_timescale(EditLists(timescale), 44_100)

    assert clock(600) == 88_200 and clock(1000) == 441_000 and clock(44_100) == 44_100
    assert clock(2**31 - 1) == 44_100


def test_damaged_indexes_are_no_edit_lists(tmp_path: Path) -> None:
    source = set_edits(film(tmp_path / "a.mp4"), LISTS["a part cut out"])
    data = source.read_bytes()
    at = next(boxes(data, b"moov"))[0]
    copy = EditListCopy(read_edit_lists(io.BytesIO(data)))
    for content in (b"", b"\0" * 40, data[:at]):
        assert read_edit_lists(io.BytesIO(content)).plain
        with pytest.raises(BrokenIndex):
            copy.write(io.BytesIO(content))
    assert read_edit_lists(io.BytesIO(data[: at + 60])).plain
    copy.note(0, 1, Fraction(0))
    with pytest.raises(BrokenIndex, match="not at its end"):
        copy.write(io.BytesIO(data + b"\0\0\0\x08free"))


def test_of_several_lists_the_last_counts(tmp_path: Path) -> None:
    """A second list in a track, as damage makes it, replaces the first one for FFmpeg."""
    film = set_edits(media_files.write_video(tmp_path / "a.mp4", duration_s=1.2, gop=5), [(0.4, 0.2)])
    entries = struct.pack(">IIIiIIiI", 0, 2, 200, 0, 1 << 16, 300, 36_000, 1 << 16)
    film.write_bytes(edited(film.read_bytes(), (), box(b"edts", box(b"elst", entries))))
    copy, _ = dub(film, tmp_path / "out")
    assert shown(copy) == shown(film) and len(shown(film)) > 2
