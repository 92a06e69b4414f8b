"""Transformer parts that the three MaskVAT variants share (2407.10387, section 3).

    AdaLN     self-attention and feed-forward, every layer norm modulated frame by frame by the video
    Seq2Seq   self-attention, cross-attention to the encoded video, feed-forward
    Hybrid    both

What the video does to a block (modulation, keys and values) depends on the video alone, so a `Conditioner` of its own
computes it once a window and every sampling step uses it again.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rotation = tuple[Tensor, Tensor]


class Influence(NamedTuple):
    """What the video does to one block. None where the variant has no such path."""

    modulation: Tensor | None
    """(B, L, 6 * dim): shift, scale and gate of both branches."""
    keys: Tensor | None
    """(B, heads, L, dim / heads), rotated."""
    values: Tensor | None


class Conditioner(nn.Module):
    """Video sequence (B, L, dim) -> its Influence on one block."""

    def __init__(self, dim: int, heads: int, *, modulated: bool, crossed: bool) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = zeroed(nn.Linear(dim, 6 * dim)) if modulated else None
        self.kv = nn.Linear(dim, 2 * dim) if crossed else None

    def forward(self, video: Tensor, rotation: Rotation) -> Influence:
        modulation = None if self.modulation is None else self.modulation(video)
        if self.kv is None:
            return Influence(modulation, None, None)
        keys, values = self.kv(video).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return Influence(modulation, rotate(keys, *rotation).to(values.dtype), values)


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions (any length, no table)."""

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
    """Attention of codec frames to the video. Both carry rotary positions of the same grid, so that a frame can
    look at its own moment."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.out = zeroed(nn.Linear(dim, dim))

    def forward(self, x: Tensor, influence: Influence, rotation: Rotation) -> Tensor:
        assert influence.keys is not None and influence.values is not None
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q = rotate(q, *rotation).to(influence.values.dtype)
        seen = F.scaled_dot_product_attention(q, influence.keys, influence.values)
        return self.out(seen.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Self-attention, cross-attention where `crossed`, feed-forward; modulated where `modulated` (AdaLN-Zero:
    x + gate * f(norm(x) * (1 + scale) + shift)). Neither of them: a plain encoder block."""

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

    def forward(self, x: Tensor, rotation: Rotation, influence: Influence | None = None) -> Tensor:
        if influence is None or influence.modulation is None:
            x = x + self.attention(self.norm1(x), rotation)
            x = self._look(x, influence, rotation)
            return x + self.mlp(self.norm2(x))
        shift1, scale1, gate1, shift2, scale2, gate2 = influence.modulation.chunk(6, -1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1, rotation)
        x = self._look(x, influence, rotation)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)

    def _look(self, x: Tensor, influence: Influence | None, rotation: Rotation) -> Tensor:
        if self.cross is None or self.norm_cross is None or influence is None:
            return x
        return x + self.cross(self.norm_cross(x), influence, rotation)


def rotation_angles(length: int, head_dim: int, device: torch.device) -> Rotation:
    """cos and sin of the rotary angles, float (length, head_dim / 2) each."""
    rates = 10_000 ** (-torch.arange(0, head_dim, 2, device=device) / head_dim)
    angles = torch.arange(length, device=device)[:, None] * rates
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of x (..., L, D)."""
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def zeroed(layer: nn.Linear) -> nn.Linear:
    """The layer with zero weights: the path it ends starts as if it were not there."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
