"""Place of the motion in a picture, by which `panning` places a sound between left and right.

Something that moves by itself has a position. Motion of the whole picture has none, and is spread instead: rain, waves,
a camera that moves, flicker. A place depends on pictures within `REACH_S` of it only, so that windows and segments that
share these agree.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from v2a_models import grid

SIZE = 64
"""Width and height at which pictures are compared, in pixels."""

NOISE = 3.0
"""Change of a pixel, of 255, that noise of the camera and of the codec explains."""

LEAST = 4.0
"""Mean square of the changes beyond `NOISE` at which motion is as likely as not."""

FLAT = 10.0
"""Contrast, of 255, that is added to that of every pixel: a flat background that does not change stands still."""

WHOLE = 0.3, 0.45
"""Evenness over the pixels, by their contrast, between which motion becomes one of the whole picture. A moving thing
reaches 0.3, a slow camera 0.4, a fast one 0.6."""

STRIPS = 8
"""Parts of the width over which motion is spread or not."""

WIDE = 0.55, 0.85
"""Evenness over the strips between which motion becomes spread. Most things that move reach 0.5, waves 0.75, rain and a
camera 0.95."""

REACH_S = 0.3
"""Seconds on either side over which places are smoothed; half of the weight lies within about 0.1 s."""

HOLD = 0.05
"""Weight of the middle, beside the weights (0 to 1) of the positions in reach: a place is held while anything moved in
reach."""

CHUNK = 64
"""Pictures that are compared at a time, to bound memory."""


def place(frames: Tensor | np.ndarray, fps: float) -> Tensor:
    """Position and spread of the motion in frames uint8 (B, T, H, W, 3), at `fps`: float32 (B, T, 2).

    Position: -1 at the left edge, 1 at the right, 0 in the middle or where nothing moves by itself. Spread: 1 where the
    whole width moves, 0 without motion. Entry t is about the time from picture t to the next.
    """
    firsts = range(0, max(1, frames.shape[1] - 1), CHUNK)
    seen = torch.cat([_between(_tensor(frames[:, at : at + CHUNK + 1])) for at in firsts], 1)
    # Nothing is known of the time after the last picture.
    seen = _smoothed(F.pad(seen, (0, 0, 0, frames.shape[1] - seen.shape[1])), fps)
    moment, weight, spread = seen.unbind(-1)
    return torch.stack([moment / (weight + HOLD), spread], -1)


def _tensor(frames: Tensor | np.ndarray) -> Tensor:
    # A copy, of a chunk only: arrays that came from another process cannot be written, which torch warns of.
    return torch.tensor(frames) if isinstance(frames, np.ndarray) else frames


def _between(frames: Tensor) -> Tensor:
    """Position times its weight, weight and spread of the motion between successive frames: (B, T - 1, 3)."""
    grey = _small_grey(frames)
    change = F.relu(grey.diff(dim=1).abs() - NOISE)
    # As the picture moves as a whole, a pixel changes by as much as it differs from those beside it.
    contrast = _contrast(grey)
    contrast = torch.maximum(contrast[:, 1:], contrast[:, :-1]) + FLAT
    energy = change.square().sum(2)
    total = energy.sum(-1)
    certainty = total / (total + LEAST * SIZE * SIZE)
    whole = _ramp(_evenness(change.flatten(2), contrast.flatten(2)), *WHOLE)
    strips = energy.unflatten(-1, (STRIPS, -1)).sum(-1)
    wide = _ramp(_evenness(strips, torch.ones_like(strips)), *WIDE)
    across = (torch.arange(SIZE, device=frames.device) + 0.5) * (2 / SIZE) - 1
    position = (energy * across).sum(-1) / total.clamp_min(1e-6)
    weight = certainty * (1 - whole) * (1 - wide)
    return torch.stack([position * weight, weight, certainty * wide], -1)


def _small_grey(frames: Tensor) -> Tensor:
    """Frames (B, T, H, W, 3) in grey, 0 to 255: float32 (B, T, SIZE, SIZE)."""
    red, green, blue = frames.unbind(-1)
    grey = (red.float() + green + blue) / 3
    return grey if grey.shape[2:] == (SIZE, SIZE) else F.adaptive_avg_pool2d(grey, SIZE)


def _contrast(grey: Tensor) -> Tensor:
    """Largest difference of a pixel (B, T, H, W) from the four beside it."""
    around, most = F.pad(grey, (1, 1, 1, 1), mode="replicate"), torch.zeros_like(grey)
    for y, x in ((0, 1), (2, 1), (1, 0), (1, 2)):
        beside = around[:, :, y : y + grey.shape[2], x : x + grey.shape[3]]
        most = torch.maximum(most, (grey - beside).abs())
    return most


def _evenness(amount: Tensor, share: Tensor) -> Tensor:
    """Evenness of amounts over the last dimension: 1 for amounts in proportion to `share`, 1 / n for one of n equal
    shares, 0 for nothing."""
    squares = (amount.square() / share).sum(-1)
    return amount.sum(-1).square() / (share.sum(-1) * squares).clamp_min(1e-6)


def _ramp(x: Tensor, low: float, high: float) -> Tensor:
    return ((x - low) / (high - low)).clamp(0, 1)


def _smoothed(x: Tensor, fps: float) -> Tensor:
    """Weighted mean of (B, T, C) over `REACH_S` before and after, with raised-cosine weights; zero outside."""
    reach = grid.frame_count(REACH_S, fps)
    weights = [1 + math.cos(math.pi * k / reach) for k in range(1 - reach, reach)]
    padded = F.pad(x, (0, 0, reach - 1, reach - 1))
    # Term by term, so that the rounding does not depend on the length.
    total = torch.zeros_like(x)
    for k, weight in enumerate(weights):
        total += weight / sum(weights) * padded[:, k : k + x.shape[1]]
    return total
