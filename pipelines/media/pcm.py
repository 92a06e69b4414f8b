"""Conversion between floats in [-1, 1] and 16-bit samples."""

from __future__ import annotations

import numpy as np

FULL_SCALE = 32_767
"""The 16-bit value of a sample of 1.0."""


def quantise(sound: np.ndarray) -> np.ndarray:
    """float in [-1, 1] to int16, clipped. Raises ValueError if a sample is not a number."""
    if not np.isfinite(sound).all():
        raise ValueError("the generator gave samples that are not numbers")
    return np.rint(np.clip(sound, -1.0, 1.0) * FULL_SCALE).astype(np.int16)


def saturate(track: np.ndarray) -> np.ndarray:
    """int32 sums back to int16."""
    return np.clip(track, -FULL_SCALE, FULL_SCALE).astype(np.int16)
