"""The MaskVAT transformers: masked codec tokens in, logits over every codebook out (2407.10387, section 3).

One family of three variants. All fuse the video's two feature streams at the codec's rate and predict all codebooks
of all frames at once; they differ in how the video reaches the codec frames (`VARIANTS`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from v2a_models import grid
from v2a_models.maskvat.blocks import Block, Conditioner, Conditioning, rotation_angles, zeroed


class Variant(NamedTuple):
    """Path of the video to the codec frames."""

    modulated: bool
    """The video modulates every layer norm, frame by frame."""
    crossed: bool
    """A transformer encodes the video first (learning to predict audio features), and every block attends to it."""


VARIANTS = {
    "adaln": Variant(modulated=True, crossed=False),
    "seq2seq": Variant(modulated=False, crossed=True),
    "hybrid": Variant(modulated=True, crossed=True),
}


@dataclass(frozen=True)
class MaskVATConfig:
    """Sizes of a model. The paper publishes none; see `SIZES`."""

    variant: str = "adaln"
    """Name of the variant: adaln, seq2seq or hybrid."""
    n_codebooks: int = 4
    """Modelled codebooks: all of the codec's, or only its first ones."""
    codebook_size: int = 512
    semantic_dim: int = 128
    """Width of the CLIP features; 0 to ignore them."""
    sync_dim: int = 128
    """Width of the S3D features; 0 to ignore them."""
    audio_dim: int = 128
    """Width of the audio features that the encoder learns to predict (seq2seq and hybrid); 0 for no such task."""
    dim: int = 256
    depth: int = 6
    heads: int = 4
    encoder_depth: int = 2
    """Blocks of the video encoder (seq2seq and hybrid)."""

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"unknown variant {self.variant!r}: choose one of {sorted(VARIANTS)}")
        if not self.semantic_dim and not self.sync_dim:
            raise ValueError("a model needs semantic or sync features: semantic_dim and sync_dim are both 0")
        if self.dim % (2 * self.heads):
            raise ValueError(f"dim must be a multiple of twice the heads, got {self.dim} and {self.heads}")


SIZES: dict[str, dict[str, Any]] = {
    "mini": dict(dim=256, depth=6, heads=4, encoder_depth=2),
    "base": dict(dim=768, depth=12, heads=12, encoder_depth=4),
    "large": dict(dim=1024, depth=24, heads=16, encoder_depth=6),
}
"""Model sizes; the paper publishes none. Two CPU cores train `mini`, `base` follows DiT-B, `large` DiT-L."""


class MaskVAT(nn.Module):
    """Codes (B, K, L), hidden ones set to `mask_id`, with video conditioning -> logits (B, K, L, V)."""

    def __init__(self, config: MaskVATConfig) -> None:
        super().__init__()
        self.config = config
        dim, heads, codebooks, size = config.dim, config.heads, config.n_codebooks, config.codebook_size
        variant = VARIANTS[config.variant]._asdict()
        self.embed = nn.ModuleList(nn.Embedding(size + 1, dim) for _ in range(codebooks))
        streams = [width for width in (config.semantic_dim, config.sync_dim) if width]
        self.semantic_mlp = _mlp(config.semantic_dim, dim) if config.semantic_dim else None
        self.sync_mlp = _mlp(config.sync_dim, dim) if config.sync_dim else None
        self.fuse = nn.Sequential(nn.Linear(len(streams) * dim, dim), nn.SiLU())
        self.null = nn.Parameter(torch.zeros(dim))
        encoder_depth = config.encoder_depth if variant["crossed"] else 0
        self.encoder = nn.ModuleList(Block(dim, heads) for _ in range(encoder_depth))
        self.encoder_norm = nn.LayerNorm(dim) if encoder_depth else nn.Identity()
        predicted = config.audio_dim if encoder_depth else 0
        self.audio_head = nn.Linear(dim, predicted) if predicted else None
        self.conditioners = nn.ModuleList(Conditioner(dim, heads, **variant) for _ in range(config.depth))
        self.blocks = nn.ModuleList(Block(dim, heads, **variant) for _ in range(config.depth))
        self.final_norm = nn.LayerNorm(dim, elementwise_affine=not variant["modulated"])
        self.final_modulation = zeroed(nn.Linear(dim, 2 * dim)) if variant["modulated"] else None
        self.heads = nn.Linear(dim, codebooks * size)
        self.recompute = False
        """Activation checkpointing: recompute each block's activations in the backward pass."""
        for weight in self.embed.parameters():
            nn.init.normal_(weight, std=0.5 / codebooks)

    @property
    def mask_id(self) -> int:
        """Token id of a hidden code, in every codebook."""
        return self.config.codebook_size

    @property
    def units(self) -> list[nn.Module]:
        """Repeated parts, along which a sharded trainer cuts the model."""
        return [*self.encoder, *self.conditioners, *self.blocks]

    def condition(
        self, semantic: Tensor | None, sync: Tensor | None, length: int, keep: Tensor | None = None
    ) -> Tensor:
        """Video sequence (B, length, dim) at the codec's rate, encoded in seq2seq and hybrid.

        semantic (B, T1, D1) and sync (B, T2, D2) pass an MLP each, are stretched to `length` and fused.
        keep: bool (B,), False drops the row's condition (classifier-free guidance). Raises ValueError for missing
        features.
        """
        streams = []
        for name, layer, features in (
            ("semantic", self.semantic_mlp, semantic),
            ("sync", self.sync_mlp, sync),
        ):
            if layer is not None:
                if features is None:
                    raise ValueError(f"this model needs {name} features")
                streams.append(stretch(layer(features), length))
        fused = self.fuse(torch.cat(streams, -1))
        if keep is not None:
            fused = torch.where(keep[:, None, None], fused, self.null.to(fused.dtype))
        return self._encode(fused)

    def null_condition(self, batch: int, length: int) -> Tensor:
        """Null condition of classifier-free guidance: (batch, length, dim)."""
        # All rows are equal: encode one.
        return self._encode(self.null.expand(1, length, -1)).expand(batch, -1, -1)

    def _encode(self, video: Tensor) -> Tensor:
        rotation = self._rotation(video)
        for block in self.encoder:
            video = self._run(block, video, rotation)
        return self.encoder_norm(video)

    def conditionings(self, condition: Tensor) -> list[Conditioning]:
        """Conditioning of each block and, last, of the output. Computed once per window."""
        rotation = self._rotation(condition)
        every = [conditioner(condition, rotation) for conditioner in self.conditioners]
        last = None if self.final_modulation is None else self.final_modulation(condition)
        return [*every, Conditioning(last, None, None)]

    def forward(self, codes: Tensor, conditionings: list[Conditioning]) -> Tensor:
        x = torch.stack([table(codes[:, k]) for k, table in enumerate(self.embed)]).sum(0)
        rotation = self._rotation(x)
        for block, conditioning in zip(self.blocks, conditionings[:-1], strict=True):
            x = self._run(block, x, rotation, conditioning)
        x, last = self.final_norm(x), conditionings[-1].modulation
        if last is not None:
            shift, scale = last.chunk(2, -1)
            x = x * (1 + scale) + shift
        return self.heads(x).unflatten(-1, (self.config.n_codebooks, -1)).transpose(1, 2)

    def _rotation(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return rotation_angles(x.shape[1], self.config.dim // self.config.heads, x.device)

    def _run(self, block: nn.Module, *inputs: Any) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)


def sized(variant: str, size: str, **sizes: Any) -> MaskVATConfig:
    """Config of a variant at one of `SIZES`; `sizes` overrides any field.

    Raises ValueError for an unknown variant, size or field, listing the choices.
    """
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}: choose one of {list(SIZES)}")
    known = sorted(MaskVATConfig.__dataclass_fields__)
    if unknown := sorted(set(sizes) - set(known)):
        raise ValueError(f"unknown model options {unknown}; known: {known}")
    return replace(MaskVATConfig(variant=variant, **SIZES[size]), **sizes)


def _mlp(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(inputs), nn.Linear(inputs, outputs), nn.GELU(), nn.Linear(outputs, outputs)
    )


def stretch(sequence: Tensor, length: int) -> Tensor:
    """Interpolate (B, T, D) linearly to (B, length, D), cell centres matched."""
    position = torch.from_numpy(grid.resample_index(length, sequence.shape[1])).to(sequence.device)
    low = position.floor().long()
    high = (low + 1).clamp_max(sequence.shape[1] - 1)
    weight = (position - low).to(sequence.dtype)[:, None]
    return sequence[:, low] * (1 - weight) + sequence[:, high] * weight
