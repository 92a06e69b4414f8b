"""Left and right of a sound: the middle is untouched, the level is kept, blocks and stretches leave no trace."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from v2a_models.stereo import panning

RATE, FPS = 44_100, 25.0
seeds = st.integers(0, 2**32 - 1)
LOUDEST = 1 / math.cos(panning.MOST * math.pi / 4) ** 2


def sound(seed: int, n: int, peak: float = 0.5, rows: int = 1) -> torch.Tensor:
    return peak * (2 * torch.rand(rows, n, generator=torch.Generator().manual_seed(seed)) - 1)


def place(seed: int, n: int = 30) -> torch.Tensor:
    """Positions and spreads, within their limits."""
    drawn = torch.rand(1, n, 2, generator=torch.Generator().manual_seed(seed))
    return drawn * torch.tensor([2.0, 1.0]) - torch.tensor([1.0, 0.0])


def constant(position: float, spread: float = 0.0) -> torch.Tensor:
    return torch.tensor([[[position, spread]]])


def stereo(mono: torch.Tensor, at: torch.Tensor, **options: int) -> torch.Tensor:
    return panning.stereo(mono, at, fps=FPS, rate=RATE, **options)


def power(x: torch.Tensor) -> float:
    return float(x.double().square().mean())


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 40_000), st.floats(0.01, 1.0))
def test_the_middle_is_untouched_and_nothing_clips(seed: int, n: int, peak: float) -> None:
    mono = sound(seed, n, peak, rows=2)
    made = stereo(mono, place(seed))
    assert made.shape == (2, 2, n)
    torch.testing.assert_close(made.mean(1), mono, atol=2e-7, rtol=0)
    assert float(made.abs().max()) <= 1 + 2e-7


def test_both_channels_are_equal_without_motion() -> None:
    mono = sound(1, 10_000)
    made = stereo(mono, torch.zeros(1, 30, 2))
    assert torch.equal(made[:, 0], mono) and torch.equal(made[:, 1], mono)


@given(st.floats(-1, 1))
def test_the_side_that_moves_is_louder_by_the_law_of_constant_power(position: float) -> None:
    left, right = stereo(sound(2, 4_000), constant(position))[0]
    angle = math.pi / 4 * (1 + panning.MOST * position)  # 0: all at the left, pi / 2: all at the right
    assert math.isclose(power(left), power(right) * math.tan(math.pi / 2 - angle) ** 2, rel_tol=1e-4)
    total = (power(left) + power(right)) / (2 * power(sound(2, 4_000)))
    assert 1 - 1e-4 <= total <= LOUDEST + 1e-4 and 10 * math.log10(LOUDEST) < 1.01


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_opposite_places_swap_the_channels(seed: int) -> None:
    mono, there = sound(seed, 9_000), place(seed)
    there[..., 1] = 0
    mirrored = there * torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(stereo(mono, mirrored).flip(1), stereo(mono, there), atol=1e-7, rtol=0)


def test_spread_motion_widens_a_sound_and_leaves_the_bass_alone() -> None:
    mono = sound(3, 2 * RATE)
    left, right = stereo(mono, constant(0.0, 1.0))[0]
    side = (right - left) / 2
    assert power(side) == pytest.approx(panning.AMBIENCE**2 * power(mono), rel=0.1)
    assert power(left) == pytest.approx(power(right), rel=0.15)
    correlation = float((left * right).mean()) / math.sqrt(power(left) * power(right))
    assert 0.6 < correlation < 0.8
    hum = 0.5 * torch.sin(2 * math.pi * 10 / RATE * torch.arange(2 * RATE))[None]
    left, right = stereo(hum, constant(0.0, 1.0))[0][:, RATE:]
    assert power(right - left) < 0.05 * power(left)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(0, 60_000), st.integers(1, 90_000))
def test_a_stretch_with_its_past_is_the_same_as_in_the_whole(seed: int, first: int, n: int) -> None:
    mono, there = sound(seed, 150_000), place(seed, 90)
    past = min(first, panning.memory(RATE))
    part = stereo(mono[:, first - past : first + n], there, start=first, past=past)
    torch.testing.assert_close(part, stereo(mono, there)[..., first : first + n], atol=1e-6, rtol=0)


def test_windows_that_overlap_meet_as_one() -> None:
    """Windows know their own past only: crossfaded, they differ from the whole by their first ambience at most."""
    mono, there = sound(5, 40_000), place(5, 24)
    there[..., 1] = 0
    whole = stereo(mono, there)
    fade = torch.linspace(0, 1, 10_000)
    one, two = stereo(mono[:, :25_000], there), stereo(mono[:, 15_000:], there, start=15_000)
    met = torch.cat(
        [one[..., :15_000], one[..., 15_000:] * (1 - fade) + two[..., :10_000] * fade, two[..., 10_000:]], 2
    )
    torch.testing.assert_close(met, whole, atol=1e-6, rtol=0)


def test_positions_glide_between_pictures() -> None:
    tone = torch.full((1, 8_000), 0.25)
    there = torch.tensor([[[-1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]])
    left = stereo(tone, there)[0, 0].numpy()
    assert np.abs(np.diff(left)).max() < 1e-3
    frame = RATE / FPS
    assert left[int(frame / 2)] > 0.3 > 0.2 > left[int(frame * 2)]
    assert left[0] == left[int(frame / 2) - 2] and left[-1] == pytest.approx(0.25)


def test_rows_may_share_a_place() -> None:
    mono = sound(6, 5_000, rows=3)
    shared, own = stereo(mono, place(6)), stereo(mono, place(6).expand(3, -1, -1))
    assert torch.equal(shared, own) and torch.equal(shared[:1], stereo(mono[:1], place(6)))
