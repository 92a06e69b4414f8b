"""HDR films: models see what a standard screen would show."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.media.pictures.tone_mapping import HLG, PQ, to_standard
from pipelines.media.video import View
from pipelines.sandbox.decoder import Sandbox
from tests.support.decoding import views

BT_709 = 1


def pq(nits: float) -> float:
    """Code value, 0 to 1, of a brightness in cd/m² (SMPTE ST 2084)."""
    power = (nits / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def grey(code: float, transfer: int) -> int:
    picture = to_standard(np.full((2, 2, 3), round(code * 65535), np.uint16), transfer)
    assert picture.dtype == np.uint8 and np.ptp(picture.astype(int)) <= 1
    return int(picture[0, 0, 1])


@pytest.mark.parametrize(
    ("nits", "value"), [(0, 0), (10, 73), (100, 190), (203, 245), (1000, 255), (10_000, 255)]
)
def test_brightness_of_pq(nits: float, value: int) -> None:
    """Below the knee as on a screen of 203 cd/m² with an exponent of 2.4; FFmpeg's own conversion gives 73 and 189."""
    assert grey(pq(nits) if nits else 0.0, PQ) == pytest.approx(value, abs=1)


def test_reference_white_of_both_is_the_same_and_brighter_is_brighter() -> None:
    assert grey(0.75, HLG) == pytest.approx(grey(pq(203), PQ), abs=2)  # ITU-R BT.2408
    for transfer in (PQ, HLG):
        ramp = [grey(code, transfer) for code in np.linspace(0, 1, 33)]
        assert ramp == sorted(ramp) and ramp[0] == 0 and ramp[-1] == 255


def test_colours_of_bt_2020_become_those_of_bt_709() -> None:
    red_709 = [0.6274, 0.0691, 0.0164]  # as light in BT.2020 (ITU-R BT.2087)
    code = np.array([[[round(65535 * pq(100 * part)) for part in red_709]]], np.uint16)
    [[red]] = to_standard(code, PQ)
    assert red[0] == pytest.approx(190, abs=2) and red[1] < 25 and red[2] < 25
    [[same]] = to_standard(code, PQ, primaries=BT_709)
    assert same[1] > red[1] + 20


def write_grey(path: Path, code: float, transfer: int) -> Path:
    """A lossless film of 10 bits whose pictures have one brightness."""
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p10le"
        context = video.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = (
            transfer,
            9,
            9,
            1,
        )
        for k in range(10):
            frame = av.VideoFrame(96, 64, "yuv420p10le")
            for number, plane in enumerate(frame.planes):
                np.frombuffer(plane, np.uint16)[:] = 512 if number else round(64 + 876 * code)
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


@pytest.mark.parametrize(
    ("code", "transfer", "value"),
    [(pq(100), PQ, 190), (pq(10), PQ, 73), (0.75, HLG, 245), (0.5, BT_709, 128)],
)
def test_films_of_high_and_of_standard_range(tmp_path: Path, code: float, transfer: int, value: int) -> None:
    film, wanted = write_grey(tmp_path / "film.mkv", code, transfer), View(25, 48, 32)
    [pictures] = views(film, 0.0, 0.2, wanted)
    assert pictures.shape == (5, 32, 48, 3)
    assert np.abs(pictures.astype(int) - value).max() <= 3
    with Sandbox(threads=1) as sandbox:
        [confined] = sandbox.decode_views(str(film), [wanted], 0.0, 0.2)
    assert np.array_equal(confined, pictures)
