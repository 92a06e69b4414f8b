"""Left and right of a mono sound, by the places of motion in the picture.

    mid  = mono                                         always: left + right = 2 mono
    side = mono * tan(angle) + ambience                 left = mid - side, right = mid + side

The tangent gives the directions of constant-power panning. The sound as a whole becomes up to 1 dB louder at a side,
since the middle is left alone. Motion that is spread over the picture adds ambience: a few delayed copies of the sound,
which are heard at once from both sides and from neither.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from v2a_models import grid

MOST = 0.6
"""Panning at the edge of the picture, from 0 (the middle) to 1 (one channel alone)."""

AMBIENCE = 0.4
"""RMS of the ambience, relative to the sound, while the whole picture moves."""

COPIES = ((3.1, 1), (5.3, -1), (8.9, -1), (11.7, 1), (15.1, 1), (19.9, -1), (24.7, -1), (29.3, 1))
"""Delay in ms, and sign, of the copies that the ambience consists of. The signs add to zero: bass has no
ambience."""

BLOCK = 1 << 16
"""Samples that are placed at a time, to bound memory."""


def memory(rate: int) -> int:
    """Samples before a sound from which its ambience is made."""
    return grid.samples(COPIES[-1][0] / 1000, rate)


def stereo(sound: Tensor, place: Tensor, *, fps: float, rate: int, start: int = 0, past: int = 0) -> Tensor:
    """Left and right, float32 (B, 2, N), of mono sound (B, past + N) in [-1, 1]; left + right is 2 * sound.

    place: (B, T, 2) of `motion.place`, or (1, T, 2) for all rows. start: first sample of the N, counted from the first
    picture of `place`. past: samples before it; those of `memory(rate)` that are missing count as silence. Where a
    channel would exceed full scale, the side is cut off.
    """
    n, reach = sound.shape[1] - past, memory(rate)
    sound = F.pad(sound, (reach - past, 0))  # cuts off what is too much
    made = sound.new_empty(len(sound), 2, n)
    for at in range(0, n, BLOCK):
        stop = min(n, at + BLOCK)
        position, spread = _at(place, grid.frame_positions(start + at, stop - at, fps, rate))
        mid = sound[:, reach + at : reach + stop]
        side = mid * torch.tan(position * (MOST * math.pi / 4))
        side = side + AMBIENCE * spread * _copies(sound[:, at : reach + stop], reach, rate)
        room = (1 - mid.abs()).clamp_min(0)
        side = torch.minimum(torch.maximum(side, -room), room)
        made[:, 0, at:stop], made[:, 1, at:stop] = mid - side, mid + side
    return made


def _at(place: Tensor, at: np.ndarray) -> tuple[Tensor, Tensor]:
    """Position and spread, (B, N) each, at fractional entries `at`, float64 [N], of (B, T, 2); held beyond the ends."""
    at = at.clip(0, place.shape[1] - 1)
    before = at.astype(np.int64)
    after = np.minimum(before + 1, place.shape[1] - 1)
    weight = torch.from_numpy((at - before).astype(np.float32)).to(place.device)
    first, second = (place[:, torch.from_numpy(k).to(place.device)] for k in (before, after))
    position, spread = torch.lerp(first, second, weight[:, None]).unbind(-1)
    return position, spread


def _copies(sound: Tensor, reach: int, rate: int) -> Tensor:
    """Sum of the `COPIES` of sound (B, reach + N), as loud as the sound if that is noise: (B, N)."""
    total = torch.zeros_like(sound[:, reach:])
    for delay_ms, sign in COPIES:
        first = reach - grid.samples(delay_ms / 1000, rate)
        total += sign * sound[:, first : first + total.shape[1]]
    return total / math.sqrt(len(COPIES))
