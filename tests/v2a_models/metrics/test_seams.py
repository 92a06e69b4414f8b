"""Jumps of a sound, and which joins jump more than the rest."""

from __future__ import annotations

import numpy as np

from v2a_models.metrics import seams

RATE = 44_100


def noise(n: int, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(n) * level).astype(np.float32)


def test_a_step_of_level_is_found_where_it_is() -> None:
    sound = noise(10 * RATE)
    sound[4 * RATE :] *= 10  # 20 dB
    found = seams.jumps(sound, [2 * RATE, 4 * RATE, 6 * RATE], RATE)
    assert found.level[1] > 18 > 2 > max(found.level[0], found.level[2])
    assert found.spectrum[1] > 3 * found.spectrum[0]


def test_another_spectrum_at_the_same_level_is_found() -> None:
    time_s = np.arange(4 * RATE) / RATE
    sound = np.where(time_s < 2, np.sin(2 * np.pi * 300 * time_s), np.sin(2 * np.pi * 5000 * time_s))
    found = seams.jumps(sound.astype(np.float32), [RATE, 2 * RATE], RATE)
    assert found.level[1] < 1 and found.spectrum[1] > 5 > found.spectrum[0]


def test_silence_does_not_jump_and_edges_are_left_out() -> None:
    found = seams.jumps(np.zeros(RATE, np.float32), [0, RATE // 2, RATE], RATE)
    assert len(found) == 1 and found.level[0] == found.spectrum[0] == 0


def test_moments_inside_are_far_from_all_joins() -> None:
    joins = [RATE, 3 * RATE, 3 * RATE + 100]
    moments = seams.inside(5 * RATE, joins)
    assert len(moments) and min(abs(int(m) - j) for m in moments for j in joins) >= 2 * seams.SPAN
    assert len(seams.inside(5 * RATE, [])) > len(moments)


def test_the_worst_join_is_named_first() -> None:
    sound = noise(20 * RATE)
    sound[6 * RATE : 12 * RATE] *= 8
    found = seams.worst(sound, [3 * RATE, 6 * RATE, 15 * RATE], RATE, most=2)
    assert found[0][0] == 6 * RATE and found[0][1] > 3 and len(found) == 2
    assert 0.5 < found[1][1] < 2
    assert seams.worst(np.zeros(20 * RATE, np.float32), [RATE], RATE) == []
