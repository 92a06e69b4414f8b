"""Decoding stretch by stretch, from one pass; and cropping."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.media import container, frames, video
from pipelines.media.errors import DecodeFailed
from pipelines.media.video import View
from tests.support import media_files
from tests.support.decoding import SMALL, views
from v2a_models import grid

RATES = [View(25, 24, 16), View(8, 12, 8), View(1 / 3, 6, 4), View(30_000 / 1001, 12, 8, "crop")]


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return media_files.write_video(tmp_path_factory.mktemp("film") / "a.mp4", duration_s=6, bframes=2)


def stretches(path: Path, start_s: float, ends_s: list[float], *wanted: View, **more: Any) -> list[Any]:
    with path.open("rb") as file:
        return list(video.iter_views(file, wanted or (SMALL,), start_s, ends_s, threads=1, **more))


@given(
    start_s=st.sampled_from([0.0, 0.013, 1.0, 2.96]) | st.floats(0, 4),
    lasts=st.lists(st.sampled_from([0.04, 0.12, 1.0, 1e-7]) | st.floats(1e-6, 2), min_size=1, max_size=8),
    skip=st.integers(0, 7),
)
def test_stretches_add_up_to_one_long_one(
    long_film: Path, start_s: float, lasts: list[float], skip: int
) -> None:
    ends_s = list(start_s + np.cumsum(lasts))
    got = stretches(long_film, start_s, ends_s, *RATES)
    whole = views(long_film, start_s, ends_s[-1], *RATES)
    for k, (view, expected) in enumerate(zip(RATES, whole, strict=True)):
        assert np.array_equal(np.concatenate([stretch[k] for stretch in got]), expected)
        counts = np.cumsum([len(stretch[k]) for stretch in got])
        assert list(counts) == [grid.frame_count(end_s - start_s, view.fps) for end_s in ends_s]
    skip = min(skip, len(lasts) - 1)
    for mine, theirs in zip(
        stretches(long_film, start_s, ends_s, *RATES, skip=skip), got[skip:], strict=True
    ):
        assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_a_held_picture_reaches_over_several_stretches(tmp_path: Path) -> None:
    path = media_files.write_video(tmp_path / "a.mp4", times_s=[0, 0.1, 1.5])
    got = stretches(path, 0, [0.5, 1, 1.5, 2, 3], View(4, 48, 32))
    assert [[media_files.number_of(p) for p in stretch] for [stretch] in got] == [
        [0, 1],
        [1, 1],
        [1, 1],
        [2, 2],
        [2, 2, 2, 2],
    ]


def test_a_stretch_comes_as_soon_as_it_is_complete(long_film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, read = container.pictures, []

    def counted(*args: Any) -> Any:
        for picture in real(*args):
            read.append(picture[0])
            yield picture

    monkeypatch.setattr(container, "pictures", counted)
    with long_film.open("rb") as file:
        for k, _ in enumerate(video.iter_views(file, [SMALL], 0, [1, 2, 3], threads=1)):
            assert len(read) == 25 * (k + 1) + 1
    assert len(read) == 76


def test_memory_may_be_used_again(long_film: Path) -> None:
    pool, asked = frames.Pool(), []

    def allocate(shapes: Any) -> list[np.ndarray]:
        asked.append([tuple(shape) for shape in shapes])
        return pool(shapes)

    with long_film.open("rb") as file:
        first = None
        for [stretch] in video.iter_views(file, [SMALL], 0, [1, 2, 3], threads=1, allocate=allocate):
            first = stretch if first is None else first
            assert np.shares_memory(first, stretch)
            assert [media_files.number_of(p) for p in first] == [media_files.number_of(p) for p in stretch]
    assert asked == [[(25, 32, 48, 3)]] * 3


def test_stretches_before_the_damage_are_given(tmp_path: Path) -> None:
    good = media_files.write_video(tmp_path / "a.mp4", duration_s=4, gop=5)
    with media_files.scrambled(good, tmp_path / "most.mp4", 0.8).open("rb") as file:
        got = video.iter_views(file, [SMALL], 0, [0.2, 0.4, 2, 4], threads=1)
        assert [media_files.number_of(p) for p in next(got)[0]] == [0, 1, 2, 3, 4]
        with pytest.raises(DecodeFailed, match="InvalidData"):
            list(got)


@pytest.mark.parametrize("ends_s", [[], [1, 1], [2, 1], [0], [float("nan")], [float("inf")]])
def test_stretches_must_ascend(long_film: Path, ends_s: list[float]) -> None:
    with pytest.raises(ValueError, match="not a time span"):
        stretches(long_film, 0, ends_s)


# ---- cropping


@given(
    shown=st.tuples(st.integers(1, 8192), st.integers(1, 8192)),
    wanted=st.tuples(st.integers(1, 512), st.integers(1, 512)),
)
def test_a_cropped_picture_covers_its_view_and_keeps_its_aspect(
    shown: tuple[int, int], wanted: tuple[int, int]
) -> None:
    width, height = frames.cover_size(shown, wanted)
    assert wanted[0] <= width <= 16 * wanted[0] and wanted[1] <= height <= 16 * wanted[1]
    assert width == wanted[0] or height == wanted[1]
    scale = max(w / s for w, s in zip(wanted, shown, strict=True))
    if max(shown[0] * scale / wanted[0], shown[1] * scale / wanted[1]) < 16:
        assert abs(width - shown[0] * scale) <= 0.5 and abs(height - shown[1] * scale) <= 0.5


def framed(number: int, width: int, height: int) -> np.ndarray:
    """`quadrants` in a frame an eighth of the picture wide: yellow at the sides, cyan above and below."""
    picture = media_files.quadrants(number, width, height)
    picture[: height // 8] = picture[-height // 8 :] = (0, 255, 255)
    picture[:, : width // 8] = picture[:, -width // 8 :] = (255, 255, 0)
    return picture


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("size", [(64, 64), (32, 96), (96, 32)])
def test_rotated_footage_is_cropped_upright(tmp_path: Path, rotation: int, size: tuple[int, int]) -> None:
    shown = (128, 192) if rotation % 180 else (192, 128)

    def stored(number: int, width: int, height: int) -> np.ndarray:
        return np.ascontiguousarray(np.rot90(framed(number, *shown), rotation // 90))

    path = media_files.write_video(
        tmp_path / "a.mov", size=(192, 128), duration_s=0.2, rotation=rotation, picture=stored
    )
    picture = views(path, 0, 0.2, View(10, *size, "crop"))[0][0]
    height, width = picture.shape[:2]
    middle = picture[height // 3 : -(height // 3), width // 3 : -(width // 3)]
    assert media_files.corners(middle) == "rgbw"
    red, green, blue = np.moveaxis(picture > 128, -1, 0)
    scale = max(w / s for w, s in zip(size, shown, strict=True))
    for frame, length, wanted in (
        (red & green & ~blue, shown[0], width),
        (green & blue & ~red, shown[1], height),
    ):
        cut = (length * scale - wanted) / 2
        assert (frame.mean() > 0.02) == (cut < length * scale / 8 - 1)


def extent(mask: np.ndarray) -> tuple[int, int]:
    """(width, height) of what is marked, along the middle."""
    return int(mask[mask.shape[0] // 2].sum()), int(mask[:, mask.shape[1] // 2].sum())


@pytest.mark.parametrize("aspect", [Fraction(16, 11), Fraction(8, 9), Fraction(2)])
def test_cropped_squares_stay_square_whatever_the_pixel_aspect(tmp_path: Path, aspect: Fraction) -> None:
    def stored(number: int, width: int, height: int) -> np.ndarray:
        picture = np.zeros((height, width, 3), np.uint8)
        w, h = round(24 / aspect), 24  # half of what is a square once shown
        picture[height // 2 - h : height // 2 + h, width // 2 - w : width // 2 + w] = 255
        return picture

    path = media_files.write_video(
        tmp_path / "a.mp4", size=(192, 128), aspect=aspect, duration_s=0.2, picture=stored
    )
    whole, cropped = views(path, 0, 0.2, View(10, 64, 64), View(10, 64, 64, "crop"))
    wide, high = extent(cropped[0].mean(-1) > 128)
    assert abs(wide - high) <= 1 and abs(high - 24) <= 1
    wide, high = extent(whole[0].mean(-1) > 128)
    assert abs(wide - high) > 3, "squeezed, to compare with"


def test_views_of_one_size_may_be_fitted_in_both_ways(tmp_path: Path) -> None:
    path = media_files.write_video(tmp_path / "a.mp4", duration_s=2)
    squeezed, cropped = views(path, 0, 2, View(25, 48, 48), View(25, 48, 48, "crop"))
    for number, (whole, middle) in enumerate(zip(squeezed, cropped, strict=True)):
        assert media_files.number_of(whole) == number
        bars = [bar.mean() > 128 for bar in np.array_split(middle.astype(float), 4, axis=1)]
        assert bars == [bool(number >> bit & 1) for bit in (4, 3, 2, 1)], "the middle four of six bars"
