"""Decoding: the right picture at the right time, upright; sound on the same timeline."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import decode, loudness, painting
from pipelines import media as opening
from pipelines.decode import DecodeFailed, View
from v2a_models import grid

SMALL = View(25, 48, 32)


def probe(path: Path) -> decode.Probe:
    with path.open("rb") as file:
        return decode.probe(file)


def views(path: Path, start_s: float, end_s: float, *wanted: View) -> list[np.ndarray]:
    with path.open("rb") as file:
        return decode.decode_views(file, wanted or (SMALL,), start_s, end_s, threads=1)


def numbers(path: Path, start_s: float, end_s: float, fps: float = 25) -> list[int]:
    """Numbers of the pictures that a view gets."""
    return [media.number_of(p) for p in views(path, start_s, end_s, View(fps, 48, 32))[0]]


def sound(path: Path, start_s: float, end_s: float, rate: int = 44_100) -> np.ndarray:
    with path.open("rb") as file:
        return decode.decode_sound(file, start_s, end_s, rate)


def failure(path: Path) -> DecodeFailed:
    with pytest.raises(DecodeFailed) as caught:
        probe(path)
    return caught.value


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
    for time, slices in decode.pick_frames(
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

    list(decode.pick_frames(frames(), [np.array([0.0, 1.5]), np.array([2.0])]))
    assert len(read) == 4  # the one after the last target shows that nothing newer is due


def test_no_frames_give_nothing() -> None:
    assert list(decode.pick_frames([], [np.array([0.0])])) == []


# ---- geometry, pure


@given(turns=st.integers(0, 3), mirrored=st.booleans())
def test_a_display_matrix_is_read_and_applied(turns: int, mirrored: bool) -> None:
    assert opening.orientation(media.matrix(90 * turns, mirrored)) == (turns, mirrored)
    upright = media.quadrants(0, 8, 6)
    # What a camera stores so that turning it gives the upright picture.
    stored = np.rot90(upright, turns)
    stored = stored[:, ::-1] if mirrored else stored
    assert np.array_equal(opening.turn(stored, turns, mirrored), upright)


@pytest.mark.parametrize("matrix", [None, [], [0] * 9, [-(2**31)] * 9, [1] * 9])
def test_senseless_matrices_mean_upright(matrix: list[int] | None) -> None:
    assert opening.orientation(matrix) == (0, False)


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
    assert opening.display_size(*size, aspect, turns) == shown


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
    path = media.write_video(tmp_path / name, duration_s=2, **more)
    facts = probe(path)
    assert facts.duration_s == pytest.approx(2, abs=0.002)
    assert (facts.width, facts.height, facts.n_frames) == (96, 64, 50)
    assert facts.fps == pytest.approx(25, rel=0.01)
    assert numbers(path, 0, 2) == list(range(50))
    assert numbers(path, 1.2, 2) == list(range(30, 50)), "after seeking"


def test_views_of_several_rates_come_from_one_call(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "a.mp4", duration_s=2)
    semantic, sync = views(path, 0.5, 1.7, View(8, 40, 24), View(25, 48, 32))
    assert semantic.shape == (grid.frame_count(1.2, 8), 24, 40, 3)
    assert sync.shape == (grid.frame_count(1.2, 25), 32, 48, 3)
    expected = [int((0.5 + k / 8) * 25 + 1e-6) for k in range(len(semantic))]
    assert [media.number_of(p) for p in semantic] == expected


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(30_000, 1001), Fraction(12)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_other_rates_are_sampled_by_time(tmp_path: Path, rate: Fraction, suffix: str) -> None:
    path = media.write_video(tmp_path / f"a{suffix}", fps=rate, duration_s=1.5)
    n = round(1.5 * rate)
    # Matroska keeps milliseconds, and a time rounded up by half of one is still that picture's time.
    digits, forgiven = (3, 0.0005) if suffix == ".mkv" else (5, 1e-5)
    stamps = [round(float(k / rate), digits) for k in range(n)]
    expected = [max(j for j in range(n) if stamps[j] <= k / 25 + forgiven) for k in range(35)]
    assert numbers(path, 0, 1.4) == expected


def test_sampling_at_the_files_own_rate_gives_every_picture_in_spite_of_rounded_times(
    tmp_path: Path,
) -> None:
    path = media.write_video(tmp_path / "a.mkv", fps=30, duration_s=2)  # stamped 0, 33, 67, 100 ms
    assert numbers(path, 0, 2, fps=30) == list(range(60))


def test_variable_rate(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "a.mp4", times_s=[0, 0.1, 0.5, 0.52, 1.0, 1.9])
    assert numbers(path, 0, 2, fps=10) == [0, 1, 1, 1, 1, 2, 3, 3, 3, 3, *[4] * 9, 5]
    assert numbers(path, 1.5, 2, fps=10) == [4, 4, 4, 4, 5]


def test_the_last_picture_is_held_after_the_end(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "a.mp4", duration_s=1)
    assert numbers(path, 0.8, 1.4) == [20, 21, 22, 23, *[24] * 11]
    assert set(numbers(path, 3, 4)) == {24}


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.ts"])
def test_time_starts_with_the_first_picture(tmp_path: Path, name: str) -> None:
    path = media.write_video(tmp_path / name, start_s=1.5, duration_s=1, sound="audible", sound_start_s=1.5)
    facts = probe(path)
    assert facts.video_start_s == pytest.approx(1.5, abs=0.01)
    assert facts.duration_s == pytest.approx(1, abs=0.01)
    assert numbers(path, 0, 1) == list(range(25))
    assert np.abs(sound(path, 0.1, 0.9)).max() > 0.3


def test_pictures_before_an_edit_list_are_not_shown(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "a.mp4", start_s=-0.2, duration_s=1)
    facts = probe(path)
    assert (facts.n_frames, round(facts.duration_s, 3)) == (20, 0.8)
    assert numbers(path, 0, 0.8) == list(range(5, 25))


def test_duration_is_found_where_the_header_has_none(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "live.mkv", duration_s=2, container_options={"live": "1"})
    assert probe(path).duration_s == pytest.approx(2, abs=0.002)
    assert numbers(path, 1.4, 2) == list(range(35, 50))


def test_a_single_picture_lasts_one_frame(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "a.mp4", duration_s=0.04)
    assert probe(path).duration_s == pytest.approx(0.04)
    assert numbers(path, 0, 0.2) == [0] * 5


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotated_footage_is_upright(tmp_path: Path, rotation: int) -> None:
    def stored(number: int, width: int, height: int) -> np.ndarray:
        if rotation % 180:
            width, height = height, width
        return np.ascontiguousarray(np.rot90(media.quadrants(number, width, height), rotation // 90))

    path = media.write_video(tmp_path / "a.mov", duration_s=0.2, rotation=rotation, picture=stored)
    facts = probe(path)
    assert facts.rotation == rotation
    assert (facts.width, facts.height) == ((64, 96) if rotation % 180 else (96, 64))
    assert media.corners(views(path, 0, 0.2, View(10, 30, 40))[0][0]) == "rgbw"


def test_pixel_aspect_shows_in_the_size(tmp_path: Path) -> None:
    facts = probe(media.write_video(tmp_path / "a.mp4", aspect=Fraction(16, 11), duration_s=0.2))
    assert (facts.width, facts.height) == (140, 64)


def colour_of(path: Path) -> np.ndarray:
    return views(path, 0, 0.1, View(10, 32, 32))[0][0].reshape(-1, 3).mean(0)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p"])
def test_colours_are_right_in_every_pixel_format(tmp_path: Path, pix_fmt: str) -> None:
    colour = (200, 90, 40)

    def plain(number: int, width: int, height: int) -> np.ndarray:
        return np.full((height, width, 3), colour, np.uint8)

    codec = "mjpeg" if pix_fmt == "yuvj420p" else "libx264"
    path = media.write_video(tmp_path / "a.mkv", duration_s=0.2, pix_fmt=pix_fmt, picture=plain, codec=codec)
    assert colour_of(path) == pytest.approx(colour, abs=8)


def test_an_empty_span_is_the_callers_mistake(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "a.mp4", duration_s=0.2)
    with pytest.raises(ValueError, match="stretch of time"):
        views(path, 1, 1)


# ---- stretch by stretch, from one pass

RATES = [View(25, 24, 16), View(8, 12, 8), View(1 / 3, 6, 4), View(30_000 / 1001, 12, 8, "crop")]


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return media.write_video(tmp_path_factory.mktemp("film") / "a.mp4", duration_s=6, bframes=2)


def stretches(path: Path, start_s: float, ends_s: list[float], *wanted: View, **more: Any) -> list[Any]:
    with path.open("rb") as file:
        return list(decode.iter_views(file, wanted or (SMALL,), start_s, ends_s, threads=1, **more))


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
    path = media.write_video(tmp_path / "a.mp4", times_s=[0, 0.1, 1.5])
    got = stretches(path, 0, [0.5, 1, 1.5, 2, 3], View(4, 48, 32))
    assert [[media.number_of(p) for p in stretch] for [stretch] in got] == [
        [0, 1],
        [1, 1],
        [1, 1],
        [2, 2],
        [2, 2, 2, 2],
    ]


def test_a_stretch_comes_as_soon_as_it_is_complete(long_film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, read = opening.pictures, []

    def counted(*args: Any) -> Any:
        for picture in real(*args):
            read.append(picture[0])
            yield picture

    monkeypatch.setattr(opening, "pictures", counted)
    with long_film.open("rb") as file:
        for k, _ in enumerate(decode.iter_views(file, [SMALL], 0, [1, 2, 3], threads=1)):
            assert len(read) == 25 * (k + 1) + 1
    assert len(read) == 76


def test_memory_may_be_used_again(long_film: Path) -> None:
    pool, asked = painting.Pool(), []

    def allocate(shapes: Any) -> list[np.ndarray]:
        asked.append([tuple(shape) for shape in shapes])
        return pool(shapes)

    with long_film.open("rb") as file:
        first = None
        for [stretch] in decode.iter_views(file, [SMALL], 0, [1, 2, 3], threads=1, allocate=allocate):
            first = stretch if first is None else first
            assert np.shares_memory(first, stretch)
            assert [media.number_of(p) for p in first] == [media.number_of(p) for p in stretch]
    assert asked == [[(25, 32, 48, 3)]] * 3


def test_stretches_before_the_damage_are_given(tmp_path: Path) -> None:
    good = media.write_video(tmp_path / "a.mp4", duration_s=4, gop=5)
    with media.scrambled(good, tmp_path / "most.mp4", 0.8).open("rb") as file:
        got = decode.iter_views(file, [SMALL], 0, [0.2, 0.4, 2, 4], threads=1)
        assert [media.number_of(p) for p in next(got)[0]] == [0, 1, 2, 3, 4]
        with pytest.raises(DecodeFailed, match="InvalidData"):
            list(got)


@pytest.mark.parametrize("ends_s", [[], [1, 1], [2, 1], [0], [float("nan")], [float("inf")]])
def test_stretches_must_ascend(long_film: Path, ends_s: list[float]) -> None:
    with pytest.raises(ValueError, match="stretch of time"):
        stretches(long_film, 0, ends_s)


# ---- cropping


@given(
    shown=st.tuples(st.integers(1, 8192), st.integers(1, 8192)),
    wanted=st.tuples(st.integers(1, 512), st.integers(1, 512)),
)
def test_a_cropped_picture_covers_its_view_and_keeps_its_aspect(
    shown: tuple[int, int], wanted: tuple[int, int]
) -> None:
    width, height = painting.cover_size(shown, wanted)
    assert wanted[0] <= width <= 16 * wanted[0] and wanted[1] <= height <= 16 * wanted[1]
    assert width == wanted[0] or height == wanted[1]
    scale = max(w / s for w, s in zip(wanted, shown, strict=True))
    if max(shown[0] * scale / wanted[0], shown[1] * scale / wanted[1]) < 16:
        assert abs(width - shown[0] * scale) <= 0.5 and abs(height - shown[1] * scale) <= 0.5


def framed(number: int, width: int, height: int) -> np.ndarray:
    """`quadrants` in a frame an eighth of the picture wide: yellow at the sides, cyan above and below."""
    picture = media.quadrants(number, width, height)
    picture[: height // 8] = picture[-height // 8 :] = (0, 255, 255)
    picture[:, : width // 8] = picture[:, -width // 8 :] = (255, 255, 0)
    return picture


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("size", [(64, 64), (32, 96), (96, 32)])
def test_rotated_footage_is_cropped_upright(tmp_path: Path, rotation: int, size: tuple[int, int]) -> None:
    shown = (128, 192) if rotation % 180 else (192, 128)

    def stored(number: int, width: int, height: int) -> np.ndarray:
        return np.ascontiguousarray(np.rot90(framed(number, *shown), rotation // 90))

    path = media.write_video(
        tmp_path / "a.mov", size=(192, 128), duration_s=0.2, rotation=rotation, picture=stored
    )
    picture = views(path, 0, 0.2, View(10, *size, "crop"))[0][0]
    height, width = picture.shape[:2]
    middle = picture[height // 3 : -(height // 3), width // 3 : -(width // 3)]
    assert media.corners(middle) == "rgbw"
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

    path = media.write_video(
        tmp_path / "a.mp4", size=(192, 128), aspect=aspect, duration_s=0.2, picture=stored
    )
    whole, cropped = views(path, 0, 0.2, View(10, 64, 64), View(10, 64, 64, "crop"))
    wide, high = extent(cropped[0].mean(-1) > 128)
    assert abs(wide - high) <= 1 and abs(high - 24) <= 1
    wide, high = extent(whole[0].mean(-1) > 128)
    assert abs(wide - high) > 3, "squeezed, to compare with"


def test_views_of_one_size_may_be_fitted_in_both_ways(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "a.mp4", duration_s=2)
    squeezed, cropped = views(path, 0, 2, View(25, 48, 48), View(25, 48, 48, "crop"))
    for number, (whole, middle) in enumerate(zip(squeezed, cropped, strict=True)):
        assert media.number_of(whole) == number
        bars = [bar.mean() > 128 for bar in np.array_split(middle.astype(float), 4, axis=1)]
        assert bars == [bool(number >> bit & 1) for bit in (4, 3, 2, 1)], "the middle four of six bars"


# ---- sound


@pytest.mark.parametrize(
    ("kinds", "state", "n_tracks"),
    [
        ((), "none", 0),
        (("empty",), "empty", 1),
        (("silent",), "silent", 1),
        (("quiet",), "silent", 1),
        (("audible",), "audible", 1),
        (("silent", "empty", "audible"), "audible", 3),
    ],
)
def test_audio_state_comes_from_the_samples_of_all_tracks(
    tmp_path: Path, kinds: tuple[Any, ...], state: str, n_tracks: int
) -> None:
    facts = probe(media.write_video(tmp_path / "a.mkv", sound=kinds, duration_s=0.5))
    assert (facts.audio_state, facts.n_audio_tracks) == (state, n_tracks)
    if state in ("none", "empty"):
        assert facts.peak_dbfs is None
    elif state == "audible":
        assert facts.peak_dbfs == pytest.approx(-6.02, abs=0.1)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_f32le", "flac"])
def test_peak_is_the_same_in_every_sample_format(tmp_path: Path, codec: str) -> None:
    facts = probe(media.write_video(tmp_path / "a.mkv", sound="audible", duration_s=0.5, audio_codec=codec))
    assert facts.peak_dbfs == pytest.approx(-6.02, abs=0.6)


@pytest.mark.parametrize(
    ("name", "rate", "channels"), [("a.mkv", 44_100, 1), ("a.mp4", 48_000, 2), ("b.mkv", 22_050, 6)]
)
def test_sound_is_resampled_to_an_exact_length(tmp_path: Path, name: str, rate: int, channels: int) -> None:
    path = media.write_video(tmp_path / name, duration_s=2, sound="audible", rate=rate, channels=channels)
    got = sound(path, 0, 1.7)
    assert got.shape == (channels, grid.samples(1.7))
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(got.shape[1]) / 44_100)
    middle = slice(8000, -8000)
    correlation = np.corrcoef(got[0, middle], wave[middle])[0, 1]
    assert correlation > 0.99, "in step with the pictures"
    later = sound(path, 1.2, 1.7)
    assert np.corrcoef(later[0, 2000:-2000], wave[-later.shape[1] :][2000:-2000])[0, 1] > 0.99


def test_sound_is_zero_where_the_track_has_none(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "a.mkv", duration_s=3, sound="audible", sound_start_s=1, sound_s=1)
    got = np.abs(sound(path, 0, 3)[0])
    assert got[:43_000].max() == 0
    assert got[46_000:86_000].max() > 0.4
    assert got[90_000:].max() == 0


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.ts"])
def test_sound_needs_no_picture_when_its_origin_is_known(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = media.write_video(tmp_path / name, start_s=1.5, duration_s=4, sound="audible", sound_start_s=1.5)
    origin_s = probe(path).video_start_s
    expected = sound(path, 2.2, 3)
    monkeypatch.delattr(opening, "picture_start")
    with path.open("rb") as file:
        assert np.array_equal(decode.decode_sound(file, 2.2, 3, origin_s=origin_s), expected)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_sound_is_mixed_to_the_channels_asked_for(tmp_path: Path, channels: int) -> None:
    path = media.write_video(tmp_path / "a.mkv", duration_s=1, sound="audible", channels=channels)
    with path.open("rb") as file:
        mono, stereo = (decode.decode_sound(file, 0, 1, channels=n) for n in (1, 2))
        with pytest.raises(ValueError, match="channels"):
            decode.decode_sound(file, 0, 1, channels=3)
    assert mono.shape == (1, 44_100) and stereo.shape == (2, 44_100)
    own = sound(path, 0, 1)
    for mixed in (*mono, *stereo):
        assert np.corrcoef(mixed[2000:-2000], own[0, 2000:-2000])[0, 1] > 0.99
        assert np.abs(mixed).max() == pytest.approx(0.5, abs=0.01), "the same tone in all stays as loud"
    assert np.allclose(mono[0], own.mean(0), atol=1e-6)
    if channels == 2:
        assert np.array_equal(stereo, own)


@pytest.mark.parametrize(
    "layout", ["2.1", "3.0", "quad", "5.0", "5.1", "6.1", "7.1", "7.1(wide)", "22.2", "9 channels"]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_mixing_is_bounded(layout: str, channels: int) -> None:
    weights = loudness.mixing(av.AudioLayout(layout), channels)
    assert weights is not None
    assert weights.shape == (channels, av.AudioLayout(layout).nb_channels) and weights.dtype == np.float32
    assert np.abs(weights).sum(1).max() <= 1 + 1e-6


def test_mixing_keeps_what_it_can() -> None:
    mono, stereo, surround = map(av.AudioLayout, ("mono", "stereo", "5.1"))
    assert loudness.mixing(mono, 1) is loudness.mixing(stereo, 2) is loudness.mixing(surround, None) is None
    assert np.array_equal(loudness.mixing(mono, 2), [[1], [1]])
    assert np.array_equal(loudness.mixing(stereo, 1), [[0.5, 0.5]])
    beside = 0.5**0.5
    left, right = [1, 0, beside, 0, beside, 0], [0, 1, beside, 0, 0, beside]
    assert np.allclose(loudness.mixing(surround, 2), np.array([left, right]) / (1 + 2 * beside))
    quad = [[1, 0, beside, 0], [0, 1, 0, beside]]
    assert np.allclose(loudness.mixing(av.AudioLayout("quad"), 2), np.array(quad) / (1 + 2 * beside))


@pytest.mark.parametrize("channels", [1, 2, None])
def test_sound_of_eight_channels_is_read(tmp_path: Path, channels: int | None) -> None:
    path = media.write_video(tmp_path / "a.mkv", duration_s=1)
    eight = tmp_path / "b.mkv"
    with av.open(str(path)) as film, av.open(str(eight), "w") as out:
        video = out.add_stream_from_template(film.streams.video[0])
        track: Any = out.add_stream("aac", rate=48_000)
        track.bit_rate, track.codec_context.layout = 512_000, "7.1"
        for packet in film.demux(film.streams.video[0]):
            if packet.dts is not None:
                packet.stream = video
                out.mux(packet)
        for at in range(0, 48_000, 1024):
            wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(at, at + 1024) / 48_000)
            block = np.repeat(wave.astype(np.float32), 8).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(block, format="flt", layout="7.1")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, at, Fraction(1, 48_000)
            resampler = av.AudioResampler(format="fltp", layout="7.1", rate=48_000)
            for part in resampler.resample(frame) + resampler.resample(None):
                out.mux(track.encode(part))
        out.mux(track.encode(None))
    facts = probe(eight)
    assert facts.peak_dbfs is not None and -7 < facts.peak_dbfs < 0
    with eight.open("rb") as file:
        got = decode.decode_sound(file, 0, 1, channels=channels)
    assert got.shape == (channels or 8, 44_100)
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(got.shape[1]) / 44_100)
    assert np.corrcoef(got[0, 8000:-8000], wave[8000:-8000])[0, 1] > 0.99


def test_silence_has_the_channels_asked_for(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "a.mkv", duration_s=1, sound="empty")
    with path.open("rb") as file:
        assert decode.decode_sound(file, 0, 1, channels=2).shape == (2, 44_100)


def test_sound_without_a_track(tmp_path: Path) -> None:
    with pytest.raises(DecodeFailed, match="NoAudioStream"):
        sound(media.write_video(tmp_path / "a.mp4", duration_s=0.2), 0, 0.1)


# ---- bad files


def test_empty_zero_and_text_files(tmp_path: Path) -> None:
    cases = {"EmptyFile": b"", "NotAVideo": b"hello world " * 500}
    for error_class, data in cases.items():
        (tmp_path / "a.mp4").write_bytes(data)
        assert failure(tmp_path / "a.mp4").error_class == error_class
    (tmp_path / "a.mp4").write_bytes(bytes(100_000))
    assert failure(tmp_path / "a.mp4").error_class == "NotAVideo"


@pytest.mark.parametrize("make", [media.hls, media.ffconcat])
def test_playlists_in_disguise_are_refused(tmp_path: Path, make: Any) -> None:
    media.write_video(tmp_path / "real.mp4", duration_s=0.2)
    (tmp_path / "a.mp4").write_bytes(make("real.mp4"))
    assert failure(tmp_path / "a.mp4").error_class == "ForbiddenFormat"


def test_dash_and_sdp_are_refused(tmp_path: Path) -> None:
    for text in ('<?xml version="1.0"?>\n<MPD type="static"></MPD>', "v=0\no=- 0 0 IN IP4 127.0.0.1\n"):
        (tmp_path / "a.mp4").write_text(text)
        assert failure(tmp_path / "a.mp4").error_class == "ForbiddenFormat"


def test_sound_only(tmp_path: Path) -> None:
    assert failure(media.write_sound(tmp_path / "a.mp4")).error_class == "NoVideoStream"
    assert failure(media.write_sound(tmp_path / "a.wav")).error_class == "NoVideoStream"
    assert failure(media.write_sound(tmp_path / "b.mp4", cover=True)).error_class == "NoVideoStream"


def test_encrypted(tmp_path: Path) -> None:
    path = media.encrypted(tmp_path / "a.mp4", duration_s=0.5)
    assert failure(path).error_class == "Encrypted"
    with pytest.raises(DecodeFailed, match="Encrypted"):
        views(path, 0, 0.5)


def test_truncated(tmp_path: Path) -> None:
    mp4 = media.write_video(tmp_path / "a.mp4", duration_s=2)
    assert failure(media.truncated(mp4, tmp_path / "index_lost.mp4")).error_class == "NotAVideo"
    front = media.write_video(tmp_path / "b.mp4", duration_s=2, container_options={"movflags": "faststart"})
    cut = media.truncated(front, tmp_path / "data_lost.mp4", 0.6)
    facts = probe(cut)
    assert 0.1 < facts.duration_s < 1.9
    assert "ends early" in facts.note or facts.duration_s > 1
    last = numbers(cut, 0, 2)
    assert last[0] == 0 and last[-1] < 49


def test_damage_is_held_over_in_part_and_refused_in_whole(tmp_path: Path) -> None:
    good = media.write_video(tmp_path / "a.mp4", duration_s=2, gop=5)
    slightly = media.scrambled(good, tmp_path / "slight.mp4", 0.2)
    assert numbers(slightly, 0, 1) == list(range(25))
    assert len(numbers(slightly, 0, 2)) == 50
    assert failure(media.scrambled(good, tmp_path / "noise.mp4")).error_class == "InvalidData"
    mostly = media.scrambled(good, tmp_path / "most.mp4", 0.8)
    with pytest.raises(DecodeFailed, match="InvalidData"):
        views(mostly, 0, 2)


@pytest.mark.parametrize("size", [(0, 0), (30_000, 30_000), (65_535, 65_535)])
def test_absurd_sizes_are_refused_or_survived(tmp_path: Path, size: tuple[int, int]) -> None:
    make = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "duration_s": 0.4}
    path = media.write_video(tmp_path / "a.avi", **make)
    media.set_avi_size(path, *size)
    facts = probe(path)  # the pictures themselves are sane: their size counts
    assert (facts.width, facts.height) == (96, 64)
    path = media.write_video(tmp_path / "b.avi", **make)
    media.set_jpeg_size(path, *size)
    assert failure(path).error_class in ("InvalidData", "BadSize", "NotAVideo")


def test_absurd_timestamps_are_refused(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "a.mkv", times_s=[0, 0.1, 3e6])
    assert failure(path).error_class == "BadTimestamps"


# ---- real footage, where it is at hand

ARCHIVE = Path(__file__).resolve().parents[3] / "shared" / "media" / "archive"


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
