"""S3D for published weights: torchvision's trunk, and the pixel scalings it was trained with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.video import S3D

from v2a_models.encoders.clip_s3d import channels_first
from v2a_models.encoders.shapes import S3D_DIM, s3d_steps

Scaling = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and standard deviation of red, green and blue in [0, 1]."""

KINETICS: Scaling = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
"""torchvision's `S3D_Weights.KINETICS400_V1.transforms()`; scored at 15 fps, 224 pixels."""

IMAGENET: Scaling = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""SparseSync: `RGBToFloatToZeroOne` then `RGBNormalize` in v-iashin/SparseSync, configs/sparse_sync.yaml and the
config published with a checkpoint; trained at 25 fps, 224 pixels. (The S3D of kylemin that it started from took
pixels in [-1, 1], but all its weights were trained further with this scaling.)"""


class PublishedSyncEncoder(nn.Module):
    """Trunk of S3D: frames uint8 (B, T, H, W, 3) -> features (B, `steps(T)`, 1024), averaged over space.

    Time step i is centred on frame 8 i + 2.
    """

    dim = S3D_DIM
    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.features = S3D().features
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @staticmethod
    def steps(n_frames: int) -> int:
        """Output steps for `n_frames`: halved twice rounding up, then once rounding down."""
        return s3d_steps(n_frames)

    def forward(self, frames: Tensor) -> Tensor:
        """Raises ValueError for input of another type or shape, and for fewer than 5 frames."""
        if self.steps(frames.shape[1]) < 1:
            raise ValueError(f"S3D needs at least 5 frames, got {frames.shape[1]}")
        pixels = (channels_first(frames) / 255 - self.mean) / self.std
        return self.features(pixels.transpose(1, 2)).mean((-2, -1)).transpose(1, 2)
