"""Transformer blocks shared by the three MaskVAT variants (2407.10387, section 3).

    AdaLN     self-attention and feed-forward, every layer norm modulated frame by frame by the video
    Seq2Seq   self-attention, cross-attention to the encoded video, feed-forward
    Hybrid    both

The conditioning of a block (modulation, keys and values) depends on the video alone: its `Conditioner` computes it
once per window, and every sampling step uses it again.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rotation = tuple[Tensor, Tensor]


class Conditioning(NamedTuple):
    """Video conditioning of one block. Parts are None if the variant lacks that path."""

    modulation: Tensor | None
    """Shift, scale and gate of both branches: (B, L, 6 * dim)."""
    keys: Tensor | None
    """Rotated keys: (B, heads, L, dim / heads)."""
    values: Tensor | None


class Conditioner(nn.Module):
    """Video sequence (B, L, dim) -> conditioning of one block."""

    def __init__(self, dim: int, heads: int, *, modulated: bool, crossed: bool) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = zeroed(nn.Linear(dim, 6 * dim)) if modulated else None
        self.kv = nn.Linear(dim, 2 * dim) if crossed else None

    def forward(self, video: Tensor, rotation: Rotation) -> Conditioning:
        modulation = None if self.modulation is None else self.modulation(video)
        if self.kv is None:
            return Conditioning(modulation, None, None)
        keys, values = self.kv(video).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return Conditioning(modulation, rotate(keys, *rotation).to(values.dtype), values)


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions, for any length."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, *rotation).to(v.dtype), rotate(k, *rotation).to(v.dtype)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Attention of codec frames to the video. Both carry rotary positions of the same grid, so a frame can attend to
    its own time step."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.out = zeroed(nn.Linear(dim, dim))

    def forward(self, x: Tensor, conditioning: Conditioning, rotation: Rotation) -> Tensor:
        assert conditioning.keys is not None and conditioning.values is not None
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q = rotate(q, *rotation).to(conditioning.values.dtype)
        attended = F.scaled_dot_product_attention(q, conditioning.keys, conditioning.values)
        return self.out(attended.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Self-attention, cross-attention if `crossed`, and feed-forward; with AdaLN-Zero if `modulated`:
    x + gate * f(norm(x) * (1 + scale) + shift). With neither it is a plain encoder block."""

    def __init__(self, dim: int, heads: int, *, modulated: bool = False, crossed: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=not modulated)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=not modulated)
        self.attention = Attention(dim, heads)
        self.norm_cross = nn.LayerNorm(dim) if crossed else None
        self.cross = CrossAttention(dim, heads) if crossed else None
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim)
        )

    def forward(self, x: Tensor, rotation: Rotation, conditioning: Conditioning | None = None) -> Tensor:
        if conditioning is None or conditioning.modulation is None:
            x = x + self.attention(self.norm1(x), rotation)
            x = self._attend_video(x, conditioning, rotation)
            return x + self.mlp(self.norm2(x))
        shift1, scale1, gate1, shift2, scale2, gate2 = conditioning.modulation.chunk(6, -1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1, rotation)
        x = self._attend_video(x, conditioning, rotation)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)

    def _attend_video(self, x: Tensor, conditioning: Conditioning | None, rotation: Rotation) -> Tensor:
        if self.cross is None or self.norm_cross is None or conditioning is None:
            return x
        return x + self.cross(self.norm_cross(x), conditioning, rotation)


def rotation_angles(length: int, head_dim: int, device: torch.device) -> Rotation:
    """Cosines and sines of the rotary angles, float (length, head_dim / 2) each."""
    rates = 10_000 ** (-torch.arange(0, head_dim, 2, device=device) / head_dim)
    angles = torch.arange(length, device=device)[:, None] * rates
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of x (..., L, D)."""
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def zeroed(layer: nn.Linear) -> nn.Linear:
    """Set the weights of a layer to zero, so that its path starts without effect."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
