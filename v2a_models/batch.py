"""Typed batch that every generator takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

_DIMENSIONS = {"semantic": 3, "sync": 3, "codes": 3, "audio": 3, "frames": 5, "waveform": 3, "place": 3}


@dataclass(frozen=True)
class Batch:
    """Features and targets of B windows of one recipe. Fields that a model does not use may be None.

    B windows, T1 semantic steps, T2 sync steps, T3 audio steps, K codebooks, L codec frames.
    """

    semantic: Tensor | None = None
    """float (B, T1, D1): CLIP features."""
    sync: Tensor | None = None
    """float (B, T2, D2): S3D features."""
    codes: Tensor | None = None
    """int64 (B, K, L): codec tokens of the true sound (training only)."""
    audio: Tensor | None = None
    """float (B, T3, D3): features of the true sound (training only)."""
    frames: Tensor | None = None
    """uint8 (B, T, H, W, 3): pixels, for models whose recipe has no visual encoder."""
    waveform: Tensor | None = None
    """int16 (B, channels, samples): the true sound (training only)."""
    place: Tensor | None = None
    """float (B, T, 2): places of motion (`stereo.motion`), for a model with a codec whose recipe has two channels."""
    text: Sequence[str] | None = None
    """B captions or prompts."""

    def __post_init__(self) -> None:
        sizes = {f.name: len(v) for f in fields(self) if (v := getattr(self, f.name)) is not None}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"rows differ between the parts of a batch: {sizes}")
        for name, n in _DIMENSIONS.items():
            tensor = getattr(self, name)
            if tensor is not None and tensor.ndim != n:
                raise ValueError(f"{name} must have {n} dimensions, got {tuple(tensor.shape)}")

    def __len__(self) -> int:
        return next((len(v) for f in fields(self) if (v := getattr(self, f.name)) is not None), 0)

    def to(self, device: torch.device | str) -> Batch:
        moved = {n: getattr(self, n) for n in _DIMENSIONS}
        return replace(self, **{n: None if t is None else t.to(device) for n, t in moved.items()})
