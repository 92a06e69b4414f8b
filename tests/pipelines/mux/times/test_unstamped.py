"""Pictures without times are copied one after another, in the order in which they are shown."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest

from pipelines.mux.files import Source
from pipelines.mux.times.edit_lists import read_edit_lists
from pipelines.mux.times.unstamped import ShownOrder, lacks_times
from tests.support import media_files
from tests.support.mp4_edits import shown
from tests.support.muxing import dub

FILMS = [("a.h264", "libx264"), ("a.hevc", "libx265"), ("a.mpg", "libx264"), ("a.mpg", "libx265")]


@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize(("name", "codec"), FILMS)
def test_a_copy_shows_one_picture_after_another(tmp_path: Path, name: str, codec: str, bframes: int) -> None:
    film = media_files.write_video(tmp_path / name, codec=codec, bframes=bframes, duration_s=1.2)
    with film.open("rb") as file:
        assert lacks_times(Source(file))
    copy, _ = dub(film, tmp_path / "out")
    pictures = shown(copy)
    assert [number for _, number in pictures] == list(range(30))
    assert [time_s for time_s, _ in pictures] == pytest.approx([k / 25 for k in range(30)], abs=0.0011)


def test_films_with_times_are_not_decoded(tmp_path: Path) -> None:
    for name, codec in (("a.ts", "libx264"), ("a.mpg", "mpeg2video"), ("a.mp4", "libx264")):
        film = media_files.write_video(tmp_path / name, codec=codec, bframes=2, duration_s=0.4)
        with film.open("rb") as file:
            assert not lacks_times(Source(file))


def test_own_times_stay_and_damaged_pictures_hold_nothing_up(tmp_path: Path) -> None:
    """Every fifth picture has a time, four steps apart instead of five; one packet is damaged."""
    path = media_files.write_video(tmp_path / "a.mp4", duration_s=1, bframes=0)
    with av.open(str(path)) as film:
        video = film.streams.video[0]

        def packets() -> Iterator[av.Packet]:
            for number, packet in enumerate(film.demux(video)):
                if packet.size:
                    packet.dts = None
                    packet.pts = None if number % 5 else number * 4 * 3600 // 5 * 5
                    if number == 7:
                        packet.update(bytes(packet.size))
                    yield packet

        times = [packet.pts for packet in ShownOrder(video).stamped(packets())]
    assert len(times) == 25
    assert times[:6] == [0, 3600, 7200, 10800, 14400, 72000] and times[6] == 75600
    assert times[10] == 10 * 4 * 3600 and times[11] == times[10] + 3600


def test_a_box_of_absurd_size_is_no_index(tmp_path: Path) -> None:
    """A stream with start codes looks like one: its first bytes say that a size of 64 bits follows."""
    path = tmp_path / "a.h264"
    path.write_bytes(struct.pack(">I4sQ", 1, b"free", 2**63 + 5) + bytes(64))
    with path.open("rb") as file:
        assert read_edit_lists(file).plain


def test_a_rate_that_is_announced_is_the_step(tmp_path: Path) -> None:
    film = media_files.write_video(
        tmp_path / "a.h264", duration_s=1, fps=Fraction(30_000, 1001), bframes=2, codec="libx264"
    )
    with av.open(str(film)) as source:
        rate = source.streams.video[0].average_rate
    copy, _ = dub(film, tmp_path / "out")
    assert [t for t, _ in shown(copy)] == pytest.approx([float(k / rate) for k in range(30)], abs=0.0011)
