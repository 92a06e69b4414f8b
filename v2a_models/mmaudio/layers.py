"""Layers of the flow transformer. Sequences are (B, T, channels)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH_MULTIPLE = 256
ROTARY_BASE = 10_000.0


class TimeConv(nn.Conv1d):
    """Convolution over time, of odd kernel, that keeps the length: (B, T, inputs) -> (B, T, outputs)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mT).mT


def mixing(inputs: int, outputs: int, kernel: int, bias: bool = True) -> nn.Module:
    """A linear layer for a kernel of 1, else a convolution over time."""
    return nn.Linear(inputs, outputs, bias) if kernel == 1 else TimeConv(inputs, outputs, kernel, bias)


class GatedMLP(nn.Module):
    """Gated feed-forward layer, w2(silu(w1 x) * w3 x), of layers over `kernel` positions without bias."""

    def __init__(self, dim: int, kernel: int = 1) -> None:
        super().__init__()
        wide = feed_forward_width(dim)
        self.w1, self.w2, self.w3 = (
            mixing(*sizes, kernel, bias=False) for sizes in ((dim, wide), (wide, dim), (dim, wide))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


def feed_forward_width(dim: int) -> int:
    """Width of a feed-forward layer: two thirds of four times `dim`, rounded up to a multiple of 256."""
    return -(-int(2 * 4 * dim / 3) // WIDTH_MULTIPLE) * WIDTH_MULTIPLE


class HeadProjection(nn.Module):
    """Queries, keys and values of all heads, queries and keys normalised and rotated.

    An output channel of `qkv` is head * 3 * size + channel * 3 + (0 query, 1 key, 2 value): not three blocks.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm, self.k_norm = nn.RMSNorm(dim // heads), nn.RMSNorm(dim // heads)

    def forward(self, x: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Each (B, heads, T, size). rotation: of `rotation_table` for T positions; None for no positions."""
        q, k, v = self.qkv(x).unflatten(-1, (self.heads, -1, 3)).transpose(1, 2).unbind(-1)
        q, k = self.q_norm(q.float()), self.k_norm(k.float())
        if rotation is not None:
            q, k = rotated(q, rotation), rotated(k, rotation)
        return q, k, v


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of all positions to all, (B, heads, T, size) -> (B, T, heads * size)."""
    return F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v).transpose(1, 2).flatten(2)


def rotation_table(positions: Tensor, size: int) -> Tensor:
    """Cosine and sine of rotary angles: float32 (2, T, size / 2). positions: float32 (T,)."""
    steps = torch.arange(0, size, 2, dtype=torch.float32, device=positions.device) / size
    angles = positions[:, None] * (1.0 / ROTARY_BASE**steps)
    return torch.stack([angles.cos(), angles.sin()])


def rotated(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate neighbouring channels of x, (..., T, size), in float32."""
    cos, sin = rotation
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights, then x * (1 + scale) + shift."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


class TimeEmbedding(nn.Module):
    """Embedding of flow times: float32 (B,) in [0, 1] -> (B, 1, dim)."""

    frequencies: Tensor

    def __init__(self, dim: int, version: int) -> None:
        super().__init__()
        n, top = (256, 1.0) if version == 1 else (dim, 10_000.0)
        inverse = 1.0 / 10_000 ** (torch.arange(0, n, 2, dtype=torch.float32) / n)
        self.register_buffer("frequencies", inverse * top, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(n, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, times: Tensor) -> Tensor:
        angles = times.float()[:, None] * self.frequencies
        return self.mlp(torch.cat([angles.cos(), angles.sin()], -1))[:, None]


def activation(version: int) -> nn.Module:
    """Activation of the audio and sync projections."""
    return nn.SELU() if version == 1 else nn.SiLU()


def projected(inputs: int, dim: int, kernel: int, version: int) -> Any:
    """Projection of CLIP or text features: linear layer and gated MLP over `kernel` positions."""
    between = [] if version == 1 else [nn.SiLU()]
    return nn.Sequential(nn.Linear(inputs, dim), *between, GatedMLP(dim, kernel))
