"""Stretches of scenes: what is seen, when it moves and what is heard begin together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.mini.parts import DRAWN_SHARE, RECIPE, Scenes, draw_scenes
from v2a_models import grid


@pytest.mark.parametrize("seconds", [None, 2.0])
def test_the_columns_of_a_stretch_begin_at_the_same_time(seconds: float | None) -> None:
    n_codes = grid.codec_frames(grid.samples(8.0))
    # Every entry is its own number, so a stretch tells where it begins.
    semantic = torch.arange(20.0).view(1, 1, 20, 1).half()
    sync, codes = torch.arange(200.0).view(1, 200, 1).half(), torch.arange(n_codes).view(1, 1, n_codes)
    scenes = Scenes(semantic, sync, codes, RECIPE)
    length = seconds or RECIPE.window_s
    starts = set()
    for seed in range(40):
        crop = scenes.crops(np.random.default_rng(seed), 1, "cpu", seconds)
        begin_s = float(crop["sync"][0, 0, 0]) / 25
        assert int(crop["codes"][0, 0, 0]) * grid.HOP / grid.SAMPLE_RATE == pytest.approx(begin_s, abs=0.0065)
        assert float(crop["semantic"][0, 0, 0]) / 2.5 == pytest.approx(begin_s, abs=0.21)
        assert crop["sync"].shape[1] == round(25 * length) and crop["semantic"].shape[1] == round(
            2.5 * length
        )
        assert crop["codes"].shape[-1] == grid.codec_frames(grid.samples(length))
        starts.add(begin_s)
    assert len(starts) > 20


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(0, 30), st.integers(0, 30))
def test_scenes_are_drawn_once_of_both_kinds(seed: int, rows: int, recorded: int, drawings: int) -> None:
    total = recorded + drawings
    chosen = draw_scenes(np.random.default_rng(seed), rows, total, drawings)
    assert len(set(chosen)) == len(chosen) == min(rows, total)
    assert all(0 <= scene < total for scene in chosen)


def test_three_tenths_of_the_scenes_are_drawings() -> None:
    rng = np.random.default_rng(0)
    drawn = [np.mean(draw_scenes(rng, 10, 1000, 200) >= 800) for _ in range(300)]
    assert np.mean(drawn) == pytest.approx(DRAWN_SHARE, abs=0.03)
