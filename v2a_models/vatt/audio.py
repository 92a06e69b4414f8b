"""VATT Audio: hidden codec tokens and a condition in, logits over every codebook out (2411.05679, section 3).

    [condition tokens | sums of the codebooks' embeddings] -> layers whose feed-forward is separate for the two, then
    layers that share it -> a linear layer per codebook over the frames of sound

Attention goes both ways and carries ALiBi instead of positions, so any length can follow a training on short windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from v2a_models.maskvat.blocks import zeroed
from v2a_models.maskvat.model import stretch

JOINS = ("prefix", "cross")
"""How the condition reaches the sound: in front of it, or by cross-attention between the blocks (VATT-Cross-Attn)."""


@dataclass(frozen=True)
class AudioConfig:
    """Sizes of one model; the defaults are the paper's."""

    n_codebooks: int = 4
    """Levels that are modelled: all of the codec's, or only its first ones."""
    codebook_size: int = 2048
    condition_dim: int = 2048
    """Of the condition's tokens: the language model's width, or that of the visual features (VATT-V)."""
    sync_dim: int = 0
    """Of features that say when (S3D), added to the frames of sound they belong to. Ours, not the paper's, whose 5
    pictures a second cannot time an onset; 0 for the paper's model."""
    dim: int = 1024
    separate: int = 12
    """Layers with a feed-forward of its own for each modality."""
    shared: int = 12
    """Layers with one for both, after those."""
    heads: int = 16
    dropout: float = 0.1
    join: str = "prefix"
    modulated: int = 0
    """So many first tokens of the condition (the pictures') and the rest (the text's) are averaged, joined with sync,
    and modulate the norms of every layer frame by frame (adaLN, as in MaskVAT). Ours, so that every frame is told
    without looking; alone it does not suffice (docs/experiments.md, VATT). 0 for the paper's model."""

    def __post_init__(self) -> None:
        if self.join not in JOINS:
            raise ValueError(f"unknown join {self.join!r}: choose one of {', '.join(JOINS)}")
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of the heads, got {self.dim} and {self.heads}")
        if self.separate + self.shared < 1:
            raise ValueError("a model needs at least one layer: separate and shared are both 0")


SIZES: dict[str, dict[str, Any]] = {
    "mini": dict(dim=256, separate=2, shared=2, heads=4, dropout=0.0),
    "base": dict(dim=768, separate=6, shared=6, heads=12),
    "large": dict(dim=1024, separate=12, shared=12, heads=16),
}
"""`large` is the paper's; `mini` is what two CPU cores train, `base` lies between (both ours)."""


class Condition(NamedTuple):
    """What the sound is to follow, ready for the layers. Made once a window, used at every step."""

    tokens: Tensor
    """(B, C, dim)."""
    valid: Tensor
    """bool (B, C): False for padding, which nothing looks at."""
    moments: Tensor | None
    """(B, L, dim): added to the frames of sound; None without sync features."""
    modulations: tuple[Tensor, ...] = ()
    """Of each layer (B, L, 6 * dim): shift, scale and gate of both branches; last, of the output (B, L, 2 * dim).
    Empty where nothing is modulated."""


class Layer(nn.Module):
    """Self-attention with a bias, cross-attention where `crossed`, feed-forward; norms before each."""

    def __init__(self, dim: int, heads: int, dropout: float, *, separate: bool, crossed: bool) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.sound = _feed_forward(dim, dropout)
        self.other = _feed_forward(dim, dropout) if separate else None
        """Of the condition's tokens, where they have one of their own."""
        self.norm_cross = nn.LayerNorm(dim) if crossed else None
        self.q = nn.Linear(dim, dim) if crossed else None
        self.kv = nn.Linear(dim, 2 * dim) if crossed else None
        self.out_cross = nn.Linear(dim, dim) if crossed else None

    def forward(
        self,
        x: Tensor,
        bias: Tensor,
        n_condition: int,
        condition: Condition,
        modulation: Tensor | None = None,
    ) -> Tensor:
        """x (B, n_condition + L, dim); modulation (B, L, 6 * dim) of the frames of sound."""
        heard = () if modulation is None else modulation.chunk(6, -1)
        seen = _modulated(self.norm1(x), n_condition, heard[:2])
        q, k, v = self.qkv(seen).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = self._drop(self.out(_attend(q, k, v, bias.to(q.dtype))))
        x = x + _gated(attended, n_condition, heard[2:3])
        if self.q is not None:
            x = x + self._drop(self._look(x, condition))
        seen = _modulated(self.norm2(x), n_condition, heard[3:5])
        if self.other is None or not n_condition:
            fed = self.sound(seen)
        else:
            fed = torch.cat([self.other(seen[:, :n_condition]), self.sound(seen[:, n_condition:])], 1)
        return x + _gated(fed, n_condition, heard[5:])

    def _look(self, x: Tensor, condition: Condition) -> Tensor:
        assert self.norm_cross is not None and self.kv is not None and self.q is not None
        assert self.out_cross is not None
        q = self.q(self.norm_cross(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(condition.tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out_cross(_attend(q, k, v, condition.valid[:, None, None]))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class VATTAudio(nn.Module):
    """Codes (B, K, L), hidden ones set to `mask_id`, under a Condition -> logits (B, K, L, V)."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config
        dim, levels, size = config.dim, config.n_codebooks, config.codebook_size
        crossed = config.join == "cross"
        self.embed = nn.ModuleList(nn.Embedding(size + 1, dim) for _ in range(levels))
        # Hidden states of language models have a few huge entries; the norm keeps them from drowning the rest.
        self.project = nn.Sequential(nn.LayerNorm(config.condition_dim), nn.Linear(config.condition_dim, dim))
        self.sync = _moments(config.sync_dim, dim) if config.sync_dim else None
        self.null = nn.Parameter(torch.zeros(config.condition_dim).normal_(std=0.02))
        self.layers = nn.ModuleList(
            Layer(
                dim,
                config.heads,
                config.dropout,
                separate=at < config.separate and not crossed,
                crossed=crossed,
            )
            for at in range(config.separate + config.shared)
        )
        self.norm = nn.LayerNorm(dim)
        depth = config.separate + config.shared if config.modulated else -1
        self.summary = _moments(2 * config.condition_dim, dim) if config.modulated else None
        self.fuse = nn.Linear(dim * (2 if config.sync_dim else 1), dim) if config.modulated else None
        self.modulations = nn.ModuleList(
            zeroed(nn.Linear(dim, 6 * dim if at < depth else 2 * dim)) for at in range(depth + 1)
        )
        self.heads = nn.Linear(dim, levels * size)
        """A linear layer for each codebook, side by side."""
        self.recompute = False
        """Activation checkpointing: forget each layer's inner activations and compute them again going back."""
        for weight in self.embed.parameters():
            nn.init.normal_(weight, std=0.5 / levels)

    @property
    def mask_id(self) -> int:
        """The id that stands for a hidden code in every codebook."""
        return self.config.codebook_size

    @property
    def units(self) -> list[nn.Module]:
        """The repeated parts, by which a sharded trainer cuts the model."""
        return list(self.layers)

    def condition(
        self,
        tokens: Tensor,
        valid: Tensor,
        sync: Tensor | None,
        length: int,
        keep: Tensor | None = None,
    ) -> Condition:
        """The Condition of B windows: tokens (B, C, condition_dim), of which `valid` (bool, B x C) count, and sync
        features (B, T, sync_dim), stretched to `length`.

        keep: bool (B,); where False the row says nothing (classifier-free guidance). Raises ValueError if features
        that the model looks at are missing.
        """
        if keep is not None:
            tokens = torch.where(keep[:, None, None], tokens, self.null.to(tokens.dtype))
        moments = None
        if self.sync is not None:
            if sync is None:
                raise ValueError("this model needs sync features")
            moments = stretch(self.sync(sync), length)
            if keep is not None:
                moments = moments * keep[:, None, None]
        return self._condition(tokens, valid, moments, length)

    def null_condition(self, like: Condition) -> Condition:
        """The condition that says nothing, in the shape of another."""
        rows, count, _ = like.tokens.shape
        tokens = self.null.to(like.tokens.dtype).expand(rows, count, -1)
        moments = None if like.moments is None else torch.zeros_like(like.moments)
        # All its frames are told the same.
        made = self._condition(tokens, like.valid, None if moments is None else moments[:, :1], 1)
        modulations = (
            one.expand(-1, other.shape[1], -1)
            for one, other in zip(made.modulations, like.modulations, strict=True)
        )
        return made._replace(moments=moments, modulations=tuple(modulations))

    def _condition(self, tokens: Tensor, valid: Tensor, moments: Tensor | None, length: int) -> Condition:
        modulations: tuple[Tensor, ...] = ()
        if self.summary is not None and self.fuse is not None:
            first = self.config.modulated
            seen, told = (
                _mean(tokens[:, :first], valid[:, :first]),
                _mean(tokens[:, first:], valid[:, first:]),
            )
            # As many rows of frames as there are frames: what the text says holds for all of them.
            said = self.summary(torch.cat([seen, told], -1))[:, None].expand(-1, length, -1)
            frames = F.silu(self.fuse(said if moments is None else torch.cat([said, moments], -1)))
            modulations = tuple(layer(frames) for layer in self.modulations)
        return Condition(self.project(tokens), valid, moments, modulations)

    def forward(self, codes: Tensor, condition: Condition) -> Tensor:
        x = torch.stack([table(codes[:, level]) for level, table in enumerate(self.embed)]).sum(0)
        if condition.moments is not None:
            x = x + condition.moments
        n = 0
        if self.config.join == "prefix":
            n = condition.tokens.shape[1]
            x = torch.cat([condition.tokens.to(x.dtype), x], 1)
        bias = alibi(self.config.heads, n, codes.shape[-1], x.device)[None]
        if n and not bool(condition.valid.all()):
            hidden = F.pad(~condition.valid, (0, codes.shape[-1]))[:, None, None]
            bias = bias.masked_fill(hidden, torch.finfo(torch.float32).min)
        modulations = condition.modulations or (None,) * (len(self.layers) + 1)
        for layer, modulation in zip(self.layers, modulations[:-1], strict=True):
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(layer, x, bias, n, condition, modulation, use_reentrant=False)
            else:
                x = layer(x, bias, n, condition, modulation)
        last = modulations[-1]
        x = _modulated(self.norm(x[:, n:]), 0, () if last is None else last.chunk(2, -1))
        return self.heads(x).unflatten(-1, (self.config.n_codebooks, -1)).transpose(1, 2)


def alibi(heads: int, n_condition: int, n_frames: int, device: torch.device | str = "cpu") -> Tensor:
    """Bias of the attention, float32 (heads, N, N) with N = n_condition + n_frames: -slope * distance, both ways
    (ALiBi, 2108.12409; slopes 2^(-8 h / heads) for h = 1..heads).

    Distances count within the condition and within the sound. Between the two there is none: a word is about the
    whole window, and a long window must hear it as well as a short one. The paper does not say; this is our default.
    """
    slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1, device=device) / heads)
    at = torch.arange(max(n_condition, n_frames), device=device)
    away = (at[:, None] - at).abs().float()
    n = n_condition + n_frames
    distance = torch.zeros(n, n, device=device)
    distance[:n_condition, :n_condition] = away[:n_condition, :n_condition]
    distance[n_condition:, n_condition:] = away[:n_frames, :n_frames]
    return -slopes[:, None, None] * distance


def sized(size: str, **sizes: Any) -> AudioConfig:
    """The config of one of `SIZES`; `sizes` overrides any field.

    Raises ValueError for an unknown size or field, listing the choices.
    """
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}: choose one of {list(SIZES)}")
    known = sorted(AudioConfig.__dataclass_fields__)
    if unknown := sorted(set(sizes) - set(known)):
        raise ValueError(f"unknown model options {unknown}; known: {known}")
    return replace(AudioConfig(**SIZES[size]), **sizes)


def _modulated(x: Tensor, n_condition: int, by: Sequence[Tensor]) -> Tensor:
    """Frames of sound x[:, n_condition:] shifted and scaled by a pair, if there is one; all else as it is."""
    if not by:
        return x
    shift, scale = by
    return _behind(x, n_condition, x[:, n_condition:] * (1 + scale) + shift)


def _gated(x: Tensor, n_condition: int, by: Sequence[Tensor]) -> Tensor:
    """Frames of sound weighted by one gate, if there is one."""
    return _behind(x, n_condition, x[:, n_condition:] * by[0]) if by else x


def _behind(x: Tensor, n_condition: int, sound: Tensor) -> Tensor:
    """The condition's tokens as they are in x, and other frames of sound behind them."""
    return torch.cat([x[:, :n_condition], sound], 1) if n_condition else sound


def _mean(tokens: Tensor, valid: Tensor) -> Tensor:
    """Mean (B, D) of the tokens (B, C, D) that count; zeros of none."""
    weight = valid[..., None].to(tokens.dtype)
    return (tokens * weight).sum(1) / weight.sum(1).clamp_min(1)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def _feed_forward(dim: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim), nn.Dropout(dropout)
    )


def _moments(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(inputs), nn.Linear(inputs, outputs), nn.GELU(), nn.Linear(outputs, outputs)
    )
