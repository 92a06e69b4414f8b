"""The picture of a dubbed film: there is one of any film, and it lines up with time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.reports import film_card

RATE = 44_100


def frames(n: int, height: int = 54, width: int = 96) -> np.ndarray:
    grey = 40 + 10 * np.arange(n, dtype=np.uint8)
    return np.broadcast_to(grey[:, None, None, None], (n, height, width, 3))


@pytest.mark.parametrize("at_s", [0.5, 4.0, 9.5])
def test_a_click_is_drawn_where_it_sounds(at_s: float) -> None:
    sound = np.zeros(10 * RATE, np.int16)
    sound[round(at_s * RATE) :][:64] = 20_000
    picture = np.asarray(film_card.draw_card(frames(12), sound, RATE, 10.0)).astype(int)
    top = film_card.STRIP + film_card.GAP
    wave = picture[top + 20 : top + film_card.WAVE // 2 - 4]  # below the label, above the line of silence
    expected = at_s / 10 * film_card.WIDTH
    assert abs(np.argmax(np.abs(wave - wave[0, 0]).sum(axis=(0, 2))) - expected) <= 2
    top += film_card.WAVE + film_card.GAP
    spectrum = picture[top : top + film_card.SPECTRUM, 60:].sum(axis=(0, 2))
    assert abs(np.average(np.arange(60, film_card.WIDTH), weights=spectrum - spectrum.min()) - expected) <= 4


@pytest.mark.parametrize(
    ("pictures", "sound", "duration_s"),
    [
        (frames(12), np.zeros(RATE, np.int16), 1.0),
        (frames(1), np.zeros(0, np.int16), 5.0),
        (frames(12, 96, 54), np.ones((2, RATE), np.float32) * 0.1, 1.0),
        (frames(3, 2, 200), np.full(100, np.nan, np.float32), 0.02),
        (frames(12), np.random.default_rng(0).normal(size=30 * RATE).astype(np.float32), 30.0),
        (frames(0), np.zeros(4, np.int16), 4 / RATE),
    ],
)
def test_any_film_has_a_picture(
    tmp_path: Path, pictures: np.ndarray, sound: np.ndarray, duration_s: float
) -> None:
    for name in ("card.png", "card.webp"):
        film_card.save(film_card.draw_card(pictures, sound, RATE, duration_s), tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.size == (film_card.WIDTH, film_card.HEIGHT)


@settings(max_examples=25)
@given(st.floats(0.001, 1e6))
def test_ticks_are_few_round_and_on_the_axis(duration_s: float) -> None:
    ticks = film_card.time_ticks(duration_s)
    assert 1 <= len(ticks) <= 13
    assert ticks[0] == 0 and ticks[-1] <= duration_s * (1 + 1e-6)
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0] if len(ticks) > 1 else 0)


def test_time_labels() -> None:
    assert film_card.time_label(0.25, 0.05) == "0.25 s"
    assert film_card.time_label(0.5, 0.5) == "0.5 s"
    assert film_card.time_label(75, 5) == "1:15"
    assert film_card.time_label(3605, 5) == "1:00:05"


def test_every_band_hears_something() -> None:
    bank = film_card.mel_bank(RATE)
    assert bank.shape[1] == film_card.SPECTRUM
    assert (bank.sum(axis=0) > 0).all()
