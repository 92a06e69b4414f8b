"""Tracks taken out of an mp4 film keep their samples, times and names; a damaged index gives nothing."""

from __future__ import annotations

import io

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.mux.streams import mp4_tracks
from tests.support.odd_streams import write_film


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("film")
    return write_film(folder / "a.mp4", ["bin_data"], sound="audible").read_bytes()


def taken(film: bytes, *ids: int) -> bytes:
    output = io.BytesIO()
    written = mp4_tracks.write_tracks(io.BytesIO(film), output, ids, lambda: None)
    assert written == len(output.getvalue()) or written == 0
    return output.getvalue()


def packets(data: bytes, number: int) -> list[tuple[int | None, int | None, bytes]]:
    """Time, length and content of the packets of the track with a number."""
    with av.open(io.BytesIO(data)) as opened:
        stream = next(s for s in opened.streams if s.id == number)
        return [(p.pts, p.duration, bytes(p)) for p in opened.demux(stream) if p.size]


@pytest.mark.parametrize("ids", [(1,), (2,), (3,), (1, 3), (1, 2, 3)])
def test_samples_and_times_stay(film: bytes, ids: tuple[int, ...]) -> None:
    data = taken(film, *ids)
    with av.open(io.BytesIO(data)) as opened:
        assert sorted(stream.id for stream in opened.streams) == sorted(ids)
    for number in ids:
        assert packets(data, number) == packets(film, number) != []


def test_a_large_table_of_places_is_read(film: bytes) -> None:
    again = taken(film, 1, 2, 3)  # whose chunks are placed by 64 bits
    assert taken(again, 2) != b"" and packets(taken(again, 2), 2) == packets(film, 2)


def test_no_such_track_and_no_index(film: bytes) -> None:
    assert taken(film, 9) == b"" and taken(b"", 1) == b"" and taken(film[:200], 1) == b""


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_damage_to_the_index_ends(film: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(film)
    start = film.rfind(b"moov")
    for at, value in changes:
        damaged[min(start + at, len(film) - 1)] = value
    assert len(taken(bytes(damaged), 2, 3)) <= 2 * len(film)
