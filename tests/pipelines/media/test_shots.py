"""Hard cuts and footage in which nothing moves, told from pictures alone."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.media import shots


def scene(seed: int, n: int, drift: float = 0.0) -> np.ndarray:
    """uint8 [n, 64, 64, 3]: coarse shapes, moving sideways by `drift` pixels a picture."""
    rng = np.random.default_rng(seed)
    shapes = np.kron(rng.integers(20, 235, (16, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    return np.stack([np.roll(shapes, round(k * drift), 1)[32:96, 32:96] for k in range(n)])


def noisy(pictures: np.ndarray, level: float) -> np.ndarray:
    noise = np.random.default_rng(9).standard_normal(pictures.shape) * level
    return np.clip(pictures + noise, 0, 255).astype(np.uint8)


def test_a_hard_cut_is_found_at_its_picture() -> None:
    film = np.concatenate([scene(1, 40), scene(2, 35), scene(3, 50)])
    assert shots.cuts(film, 25) == [40, 75]
    assert shots.cuts(noisy(film, 3), 25) == [40, 75]


def test_movement_and_fades_are_no_cuts() -> None:
    assert shots.cuts(scene(1, 60, drift=0.5), 25) == []
    fade = np.linspace(1, 0, 60)[:, None, None, None]
    assert shots.cuts((scene(1, 60) * fade + scene(2, 60) * (1 - fade)).astype(np.uint8), 25) == []
    assert shots.cuts(scene(1, 3), 25) == []
    assert shots.cuts(scene(1, 3)[:0], 25) == []


@pytest.mark.parametrize("size", [32, 48, 64, 100])
def test_noise_does_not_move_and_a_small_thing_does(size: int) -> None:
    still = np.full((20, size, size, 3), 120, np.uint8)
    assert shots.peak_motion(noisy(still, 1.5)) < 4
    moving = still.copy()
    part = max(1, size // 16)  # a sixteenth of the width, for one picture only
    moving[13, :part, :part] = 250
    assert shots.peak_motion(moving) > 4
    assert shots.peak_motion(still) == shots.peak_motion(still[:1]) == 0


def test_mean_motion_is_the_mean_change_from_picture_to_picture() -> None:
    still = np.full((5, 4, 4, 3), 90, np.uint8)
    assert shots.mean_motion(still) == 0 == shots.mean_motion(still[:1])
    flicker = still.copy()
    flicker[1::2] = 100
    assert shots.mean_motion(flicker) == 10


def test_a_small_thing_that_moves_has_a_high_peak_and_a_low_mean() -> None:
    pictures = np.zeros((4, 64, 64, 3), np.uint8)
    for number in range(4):
        pictures[number, 8 * number : 8 * number + 8, :8] = 200
    assert shots.mean_motion(pictures) < 10 and shots.peak_motion(pictures) == 200
