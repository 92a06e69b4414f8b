"""The MaskVAT transformer: hidden codec tokens in, logits over every codebook out (2407.10387, section 3).

AdaLN variant: a bidirectional transformer over codec frames whose layer norms are modulated, frame by frame, by
the video sequence stretched to the codec's rate (DiT's AdaLN-Zero with a time axis).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_models import grid


@dataclass(frozen=True)
class MaskVATConfig:
    """Sizes. The paper publishes none; `mini` is what two CPU cores train in half an hour."""

    n_codebooks: int = 4
    codebook_size: int = 512
    semantic_dim: int = 128
    sync_dim: int = 128
    dim: int = 256
    depth: int = 6
    heads: int = 4
    dropout: float = 0.0


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions (any length, no table)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, *rotation).to(v.dtype), rotate(k, *rotation).to(v.dtype)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def rotation_angles(length: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of the rotary angles, float (length, head_dim / 2) each."""
    rates = 10_000 ** (-torch.arange(0, head_dim, 2, device=device) / head_dim)
    angles = torch.arange(length, device=device)[:, None] * rates
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of x (..., L, D)."""
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class AdaLNBlock(nn.Module):
    """Attention and feed-forward, each modulated per time step: x + gate * f(norm(x) * (1 + scale) + shift)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False)
        self.attention = Attention(dim, heads)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim)
        )
        self.modulation = nn.Linear(dim, 6 * dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, modulation: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, -1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1, rotation)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class MaskVAT(nn.Module):
    """Codes (B, K, L) with hidden ones set to `codebook_size`, condition (B, L, dim) -> logits (B, K, L, V)."""

    def __init__(self, config: MaskVATConfig) -> None:
        super().__init__()
        self.config = config
        dim, levels, size = config.dim, config.n_codebooks, config.codebook_size
        self.embed = nn.ModuleList(nn.Embedding(size + 1, dim) for _ in range(levels))
        self.semantic_mlp = _mlp(config.semantic_dim, dim)
        self.sync_mlp = _mlp(config.sync_dim, dim)
        self.fuse = nn.Sequential(nn.Linear(2 * dim, dim), nn.SiLU())
        self.null = nn.Parameter(torch.zeros(dim))
        self.blocks = nn.ModuleList(AdaLNBlock(dim, config.heads) for _ in range(config.depth))
        self.final_norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.final_modulation = nn.Linear(dim, 2 * dim)
        nn.init.zeros_(self.final_modulation.weight)
        nn.init.zeros_(self.final_modulation.bias)
        self.heads = nn.Linear(dim, levels * size)
        for weight in self.embed.parameters():
            nn.init.normal_(weight, std=0.5 / levels)

    @property
    def mask_id(self) -> int:
        """The id that stands for a hidden code in every codebook."""
        return self.config.codebook_size

    def condition(self, semantic: Tensor, sync: Tensor, length: int, keep: Tensor | None = None) -> Tensor:
        """Video sequence at the codec's rate: (B, length, dim).

        semantic (B, T1, D1) and sync (B, T2, D2) go through an MLP each, are stretched to `length` and joined.
        keep: bool (B,), False drops the row's condition (classifier-free guidance).
        """
        streams = [_stretch(self.semantic_mlp(semantic), length), _stretch(self.sync_mlp(sync), length)]
        fused = self.fuse(torch.cat(streams, -1))
        return fused if keep is None else torch.where(keep[:, None, None], fused, self.null.to(fused.dtype))

    def null_condition(self, batch: int, length: int) -> Tensor:
        """The condition that says nothing: (batch, length, dim)."""
        return self.null.expand(batch, length, -1)

    def modulations(self, condition: Tensor) -> list[Tensor]:
        """What the condition does to each block, and to the output. Does not depend on the codes: computed once
        per window, reused by every sampling step."""
        layers = [block.get_submodule("modulation") for block in self.blocks] + [self.final_modulation]
        return [layer(condition) for layer in layers]

    def forward(self, codes: Tensor, modulations: list[Tensor]) -> Tensor:
        x = torch.stack([table(codes[:, level]) for level, table in enumerate(self.embed)]).sum(0)
        head_dim = self.config.dim // self.config.heads
        rotation = rotation_angles(codes.shape[-1], head_dim, codes.device)
        for block, modulation in zip(self.blocks, modulations, strict=False):
            x = block(x, modulation, rotation)
        shift, scale = modulations[-1].chunk(2, -1)
        logits = self.heads(self.final_norm(x) * (1 + scale) + shift)
        return logits.unflatten(-1, (self.config.n_codebooks, -1)).transpose(1, 2)


def _mlp(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(inputs), nn.Linear(inputs, outputs), nn.GELU(), nn.Linear(outputs, outputs)
    )


def _stretch(sequence: Tensor, length: int) -> Tensor:
    """Linear interpolation of (B, T, D) to (B, length, D), cell centres matched."""
    position = torch.from_numpy(grid.resample_index(length, sequence.shape[1])).to(sequence.device)
    low = position.floor().long()
    high = (low + 1).clamp_max(sequence.shape[1] - 1)
    weight = (position - low).to(sequence.dtype)[:, None]
    return sequence[:, low] * (1 - weight) + sequence[:, high] * weight
