"""Decoding: the right picture at the right time, upright; sound on the same timeline."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.media import geometry, video
from pipelines.media.video import View
from tests.support import SHARED, media_files
from tests.support.decoding import numbers, probe, sound, views
from v2a_models import grid

# ---- picking frames, pure

times = st.lists(st.floats(0, 10, allow_nan=False), min_size=1, max_size=30)


@given(
    frames=times,
    targets=st.lists(times.map(sorted), min_size=1, max_size=3),
    tolerance=st.sampled_from([0.0, 0.01]),
)
def test_every_target_gets_the_newest_frame_at_or_before_it(
    frames: list[float], targets: list[list[float]], tolerance: float
) -> None:
    order = []  # what is left when frames older than one already seen are dropped
    for time in frames:
        if not order or time >= order[-1]:
            order.append(time)
    got = [np.full(len(t), np.nan) for t in targets]
    for time, slices in video.pick_frames(
        ((t, t) for t in frames), [np.array(t) for t in targets], tolerance
    ):
        for array, span in zip(got, slices, strict=True):
            assert np.isnan(array[span]).all(), "filled twice"
            array[span] = time
    for array, wanted in zip(got, targets, strict=True):
        for value, target in zip(array, wanted, strict=True):
            past = [time for time in order if time <= target + tolerance or time - tolerance <= target]
            assert value == (past[-1] if past else order[0])


def test_reading_stops_when_all_targets_are_served() -> None:
    read = []

    def frames() -> Any:
        for k in range(1000):
            read.append(k)
            yield float(k), k

    list(video.pick_frames(frames(), [np.array([0.0, 1.5]), np.array([2.0])]))
    assert len(read) == 4  # the one after the last target shows that nothing newer is due


def test_no_frames_give_nothing() -> None:
    assert list(video.pick_frames([], [np.array([0.0])])) == []


# ---- geometry, pure


@given(turns=st.integers(0, 3), mirrored=st.booleans())
def test_a_display_matrix_is_read_and_applied(turns: int, mirrored: bool) -> None:
    assert geometry.orientation(media_files.matrix(90 * turns, mirrored)) == (turns, mirrored)
    upright = media_files.quadrants(0, 8, 6)
    # What a camera stores so that turning it gives the upright picture.
    stored = np.rot90(upright, turns)
    stored = stored[:, ::-1] if mirrored else stored
    assert np.array_equal(geometry.turn(stored, turns, mirrored), upright)


@pytest.mark.parametrize("matrix", [None, [], [0] * 9, [-(2**31)] * 9, [1] * 9])
def test_senseless_matrices_mean_upright(matrix: list[int] | None) -> None:
    assert geometry.orientation(matrix) == (0, False)


@pytest.mark.parametrize(
    ("size", "aspect", "turns", "shown"),
    [
        ((720, 576), 1.0, 0, (720, 576)),
        ((720, 576), 16 / 11, 0, (1047, 576)),
        ((720, 480), 8 / 9, 0, (720, 540)),
        ((1280, 720), 1.0, 1, (720, 1280)),
        ((100, 100), 1e9, 0, (100, 100)),
        ((100, 100), 0.0, 0, (100, 100)),
    ],
)
def test_display_size(size: tuple[int, int], aspect: float, turns: int, shown: tuple[int, int]) -> None:
    assert geometry.display_size(*size, aspect, turns) == shown


# ---- pictures by time


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("a.mp4", {}),
        ("b_frames.mp4", {"bframes": 2}),
        ("a.mkv", {}),
        ("a.avi", {"codec": "mpeg4"}),
        ("a.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
        ("a.webm", {"codec": "libvpx"}),
        ("a.ts", {}),
        ("a.flv", {}),
        ("a.mpg", {"codec": "mpeg2video"}),
        ("a.wmv", {"codec": "wmv2"}),
    ],
)
def test_every_container_gives_every_picture_at_its_time(
    tmp_path: Path, name: str, more: dict[str, Any]
) -> None:
    path = media_files.write_video(tmp_path / name, duration_s=2, **more)
    facts = probe(path)
    assert facts.duration_s == pytest.approx(2, abs=0.002)
    assert (facts.width, facts.height, facts.n_frames) == (96, 64, 50)
    assert facts.fps == pytest.approx(25, rel=0.01)
    assert numbers(path, 0, 2) == list(range(50))
    assert numbers(path, 1.2, 2) == list(range(30, 50)), "after seeking"


def test_views_of_several_rates_come_from_one_call(tmp_path: Path) -> None:
    path = media_files.write_video(tmp_path / "a.mp4", duration_s=2)
    semantic, sync = views(path, 0.5, 1.7, View(8, 40, 24), View(25, 48, 32))
    assert semantic.shape == (grid.frame_count(1.2, 8), 24, 40, 3)
    assert sync.shape == (grid.frame_count(1.2, 25), 32, 48, 3)
    expected = [int((0.5 + k / 8) * 25 + 1e-6) for k in range(len(semantic))]
    assert [media_files.number_of(p) for p in semantic] == expected


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(30_000, 1001), Fraction(12)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_other_rates_are_sampled_by_time(tmp_path: Path, rate: Fraction, suffix: str) -> None:
    path = media_files.write_video(tmp_path / f"a{suffix}", fps=rate, duration_s=1.5)
    n = round(1.5 * rate)
    # Matroska keeps milliseconds, and a time rounded up by half of one is still that picture's time.
    digits, forgiven = (3, 0.0005) if suffix == ".mkv" else (5, 1e-5)
    stamps = [round(float(k / rate), digits) for k in range(n)]
    expected = [max(j for j in range(n) if stamps[j] <= k / 25 + forgiven) for k in range(35)]
    assert numbers(path, 0, 1.4) == expected


def test_sampling_at_the_files_own_rate_gives_every_picture_in_spite_of_rounded_times(
    tmp_path: Path,
) -> None:
    path = media_files.write_video(tmp_path / "a.mkv", fps=30, duration_s=2)  # stamped 0, 33, 67, 100 ms
    assert numbers(path, 0, 2, fps=30) == list(range(60))


def test_variable_rate(tmp_path: Path) -> None:
    path = media_files.write_video(tmp_path / "a.mp4", times_s=[0, 0.1, 0.5, 0.52, 1.0, 1.9])
    assert numbers(path, 0, 2, fps=10) == [0, 1, 1, 1, 1, 2, 3, 3, 3, 3, *[4] * 9, 5]
    assert numbers(path, 1.5, 2, fps=10) == [4, 4, 4, 4, 5]


def test_the_last_picture_is_held_after_the_end(tmp_path: Path) -> None:
    path = media_files.write_video(tmp_path / "a.mp4", duration_s=1)
    assert numbers(path, 0.8, 1.4) == [20, 21, 22, 23, *[24] * 11]
    assert set(numbers(path, 3, 4)) == {24}


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.ts"])
def test_time_starts_with_the_first_picture(tmp_path: Path, name: str) -> None:
    path = media_files.write_video(
        tmp_path / name, start_s=1.5, duration_s=1, sound="audible", sound_start_s=1.5
    )
    facts = probe(path)
    assert facts.video_start_s == pytest.approx(1.5, abs=0.01)
    assert facts.duration_s == pytest.approx(1, abs=0.01)
    assert numbers(path, 0, 1) == list(range(25))
    assert np.abs(sound(path, 0.1, 0.9)).max() > 0.3


def test_pictures_before_an_edit_list_are_not_shown(tmp_path: Path) -> None:
    path = media_files.write_video(tmp_path / "a.mp4", start_s=-0.2, duration_s=1)
    facts = probe(path)
    assert (facts.n_frames, round(facts.duration_s, 3)) == (20, 0.8)
    assert numbers(path, 0, 0.8) == list(range(5, 25))


def test_duration_is_found_where_the_header_has_none(tmp_path: Path) -> None:
    path = media_files.write_video(tmp_path / "live.mkv", duration_s=2, container_options={"live": "1"})
    assert probe(path).duration_s == pytest.approx(2, abs=0.002)
    assert numbers(path, 1.4, 2) == list(range(35, 50))


def test_a_single_picture_lasts_one_frame(tmp_path: Path) -> None:
    path = media_files.write_video(tmp_path / "a.mp4", duration_s=0.04)
    assert probe(path).duration_s == pytest.approx(0.04)
    assert numbers(path, 0, 0.2) == [0] * 5


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotated_footage_is_upright(tmp_path: Path, rotation: int) -> None:
    def stored(number: int, width: int, height: int) -> np.ndarray:
        if rotation % 180:
            width, height = height, width
        return np.ascontiguousarray(np.rot90(media_files.quadrants(number, width, height), rotation // 90))

    path = media_files.write_video(tmp_path / "a.mov", duration_s=0.2, rotation=rotation, picture=stored)
    facts = probe(path)
    assert facts.rotation == rotation
    assert (facts.width, facts.height) == ((64, 96) if rotation % 180 else (96, 64))
    assert media_files.corners(views(path, 0, 0.2, View(10, 30, 40))[0][0]) == "rgbw"


def test_pixel_aspect_shows_in_the_size(tmp_path: Path) -> None:
    facts = probe(media_files.write_video(tmp_path / "a.mp4", aspect=Fraction(16, 11), duration_s=0.2))
    assert (facts.width, facts.height) == (140, 64)


def colour_of(path: Path) -> np.ndarray:
    return views(path, 0, 0.1, View(10, 32, 32))[0][0].reshape(-1, 3).mean(0)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p"])
def test_colours_are_right_in_every_pixel_format(tmp_path: Path, pix_fmt: str) -> None:
    colour = (200, 90, 40)

    def plain(number: int, width: int, height: int) -> np.ndarray:
        return np.full((height, width, 3), colour, np.uint8)

    codec = "mjpeg" if pix_fmt == "yuvj420p" else "libx264"
    path = media_files.write_video(
        tmp_path / "a.mkv", duration_s=0.2, pix_fmt=pix_fmt, picture=plain, codec=codec
    )
    assert colour_of(path) == pytest.approx(colour, abs=8)


def test_an_empty_span_is_the_callers_mistake(tmp_path: Path) -> None:
    path = media_files.write_video(tmp_path / "a.mp4", duration_s=0.2)
    with pytest.raises(ValueError, match="not a time span"):
        views(path, 1, 1)


# ---- real footage, where it is at hand

ARCHIVE = SHARED / "archive"


@pytest.mark.skipif(not ARCHIVE.is_dir(), reason="needs the real footage in ../shared/media/archive")
@pytest.mark.parametrize(
    "name", ["test.avi", "iphone_rotated.mov", "no_duration.webm", "te[s]t_ video ' _ .flv", "bikes.mp4"]
)
def test_seeking_gives_the_same_pictures_as_reading_through(name: str) -> None:
    path = ARCHIVE / name
    duration_s = probe(path).duration_s
    start = int(0.7 * duration_s * 25)
    through = views(path, 0, duration_s)[0]
    assert np.array_equal(views(path, start / 25, duration_s)[0], through[start:])
