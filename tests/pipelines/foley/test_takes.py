"""Synthesised takes."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.foley.recordings import foley_classes
from pipelines.foley.takes import LONG_S, TAKES
from v2a_models.metrics.onsets import onsets


@pytest.mark.parametrize("label", sorted(TAKES))
def test_a_take_sounds_and_is_the_same_each_time(label: str) -> None:
    first, again, other = (TAKES[label](np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first.dtype == np.float32 and np.isfinite(first).all() and np.abs(first).max() > 0.01
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert (len(first) == round(LONG_S * 44_100)) == (not foley_classes()[label].has_events)


@pytest.mark.parametrize("label", ["hammer", "metal", "clap", "ball", "typing", "clock"])
def test_a_stroke_begins_at_once(label: str) -> None:
    found = onsets(np.pad(TAKES[label](np.random.default_rng(0)), (4410, 0)))
    assert len(found) and abs(found[0] - 0.11) < 0.03
