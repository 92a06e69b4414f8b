"""Visual network of Synchformer (2401.16423): features of motion for short segments of pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_models.mmaudio.config import SEGMENT, SEGMENT_STEP, SyncConfig

SIDE, PATCH, PAIR = 224, 16, 2
"""Pixels of a picture and of a patch on a side, and pictures of a patch."""
PLACES, TIMES = (SIDE // PATCH) ** 2, SEGMENT // PAIR
EPSILON = 1e-6


class PatchEmbedding(nn.Module):
    """Tokens of pairs of pictures: (B, 3, 16, 224, 224) -> (B, 8 * 196, D), ordered by time, row and column."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, dim, (PAIR, PATCH, PATCH), (PAIR, PATCH, PATCH))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.proj(pixels).flatten(2).mT


class DividedAttention(nn.Module):
    """Attention within groups of tokens; the class token, in front, belongs to every group and attends to all.

    over_time: the groups are the eight times of a place, else the 196 places of a time.
    """

    def __init__(self, dim: int, heads: int, over_time: bool) -> None:
        super().__init__()
        self.heads, self.over_time = heads, over_time
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attention of x, (B, 1 + 8 * 196, D)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(2, 0)
        q, k, v = qkv.transpose(2, 3)  # (B, heads, 1 + 1568, size)
        first = F.scaled_dot_product_attention(q[:, :, :1], k, v)
        keys, values = self._with_first(k), self._with_first(v)
        rest = F.scaled_dot_product_attention(self._groups(q[:, :, 1:]), keys, values)
        if self.over_time:
            rest = rest.transpose(2, 3)
        joined = torch.cat([first, rest.flatten(2, 3)], 2)
        return self.proj(joined.transpose(1, 2).flatten(2))

    def _groups(self, part: Tensor) -> Tensor:
        """Tokens by group: (B, heads, groups, tokens, size)."""
        by_time = part.unflatten(2, (TIMES, PLACES))
        return by_time.transpose(2, 3) if self.over_time else by_time

    def _with_first(self, part: Tensor) -> Tensor:
        groups = self._groups(part[:, :, 1:])
        first = part[:, :, None, :1].expand(-1, -1, groups.shape[2], -1, -1)
        return torch.cat([first, groups], 3)


class FeedForward(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class DividedBlock(nn.Module):
    """Transformer layer: attention over time, over space, and a feed-forward layer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim, EPSILON) for _ in range(3))
        self.attn = DividedAttention(dim, heads, over_time=False)
        self.timeattn = DividedAttention(dim, heads, over_time=True)
        self.mlp = FeedForward(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.timeattn(self.norm3(x))
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class SpatialSummary(nn.TransformerEncoderLayer):
    """One vector for the places of a time: (B, places, D) -> (B, D), the class token after one layer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(
            dim, heads, 4 * dim, dropout=0.0, activation=F.gelu, layer_norm_eps=EPSILON, batch_first=True,
            norm_first=True,
        )  # fmt: skip
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1))[:, 0]


class SynchformerVisual(nn.Module):
    """Motion features of pictures. Parameter names are the published ones without `vfeat_extractor.`."""

    def __init__(self, config: SyncConfig) -> None:
        super().__init__()
        dim = config.dim
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + PLACES, dim))
        self.temp_embed = nn.Parameter(torch.zeros(1, TIMES, dim))
        self.patch_embed_3d = PatchEmbedding(dim)
        self.blocks = nn.ModuleList(DividedBlock(dim, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(dim, EPSILON)
        self.spatial_attn_agg = SpatialSummary(dim, config.heads)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features (B, 8 * segments, D) of pictures in [-1, 1], float (B, T, 3, 224, 224), 25 a second.

        Segments have 16 pictures and begin every 8; pictures after the last whole one are not looked at. Raises
        ValueError for pictures of another size, or fewer than 16.
        """
        if pixels.shape[2:] != (3, SIDE, SIDE) or pixels.shape[1] < SEGMENT:
            raise ValueError(
                f"expected at least {SEGMENT} pictures of {SIDE}x{SIDE} pixels, got {tuple(pixels.shape)}"
            )
        segments = pixels.unfold(1, SEGMENT, SEGMENT_STEP)  # (B, segments, 3, 224, 224, 16)
        # One at a time: attention over all tokens of a long clip would take gigabytes.
        features = [self.of_segment(segments[:, k].movedim(-1, 2)) for k in range(segments.shape[1])]
        return torch.cat(features, 1)

    def tokens(self, pixels: Tensor) -> Tensor:
        """Class token and patches with their positions, (B, 1 + 8 * 196, D), of (B, 3, 16, 224, 224)."""
        first = self.cls_token + self.pos_embed[:, :1]
        places = self.pos_embed[:, None, 1:] + self.temp_embed[:, :, None]
        patches = self.patch_embed_3d(pixels) + places.flatten(1, 2)
        return torch.cat([first.expand(len(pixels), -1, -1), patches], 1)

    def of_segment(self, pixels: Tensor) -> Tensor:
        """Features (B, 8, D) of one segment, (B, 3, 16, 224, 224)."""
        x = self.tokens(pixels)
        for block in self.blocks:
            x = block(x)
        by_time = self.norm(x[:, 1:]).unflatten(1, (TIMES, PLACES))
        return self.spatial_attn_agg(by_time.flatten(0, 1)).unflatten(0, (-1, TIMES))
