"""Pictures as the original takes them from a film: which frames, and how they are scaled.

The pipeline decodes and scales pictures in its own way (docs/limits.md says what that changes). These functions are the
original's, for whoever compares or prepares pictures by hand.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from v2a_models.mmaudio.config import CLIP_FPS, SYNC_FPS, ClipConfig
from v2a_models.mmaudio.synchformer import SIDE as SYNC_SIDE

CLIP_SIDE = ClipConfig().picture


def picked(times: Iterable[float], duration_s: float, rate: float) -> list[int]:
    """Indices of the frames that the original reads at `rate` per second, before it shortens the clip.

    times: of the frames in seconds, in order of presentation. Each target gets the first frame at or after it, and the
    steps between targets are added up in float64, rounding errors included. Frames before 0 and after `duration_s` are
    passed over.
    """
    found, wanted, step = [], 0.0, 1 / rate
    for index, time in enumerate(times):
        if not 0 <= time <= duration_s:
            continue
        while time >= wanted:
            found.append(index)
            wanted += step
    return found


def shortened(n_clip: int, n_sync: int, duration_s: float) -> float:
    """Duration in seconds that so many pictures of both rates cover; all lengths follow from it."""
    for n, rate in ((n_clip, CLIP_FPS), (n_sync, SYNC_FPS)):
        duration_s = min(duration_s, n / rate)
    return duration_s


def clip_pictures(pictures: Tensor) -> Tensor:
    """Pictures for CLIP, uint8 (..., 3, 384, 384), squeezed from uint8 (..., 3, H, W)."""
    return _resized(pictures, CLIP_SIDE, CLIP_SIDE)


def sync_pictures(pictures: Tensor) -> Tensor:
    """Pictures for Synchformer, uint8 (..., 3, 224, 224): the middle of uint8 (..., 3, H, W), its shorter side
    scaled."""
    height, width = pictures.shape[-2:]
    short, long = sorted((height, width))
    longer = int(SYNC_SIDE * long / short)
    sizes = (SYNC_SIDE, longer) if height <= width else (longer, SYNC_SIDE)
    scaled = _resized(pictures, *sizes)
    top, left = (round((size - SYNC_SIDE) / 2) for size in sizes)
    return scaled[..., top : top + SYNC_SIDE, left : left + SYNC_SIDE]


def unit_range(pictures: Tensor) -> Tensor:
    """Pixels of CLIP: uint8 to float in [0, 1]."""
    return pictures.float() / 255


def signed_range(pictures: Tensor) -> Tensor:
    """Pixels of Synchformer: uint8 to float in [-1, 1]."""
    return (pictures.float() / 255 - 0.5) / 0.5


def _resized(pictures: Tensor, height: int, width: int) -> Tensor:
    if pictures.dtype != torch.uint8:
        # Rounding between the two passes changes a fifth of the pixels.
        raise ValueError(f"expected uint8 pictures, got {pictures.dtype}")
    return transforms.resize(
        pictures, [height, width], interpolation=transforms.InterpolationMode.BICUBIC, antialias=True
    )
