"""Places of motion: where something moves by itself, and the middle for everything else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from v2a_models.stereo import motion

FPS = 25
INNER = slice(10, -10)
"""Entries that do not depend on what is beyond the ends."""


def texture(seed: int = 0, size: int = 192) -> np.ndarray:
    """Grey picture with detail of every size, as photographs have."""
    waves = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    waves[0, 0] = 1
    noise = np.random.default_rng(seed).standard_normal((size, size))
    picture = np.fft.ifft2(np.fft.fft2(noise) / waves).real
    return 255 * (picture - picture.min()) / np.ptp(picture)


def film(picture: Callable[[int], np.ndarray], n: int = 60) -> torch.Tensor:
    """Film of grey pictures [H, W]: uint8 (1, n, H, W, 3)."""
    grey = np.stack([picture(k) for k in range(n)]).clip(0, 255).astype(np.uint8)
    return torch.from_numpy(grey)[None, ..., None].repeat(1, 1, 1, 1, 3)


def thing(k: int, x: float, behind: np.ndarray, radius: int = 6) -> np.ndarray:
    """A white disc that goes up and down at column `x` (-1 to 1), in front of a picture."""
    height, width = behind.shape
    rows, columns = np.mgrid[:height, :width]
    y = height / 2 + height / 4 * np.sin(k / 3)
    return np.where(np.hypot(columns - (x + 1) * width / 2, rows - y) < radius, 240, behind)


def camera(k: int, dx: float, dy: float = 0.0, behind: int = 0) -> np.ndarray:
    """Part of a large picture, as a moving camera sees it."""
    return ndimage.shift(texture(behind), (dy, dx), order=1, mode="grid-wrap")[:64, :64]


def places(frames: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    position, spread = motion.place(frames, FPS)[0].numpy().T
    return position, spread


BACKDROPS = {"flat": np.full((64, 64), 90.0), "detailed": texture()[:64, :64]}


@pytest.mark.parametrize("behind", sorted(BACKDROPS))
@pytest.mark.parametrize("x", [-0.7, -0.3, 0.0, 0.4, 0.8])
def test_a_thing_that_moves_has_its_place(x: float, behind: str) -> None:
    position, spread = places(film(lambda k: thing(k, x, BACKDROPS[behind])))
    assert np.abs(position[INNER] - x).max() < 0.15
    assert spread.max() < 0.05


@pytest.mark.parametrize("size", [(64, 64), (36, 48), (144, 256), (224, 224)])
def test_any_size_of_picture_will_do(size: tuple[int, int]) -> None:
    position, _ = places(film(lambda k: thing(k, 0.5, np.full(size, 60.0), min(size) // 10), 30))
    assert np.abs(position[INNER] - 0.5).max() < 0.15


ALL_MOVES = {
    "pan": lambda k: camera(k, 1.0 * k),
    "fast pan": lambda k: camera(k, 3.0 * k, 1.0 * k),
    "shaking": lambda k: camera(k, 2 * np.sin(1.3 * k), np.cos(1.7 * k)),
    "flicker": lambda k: texture()[:64, :64] * (1 + 0.2 * np.sin(k)),
    "cuts": lambda k: camera(k, 0, behind=k // 12),
    "pan with detail at the left alone": lambda k: np.where(np.arange(64) < 32, camera(k, 1.0 * k), 120),
}


@pytest.mark.parametrize("name", sorted(ALL_MOVES))
def test_motion_of_the_whole_picture_is_in_the_middle(name: str) -> None:
    position, spread = places(film(ALL_MOVES[name]))
    # One side of the picture alone gives a hint at most.
    assert np.abs(position[INNER]).max() < (0.3 if "alone" in name else 0.1)
    if "alone" not in name and name != "cuts":
        assert spread[INNER].min() > 0.6


def test_little_motion_and_none_is_in_the_middle() -> None:
    rng = np.random.default_rng(1)
    still = motion.place(film(lambda k: texture()[:64, :64]), FPS)
    assert not still.any()
    grain, _ = places(film(lambda k: texture()[:64, :64] + rng.normal(0, 2, (64, 64))))
    assert np.abs(grain).max() < 0.05
    faint, _ = places(film(lambda k: thing(k, 0.8, np.full((64, 64), 237.0))))
    assert not faint.any()


def test_the_middle_comes_back_once_nothing_moves() -> None:
    position, _ = places(film(lambda k: thing(min(k, 30), -0.7, BACKDROPS["flat"])))
    assert position[25] < -0.5 and not position[40:].any()
    assert np.abs(np.diff(position)).max() < 0.25


films = st.integers(0, 2**32 - 1).map(
    lambda seed: torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (1, 40, 24, 32, 3), np.uint8))
)


@settings(max_examples=20, deadline=None)
@given(films, st.floats(-0.9, 0.9))
def test_a_mirrored_picture_swaps_left_and_right(noise: torch.Tensor, x: float) -> None:
    discs = film(lambda k: thing(k, x, np.full((24, 32), 50.0), 3), 40)
    for frames in (noise, discs, noise // 4 + discs // 2):
        there, mirrored = motion.place(frames, FPS), motion.place(frames.flip(3), FPS)
        torch.testing.assert_close(mirrored, there * torch.tensor([-1, 1]), atol=1e-4, rtol=1e-4)
        assert (there.abs() <= 1).all() and (there[..., 1] >= 0).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 60), st.integers(20, 90), st.integers(0, 9))
def test_a_place_is_the_same_in_every_stretch_of_a_film(first: int, n: int, seed: int) -> None:
    pictures = film(lambda k: thing(k, np.sin(k / 9 + seed), BACKDROPS["flat"], 4), 150)
    whole = motion.place(pictures, FPS)
    part = motion.place(pictures[:, first : first + n].numpy(), FPS)
    reach = 8  # pictures in 0.3 s
    inner = slice(reach if first else 0, n - reach)
    assert torch.equal(part[:, inner], whole[:, first : first + n][:, inner])


def test_rows_are_independent_and_short_films_have_places() -> None:
    one, two = film(lambda k: thing(k, 0.5, BACKDROPS["flat"])), film(lambda k: camera(k, k))
    both = motion.place(torch.cat([one, two]), FPS)
    assert torch.equal(both[:1], motion.place(one, FPS)) and torch.equal(both[1:], motion.place(two, FPS))
    assert motion.place(one[:, :1], FPS).shape == (1, 1, 2)
    assert motion.place(one, 8).shape == both[:1].shape
