"""Lengths that are only claimed, gaps in time stamps, and long films that are true."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest

from pipelines.media import length
from pipelines.media.errors import DecodeFailed
from tests.support.decoding import failure, numbers, probe
from tests.support.media_files import write_video, y4m

HOUR = 3600.0


def test_days_in_a_few_hundred_bytes(tmp_path: Path) -> None:
    tiny = y4m(tmp_path / "a.y4m", 1_200_000)
    assert tiny.stat().st_size < 850
    error = failure(tiny)
    assert error.error_class == "BadTimestamps" and "1 picture claims to last 333.3 h" in error.message
    assert "correct its time stamps" in error.message
    assert failure(y4m(tmp_path / "b.y4m", 10_000_000)).error_class == "BadTimestamps"  # beyond any limit
    assert probe(y4m(tmp_path / "c.y4m", 7200)).duration_s == 7200  # a still is believed
    assert failure(y4m(tmp_path / "d.y4m", 7201)).error_class == "BadTimestamps"


@pytest.mark.parametrize("suffix", [".mkv", ".flv"])  # transport streams go on: see test_clock
def test_a_leap_in_the_time_stamps_is_an_error(tmp_path: Path, suffix: str) -> None:
    leap = (13 if suffix == ".mkv" else 0.5) * 86_400  # the clock of the other turns after some weeks
    path = write_video(tmp_path / f"a{suffix}", times_s=[0.0, 0.04, leap, leap + 0.04])
    error = failure(path)
    assert error.error_class == "BadTimestamps" and f"{leap / HOUR:.1f} h without a new" in error.message
    path = write_video(tmp_path / f"b{suffix}", times_s=[0.0, 0.04, HOUR, HOUR + 0.04])
    assert probe(path).duration_s == pytest.approx(HOUR + 0.08, abs=0.05)
    seen = numbers(path, HOUR - 1, HOUR + 0.08)
    assert (seen[0], seen[-1]) == (1, 3)  # the still, and the last picture


def forged(path: Path, box: bytes, at: int, number: int, order: Literal["little", "big"]) -> Path:
    """The file with another number, of 32 bits, so many bytes after the name of a box."""
    data = bytearray(path.read_bytes())
    place = data.index(box) + at
    data[place : place + 4] = number.to_bytes(4, order)
    path.write_bytes(data)
    return path


def test_forged_clocks(tmp_path: Path) -> None:
    """True films of a second whose headers say that each picture stands for ten hours."""
    avi = write_video(tmp_path / "a.avi", duration_s=1, codec="mpeg4")
    assert "250.0 h" in failure(forged(avi, b"strh", 28, 25 * 36_000, "little")).message
    mp4 = write_video(tmp_path / "a.mp4", duration_s=1)
    mp4.write_bytes(mp4.read_bytes().replace(b"elst", b"free"))
    long = forged(forged(mp4, b"mdhd", 16, 1, "big"), b"stts", 16, 36_000, "big")
    assert "250.0 h" in failure(long).message


def test_only_the_last_picture_lasts_as_long_as_its_packet_says(tmp_path: Path) -> None:
    """A packet in the middle that claims an hour: the next picture comes when its own time says."""
    path = write_video(tmp_path / "a.mkv", duration_s=1)
    whole = probe(path).duration_s
    times = length.PictureTimes(0.04)

    class Packet:
        def __init__(self, pts: int, duration: int) -> None:
            self.pts, self.dts, self.duration, self.time_base = pts, None, duration, 0.04

    for pts, duration in ((0, 90_000), (2, 1), (1, 90_000)):
        times.add(Packet(pts, duration))
    assert times.duration_s(0.0) == pytest.approx(0.12) and len(times) == 3
    assert whole == pytest.approx(1.0)


def check(lasts_s: list[float], sound_s: float = 0.0) -> str:
    try:
        length.check_stills(np.array(lasts_s), sum(lasts_s), sound_s)
    except DecodeFailed as error:
        return error.error_class
    return ""


def test_long_films_that_are_true() -> None:
    assert not check([60.0] * 1440)  # time lapse: a day at a picture a minute
    assert not check([HOUR] * 30)
    assert not check([1.0] * 36_000)  # ten hours of a security camera
    assert not check([0.04] * 50 + [HOUR] + [0.04] * 50)  # an hour-long still
    assert not check([1.0] * 18_000 + [4 * HOUR] + [1.0] * 3600)  # a camera that slept, less than it recorded
    assert check([1.0] * 3600 + [4 * HOUR] + [1.0] * 3600) == "BadTimestamps"
    assert check([0.04, 13 * 86_400.0, 0.04]) == "BadTimestamps"
    assert check([3 * HOUR] * 4) == "BadTimestamps"


def test_sound_explains_a_picture_that_stands_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture with a talk; sound that ends long before explains nothing."""
    assert not check([3 * HOUR], sound_s=3 * HOUR)
    assert check([3 * HOUR], sound_s=HOUR) == "BadTimestamps"
    monkeypatch.setattr(length, "LONGEST_STILL_S", 2.0)
    talk = write_video(tmp_path / "a.mkv", times_s=[0.0, 3.0], sound="silent", sound_s=3)
    assert probe(talk).duration_s == pytest.approx(3.04)
    mute = write_video(tmp_path / "b.mkv", times_s=[0.0, 3.0], sound="silent", sound_s=1)
    assert failure(mute).error_class == "BadTimestamps"


def copied_to_avi(source: Path, path: Path) -> Path:
    """A stream copy, as recorders and `ffmpeg -c copy` make it: its clock is finer than its pictures."""
    with av.open(str(source)) as film, av.open(str(path), "w") as out:
        copies = {stream: out.add_stream_from_template(stream) for stream in film.streams.video}
        for packet in film.demux(*copies):
            if packet.dts is not None:
                packet.stream = copies[packet.stream]
                out.mux(packet)
    return path


@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize("fps", [25, 30, Fraction(30_000, 1001)])
def test_avi_with_a_fine_clock(tmp_path: Path, fps: Any, bframes: int) -> None:
    source = write_video(tmp_path / "a.ts", duration_s=2, fps=fps, bframes=bframes)
    found = probe(copied_to_avi(source, tmp_path / "a.avi"))
    assert found.n_frames == round(2 * fps)
    assert found.duration_s == pytest.approx(found.n_frames / float(fps), abs=0.004)
    assert found.fps == pytest.approx(float(fps), rel=0.002)


@pytest.mark.parametrize(("codec", "bframes"), [("libx264", 0), ("libx264", 2), ("mpeg2video", 0)])
def test_a_recording_that_starts_inside_a_group_of_pictures(tmp_path: Path, codec: str, bframes: int) -> None:
    path = write_video(tmp_path / "a.ts", duration_s=4, codec=codec, bframes=bframes, gop=50)
    data = path.read_bytes()
    for fraction in (0.1, 0.4):
        path.write_bytes(data[int(len(data) / 188 * fraction) * 188 :])
        found = probe(path)
        assert found.fps == pytest.approx(25, abs=0.01), fraction
        assert found.n_frames == round(25 * found.duration_s) < 100


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.mp4", "a.ts"])
def test_late_pictures_do_not_end_early(tmp_path: Path, name: str) -> None:
    codec = "libvpx-vp9" if name == "a.webm" else "libx264"
    late = write_video(tmp_path / name, codec=codec, start_s=20, sound="silent", sound_s=22)
    assert (probe(late).note, probe(late).duration_s) == ("", pytest.approx(1, abs=0.05))
