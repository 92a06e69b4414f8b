"""16-bit samples from floats in [-1, 1] and back, by the two scales that are in use.

SYMMETRIC_SCALE makes 1.0 the largest sample and -1.0 its negative: generated sound becomes samples by it, and models
that predict samples read by it. EXACT_SCALE is a power of two, so that every sample comes back exactly after
arithmetic in floats: recorded sound and finished tracks are read and written by it, as FFmpeg does. Stores, tokens and
films hold the results of both; another scale at any place would change their bytes.
"""

from __future__ import annotations

import numpy as np

SYMMETRIC_SCALE = 32_767
"""Sample of 1.0, for generated sound."""

EXACT_SCALE = 32_768.0
"""Sample of 1.0, for recorded sound."""


def quantise(sound: np.ndarray) -> np.ndarray:
    """Float in [-1, 1] to int16 by SYMMETRIC_SCALE, clipped. Raises ValueError if a sample is not a number."""
    if not np.isfinite(sound).all():
        raise ValueError("the generator gave samples that are not numbers")
    return np.rint(np.clip(sound, -1.0, 1.0) * SYMMETRIC_SCALE).astype(np.int16)


def quantise_exact(sound: np.ndarray) -> np.ndarray:
    """Float in [-1, 1] to int16 by EXACT_SCALE, clipped."""
    return np.clip(np.rint(sound * EXACT_SCALE), -32_768, 32_767).astype(np.int16)


def saturate(track: np.ndarray) -> np.ndarray:
    """int32 sums back to int16."""
    return np.clip(track, -SYMMETRIC_SCALE, SYMMETRIC_SCALE).astype(np.int16)
