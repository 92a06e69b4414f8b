"""Floats and 16-bit samples: both scales give samples back, and each keeps its own full scale."""

from __future__ import annotations

import numpy as np
import pytest

from v2a_models import pcm

EVERY = np.arange(-32_768, 32_768).astype(np.int16)


def test_the_exact_scale_gives_every_sample_back() -> None:
    assert np.array_equal(pcm.quantise_exact(EVERY.astype(np.float32) / pcm.EXACT_SCALE), EVERY)
    assert pcm.quantise_exact(np.array([-2.0, -1.0, 0.25, 2.0])).tolist() == [-32_768, -32_768, 8_192, 32_767]


def test_the_symmetric_scale_gives_every_sample_but_the_lowest_back() -> None:
    back = pcm.quantise(EVERY.astype(np.float32) / pcm.SYMMETRIC_SCALE)
    assert np.array_equal(back[1:], EVERY[1:])
    assert pcm.quantise(np.array([-2.0, -1.0, 1.0, 2.0])).tolist() == [-32_767, -32_767, 32_767, 32_767]


def test_samples_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="not numbers"):
        pcm.quantise(np.array([0.0, np.nan]))


def test_sums_are_saturated() -> None:
    assert pcm.saturate(np.array([-70_000, 5, 70_000])).tolist() == [-32_767, 5, 32_767]
