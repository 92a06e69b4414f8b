"""Pictures of high dynamic range as a screen of standard range shows them.

Models have learned from standard pictures (BT.709). Those of HDR films (PQ and HLG in the colours of BT.2020) would
look grey and pale to them. Reference white, 203 cd/m² in both (ITU-R BT.2408), becomes nearly the brightest white, and
what is brighter is compressed above it.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

PQ, HLG = 16, 18
"""FFmpeg's numbers of the transfer functions of HDR (SMPTE ST 2084, ARIB STD-B67)."""

BT_2020 = 9
"""FFmpeg's number of the colour primaries of BT.2020."""

WHITE_NITS = 203.0
HLG_NITS = 1000.0
"""Brightness of the nominal HLG display."""

KNEE = 0.75
"""Brightness, of reference white, above which it is compressed."""

GAMMA = 2.4
"""Exponent of a standard screen (BT.1886)."""

_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
_TO_BT_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)


def is_hdr(frame: Any) -> bool:
    """True for a picture that is coded for high dynamic range."""
    return int(frame.color_trc) in (PQ, HLG)


def to_standard(picture: np.ndarray, transfer: int, primaries: int = BT_2020) -> np.ndarray:
    """A picture, uint16 [height, width, 3] of full range, in standard range: uint8. `transfer` is PQ or HLG."""
    light = _linear(transfer)[picture]
    if transfer == HLG:  # the light of the scene, which a display makes darker where it is dark
        light *= np.maximum(light @ _LUMINANCE, 1e-6)[..., None] ** np.float32(0.2) * np.float32(HLG_NITS)
    light /= np.float32(WHITE_NITS)
    if primaries == BT_2020:
        light = np.maximum(light @ _TO_BT_709.T, 0)
    brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    over = np.maximum(brightest - KNEE, 0) / (1 - KNEE)
    # All three by one factor, so that colours keep their hue.
    light *= (np.minimum(brightest, KNEE) + (1 - KNEE) * (1 - np.exp(-over))) / brightest
    return (np.clip(light, 0, 1) ** np.float32(1 / GAMMA) * 255 + 0.5).astype(np.uint8)


@functools.cache
def _linear(transfer: int) -> np.ndarray:
    """Light of each of the 65,536 code values, float32: in cd/m² for PQ, of 1 for HLG."""
    code = np.linspace(0, 1, 1 << 16)
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = code ** (1 / m2)
        light = 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return light.astype(np.float32)
