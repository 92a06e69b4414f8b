"""VATT Audio: masked codec tokens and a condition in, logits over every codebook out (2411.05679, section 3).

    [condition tokens | summed codebook embeddings] -> layers with a separate feed-forward for each of the two, then
    layers that share it -> a linear layer per codebook over the sound frames

Attention is bidirectional and uses ALiBi instead of positions, so a model trained on short windows takes any length.
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
"""Ways to join the condition: as a prefix of the sound, or by cross-attention in every layer (VATT-Cross-Attn)."""


@dataclass(frozen=True)
class AudioConfig:
    """Sizes of a model. The defaults are the paper's."""

    n_codebooks: int = 4
    """Modelled codebooks: all of the codec's, or only its first ones."""
    codebook_size: int = 2048
    condition_dim: int = 2048
    """Width of the condition tokens: the language model's, or that of the visual features (VATT-V)."""
    sync_dim: int = 0
    """Width of the synchrony features (S3D), added to the sound frames of the same time. Ours: the paper's 5 frames a
    second cannot time an onset. 0 for the paper's model."""
    dim: int = 1024
    separate: int = 12
    """Layers with a separate feed-forward for each modality."""
    shared: int = 12
    """Layers after those, with one feed-forward for both modalities."""
    heads: int = 16
    dropout: float = 0.1
    join: str = "prefix"
    modulated: int = 0
    """Number of visual tokens at the start of the condition. They and the text tokens after them are averaged, joined
    with sync features, and modulate the norms of every layer frame by frame (AdaLN, as in MaskVAT). Ours: it conditions
    every frame without attention; alone it does not suffice (docs/experiments.md, VATT). 0 for the paper's model."""

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
"""Model sizes: `large` is the paper's; `mini`, which two CPU cores train, and `base` are ours."""


class Condition(NamedTuple):
    """Condition of the sound, ready for the layers. Computed once per window and used in every sampling step."""

    tokens: Tensor
    """Projected condition tokens: (B, C, dim)."""
    valid: Tensor
    """Mask of the tokens, bool (B, C): False for padding, which is not attended to."""
    timing: Tensor | None
    """Embedded sync features, (B, L, dim), added to the sound frames; None without sync features."""
    modulations: tuple[Tensor, ...] = ()
    """Shift, scale and gate of both branches of each layer, (B, L, 6 * dim); last, shift and scale of the output,
    (B, L, 2 * dim). Empty without modulation."""


class Layer(nn.Module):
    """Pre-norm layer: self-attention with a bias, cross-attention if `crossed`, feed-forward."""

    def __init__(self, dim: int, heads: int, dropout: float, *, separate: bool, crossed: bool) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.sound = _feed_forward(dim, dropout)
        self.other = _feed_forward(dim, dropout) if separate else None
        """Feed-forward of the condition tokens; None if they share that of the sound."""
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
        """x: (B, n_condition + L, dim). modulation: (B, L, 6 * dim), for the sound frames."""
        parts = () if modulation is None else modulation.chunk(6, -1)
        normed = _modulated(self.norm1(x), n_condition, parts[:2])
        q, k, v = self.qkv(normed).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = self._drop(self.out(_attend(q, k, v, bias.to(q.dtype))))
        x = x + _gated(attended, n_condition, parts[2:3])
        if self.q is not None:
            x = x + self._drop(self._attend_condition(x, condition))
        normed = _modulated(self.norm2(x), n_condition, parts[3:5])
        if self.other is None or not n_condition:
            fed = self.sound(normed)
        else:
            fed = torch.cat([self.other(normed[:, :n_condition]), self.sound(normed[:, n_condition:])], 1)
        return x + _gated(fed, n_condition, parts[5:])

    def _attend_condition(self, x: Tensor, condition: Condition) -> Tensor:
        assert self.norm_cross is not None and self.kv is not None and self.q is not None
        assert self.out_cross is not None
        q = self.q(self.norm_cross(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(condition.tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out_cross(_attend(q, k, v, condition.valid[:, None, None]))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class VATTAudio(nn.Module):
    """Codes (B, K, L), hidden ones set to `mask_id`, with a Condition -> logits (B, K, L, V)."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config
        dim, codebooks, size = config.dim, config.n_codebooks, config.codebook_size
        crossed = config.join == "cross"
        self.embed = nn.ModuleList(nn.Embedding(size + 1, dim) for _ in range(codebooks))
        # Hidden states of language models have a few huge entries, which would dominate without the norm.
        self.project = nn.Sequential(nn.LayerNorm(config.condition_dim), nn.Linear(config.condition_dim, dim))
        self.sync = _embedder(config.sync_dim, dim) if config.sync_dim else None
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
        self.summary = _embedder(2 * config.condition_dim, dim) if config.modulated else None
        self.fuse = nn.Linear(dim * (2 if config.sync_dim else 1), dim) if config.modulated else None
        self.modulations = nn.ModuleList(
            zeroed(nn.Linear(dim, 6 * dim if at < depth else 2 * dim)) for at in range(depth + 1)
        )
        self.heads = nn.Linear(dim, codebooks * size)
        """Output layers of all codebooks, side by side."""
        self.recompute = False
        """Activation checkpointing: recompute each layer's activations in the backward pass."""
        for weight in self.embed.parameters():
            nn.init.normal_(weight, std=0.5 / codebooks)

    @property
    def mask_id(self) -> int:
        """Token id of a hidden code, in every codebook."""
        return self.config.codebook_size

    @property
    def units(self) -> list[nn.Module]:
        """Repeated parts, along which a sharded trainer cuts the model."""
        return list(self.layers)

    def condition(
        self,
        tokens: Tensor,
        valid: Tensor,
        sync: Tensor | None,
        length: int,
        keep: Tensor | None = None,
    ) -> Condition:
        """Condition of B windows from tokens (B, C, condition_dim), with mask `valid` (bool, B x C), and sync features
        (B, T, sync_dim), stretched to `length`.

        keep: bool (B,), False drops the row's condition (classifier-free guidance). Raises ValueError for missing
        features.
        """
        if keep is not None:
            tokens = torch.where(keep[:, None, None], tokens, self.null.to(tokens.dtype))
        timing = None
        if self.sync is not None:
            if sync is None:
                raise ValueError("this model needs sync features")
            timing = stretch(self.sync(sync), length)
            if keep is not None:
                timing = timing * keep[:, None, None]
        return self._condition(tokens, valid, timing, length)

    def null_condition(self, like: Condition) -> Condition:
        """Null condition of classifier-free guidance, with the shape of `like`."""
        rows, count, _ = like.tokens.shape
        tokens = self.null.to(like.tokens.dtype).expand(rows, count, -1)
        timing = None if like.timing is None else torch.zeros_like(like.timing)
        # All frames are equal: compute one.
        null = self._condition(tokens, like.valid, None if timing is None else timing[:, :1], 1)
        modulations = (
            one.expand(-1, other.shape[1], -1)
            for one, other in zip(null.modulations, like.modulations, strict=True)
        )
        return null._replace(timing=timing, modulations=tuple(modulations))

    def summarised(self, tokens: Tensor, valid: Tensor) -> Tensor:
        """Summary (B, dim) of visual and text tokens (B, C, condition_dim) that modulates the layers."""
        assert self.summary is not None
        first = self.config.modulated
        visual = _mean(tokens[:, :first], valid[:, :first])
        text = _mean(tokens[:, first:], valid[:, first:])
        return self.summary(torch.cat([visual, text], -1))

    def _condition(self, tokens: Tensor, valid: Tensor, timing: Tensor | None, length: int) -> Condition:
        modulations: tuple[Tensor, ...] = ()
        if self.summary is not None and self.fuse is not None:
            # The summary holds for all frames.
            summary = self.summarised(tokens, valid)[:, None].expand(-1, length, -1)
            frames = F.silu(self.fuse(summary if timing is None else torch.cat([summary, timing], -1)))
            modulations = tuple(layer(frames) for layer in self.modulations)
        return Condition(self.project(tokens), valid, timing, modulations)

    def forward(self, codes: Tensor, condition: Condition) -> Tensor:
        x = torch.stack([table(codes[:, k]) for k, table in enumerate(self.embed)]).sum(0)
        if condition.timing is not None:
            x = x + condition.timing
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
    """Attention bias, float32 (heads, N, N) with N = n_condition + n_frames: -slope * distance, in both directions
    (ALiBi, 2108.12409; slopes 2^(-8 h / heads) for h = 1..heads).

    Distances count within the condition and within the sound, but are 0 between the two: a word concerns the whole
    window, long or short. The paper does not say; this is our choice.
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
    """Config of one of `SIZES`; `sizes` overrides any field.

    Raises ValueError for an unknown size or field, listing the choices.
    """
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}: choose one of {list(SIZES)}")
    known = sorted(AudioConfig.__dataclass_fields__)
    if unknown := sorted(set(sizes) - set(known)):
        raise ValueError(f"unknown model options {unknown}; known: {known}")
    return replace(AudioConfig(**SIZES[size]), **sizes)


def _modulated(x: Tensor, n_condition: int, by: Sequence[Tensor]) -> Tensor:
    """Shift and scale the sound frames x[:, n_condition:] by a pair, if there is one."""
    if not by:
        return x
    shift, scale = by
    return _behind(x, n_condition, x[:, n_condition:] * (1 + scale) + shift)


def _gated(x: Tensor, n_condition: int, by: Sequence[Tensor]) -> Tensor:
    """Multiply the sound frames by a gate, if there is one."""
    return _behind(x, n_condition, x[:, n_condition:] * by[0]) if by else x


def _behind(x: Tensor, n_condition: int, sound: Tensor) -> Tensor:
    """Replace the sound frames behind the condition tokens of x."""
    return torch.cat([x[:, :n_condition], sound], 1) if n_condition else sound


def _mean(tokens: Tensor, valid: Tensor) -> Tensor:
    """Mean (B, D) of the valid tokens (B, C, D); zeros if there are none."""
    weight = valid[..., None].to(tokens.dtype)
    return (tokens * weight).sum(1) / weight.sum(1).clamp_min(1)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def _feed_forward(dim: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim), nn.Dropout(dropout)
    )


def _embedder(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(inputs), nn.Linear(inputs, outputs), nn.GELU(), nn.Linear(outputs, outputs)
    )
