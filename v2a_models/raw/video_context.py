"""Video context embedding of the raw-waveform systems (2308.12408, section III-C).

A stack of 3D residual blocks over past frames, then a linear map from image cells to the samples of a frame,
(x, y) -> n_aud, and a 1 x 1 convolution over channels, c_vid -> c_aud. All convolutions are causal in time, so one pass
over a film gives every frame the embedding of its past, which the paper computes separately for each frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FRAMES_PER_BLOCK = 4
"""Past frames in the receptive field of a residual block: two convolutions over three frames each."""


@dataclass(frozen=True)
class VideoContextConfig:
    """Sizes of the video context embedding. The paper publishes none."""

    width: int = 16
    """Video channels, c_vid."""
    depth: int = 2
    """Residual blocks. Each halves the image and reaches four frames further back."""
    attention: int = 0
    """Past frames that each frame attends to, which the paper suggests as future work (section V: "attend to different
    frames, or different components of different frames"); 0 for none."""

    @property
    def context_frames(self) -> int:
        """Past frames that an embedding depends on."""
        return FRAMES_PER_BLOCK * self.depth + self.attention


def causal3d(layer: nn.Conv3d, x: Tensor) -> Tensor:
    """Causal 3D convolution of (B, C, T, H, W); frames before the first are zero."""
    back = layer.kernel_size[0] - 1
    return layer(F.pad(x, (0, 0, 0, 0, back, 0)))


def per_frame(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Normalise each frame of (B, C, T, H, W) separately: statistics over time would leak later frames."""
    return norm(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


class ResidualBlock3d(nn.Module):
    """Two causal 3D convolutions around a shortcut (the paper's Fig. 3); halves height and width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, (1, 2, 2), (0, 1, 1))
        self.second = nn.Conv3d(outputs, outputs, 3, 1, (0, 1, 1))
        self.shortcut = nn.Conv3d(inputs, outputs, 1, (1, 2, 2))
        self.norm = nn.GroupNorm(1, outputs)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(per_frame(self.norm, causal3d(self.first, x)))
        return F.relu(self.shortcut(x) + causal3d(self.second, inner))


class FrameAttention(nn.Module):
    """Attention of every frame to all cells of itself and of past frames: (B, C, T, h, w) -> the same shape."""

    def __init__(self, width: int, back: int) -> None:
        super().__init__()
        self.back = back
        self.age = nn.Parameter(torch.zeros(back + 1, width))
        """Learned embedding of the distance in frames, oldest first."""
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        nn.init.normal_(self.age, std=0.02)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        frames, n = x.shape[2], self.back + 1
        cells = x.flatten(3).permute(0, 2, 3, 1)  # B, T, cells, C
        past = F.pad(cells, (0, 0, 0, 0, self.back, 0)).unfold(1, n, 1)  # B, T, cells, C, n
        past = past.permute(0, 1, 4, 2, 3) + self.age[:, None]  # B, T, n, cells, C
        there = torch.arange(n, device=x.device) >= self.back - torch.arange(frames, device=x.device)[:, None]
        mask = there[:, None, :, None].expand(-1, 1, -1, cells.shape[2]).flatten(2)  # T, 1, n * cells
        keys, values = (layer(past).flatten(2, 3) for layer in (self.key, self.value))
        queries = self.query(cells.mean(2, keepdim=True))
        attended = self.out(
            F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        )  # B, T, 1, C
        return x + attended.permute(0, 3, 1, 2)[..., None]


class CellsToSamples(nn.Module):
    """Video-to-audio map, (x, y) -> n_aud and c_vid -> c_aud: (B, c_vid, T, h, w) to (B, c_aud, T, n_aud)."""

    def __init__(self, cells: int, samples: int, c_vid: int, c_aud: int) -> None:
        super().__init__()
        self.spread = nn.Linear(cells, samples)
        self.channels = nn.Conv2d(c_vid, c_aud, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.channels(self.spread(x.flatten(3)))


class VideoContext(nn.Module):
    """Video context embedding: frames uint8 (B, T, H, W, 3) -> (B, channels, T * samples per frame).

    size: height and width of the frames, at least 2 ** depth. Raises ValueError for smaller ones.
    """

    def __init__(
        self, config: VideoContextConfig, size: tuple[int, int], samples: int, channels: int
    ) -> None:
        super().__init__()
        self.config = config
        cells = cell_count(size, config.depth)
        widths = [3] + [config.width] * config.depth
        self.blocks = nn.Sequential(*(ResidualBlock3d(a, b) for a, b in pairwise(widths)))
        self.attention = FrameAttention(config.width, config.attention) if config.attention else None
        self.to_samples = CellsToSamples(cells, samples, config.width, channels)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.blocks(pixels(frames))
        if self.attention is not None:
            x = self.attention(x)
        return self.to_samples(x).flatten(2)


def pixels(frames: Tensor) -> Tensor:
    """Scale uint8 (B, T, H, W, 3) to float32 (B, 3, T, H, W) in [-1, 1]."""
    return frames.permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def cell_count(size: tuple[int, int], halvings: int) -> int:
    """Cells of an image after halving both sides `halvings` times. Raises ValueError if none would be left."""
    if min(size) < 2**halvings:
        raise ValueError(f"pictures of {size[1]} x {size[0]} are too small to be halved {halvings} times")
    height, width = size
    for _ in range(halvings):
        height, width = -(-height // 2), -(-width // 2)
    return height * width
