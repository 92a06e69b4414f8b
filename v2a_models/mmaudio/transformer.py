"""Flow transformer: the velocity of noisy latents, given pictures and text (2412.15322, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_models.mmaudio.config import TEXT_LENGTH, FlowConfig
from v2a_models.mmaudio.layers import (
    GatedMLP,
    HeadProjection,
    TimeConv,
    TimeEmbedding,
    activation,
    attended,
    mixing,
    modulated,
    projected,
    rotation_table,
)

FEATURES_OF_A_SEGMENT = 8


@dataclass(frozen=True)
class Conditions:
    """Projected conditions of B clips, computed once for all steps."""

    clip: Tensor
    """(B, CLIP length, hidden)."""
    sync: Tensor
    """(B, latents, hidden): stretched to the latents' rate."""
    text: Tensor
    """(B, 77, hidden)."""
    clip_vector: Tensor
    """(B, 1, hidden): summary of the CLIP features."""
    text_vector: Tensor
    """(B, 1, hidden): summary of the text."""


class StreamBlock(nn.Module):
    """Transformer layer of one stream; its attention may span several streams.

    kernel: positions that its feed-forward layers see. silent: True for a stream that is not needed afterwards.
    """

    def __init__(self, dim: int, heads: int, kernel: int, silent: bool = False) -> None:
        super().__init__()
        self.silent = silent
        self.attn = HeadProjection(dim, heads)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, (2 if silent else 6) * dim))
        if not silent:
            self.linear1, self.ffn = mixing(dim, dim, kernel), GatedMLP(dim, kernel)

    def modulation(self, condition: Tensor) -> tuple[Tensor, ...]:
        """Shift and scale, and unless `silent` gate, shift, scale and gate: each like `condition`, (B, T or 1, dim)."""
        return self.adaLN_modulation(condition).chunk(2 if self.silent else 6, -1)

    def heads(
        self, x: Tensor, modulation: tuple[Tensor, ...], rotation: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x, (B, T, dim)."""
        return self.attn(modulated(x, *modulation[:2]), rotation)

    def after(self, x: Tensor, attention: Tensor, modulation: tuple[Tensor, ...]) -> Tensor:
        """The stream after attention (B, T, dim) and feed-forward layer; unchanged if `silent`."""
        if self.silent:
            return x
        gate, shift, scale, gate_after = modulation[2:]
        x = x + self.linear1(attention) * gate
        return x + self.ffn(modulated(x, shift, scale)) * gate_after

    def forward(self, x: Tensor, condition: Tensor, rotation: Tensor) -> Tensor:
        modulation = self.modulation(condition)
        return self.after(x, attended(*self.heads(x, modulation, rotation)), modulation)


class JointBlock(nn.Module):
    """Layer of three streams that attend to each other: latents, CLIP and text.

    last: CLIP and text are not needed after it.
    """

    def __init__(self, dim: int, heads: int, last: bool) -> None:
        super().__init__()
        self.latent_block = StreamBlock(dim, heads, 3)
        self.clip_block = StreamBlock(dim, heads, 3, silent=last)
        self.text_block = StreamBlock(dim, heads, 1, silent=last)

    def forward(
        self, streams: list[Tensor], summary: Tensor, extended: Tensor, rotations: tuple[Tensor, Tensor]
    ) -> list[Tensor]:
        """Streams (B, T, dim) of latents, CLIP and text, after the layer.

        summary: (B, 1, dim), condition of CLIP and text. extended: (B, latents, dim), that of the latents.
        """
        blocks = (self.latent_block, self.clip_block, self.text_block)
        conditions = (extended, summary, summary)
        modulations = [block.modulation(c) for block, c in zip(blocks, conditions, strict=True)]
        heads = [
            block.heads(x, modulation, rotation)
            for block, x, modulation, rotation in zip(
                blocks, streams, modulations, (*rotations, None), strict=True
            )
        ]
        q, k, v = (torch.cat(parts, 2) for parts in zip(*heads, strict=True))
        attentions = attended(q, k, v).split([x.shape[1] for x in streams], 1)
        return [
            block.after(x, attention, modulation)
            for block, x, attention, modulation in zip(blocks, streams, attentions, modulations, strict=True)
        ]


class FinalLayer(nn.Module):
    """Velocity of the latents, (B, T, latent_dim); modulated by the clip's summary alone, as published."""

    def __init__(self, dim: int, latent_dim: int) -> None:
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))
        self.conv = TimeConv(dim, latent_dim, 7)

    def forward(self, x: Tensor, summary: Tensor) -> Tensor:
        return self.conv(modulated(x, *self.adaLN_modulation(summary).chunk(2, -1)))


class FlowTransformer(nn.Module):
    """Velocity of noisy latents, given CLIP, Synchformer and text features. Parameter names are the published ones."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        dim, heads, version = config.hidden, config.heads, config.version
        self.latent_mean = nn.Parameter(torch.zeros(1, 1, config.latent_dim), requires_grad=False)
        self.latent_std = nn.Parameter(torch.ones(1, 1, config.latent_dim), requires_grad=False)
        self.sync_pos_emb = nn.Parameter(torch.zeros(1, 1, FEATURES_OF_A_SEGMENT, config.sync_dim))
        self.empty_string_feat = nn.Parameter(torch.zeros(TEXT_LENGTH, config.text_dim))
        self.empty_clip_feat = nn.Parameter(torch.zeros(1, config.clip_dim))
        self.empty_sync_feat = nn.Parameter(torch.zeros(1, config.sync_dim))
        self.audio_input_proj = nn.Sequential(
            TimeConv(config.latent_dim, dim, 7), activation(version), GatedMLP(dim, 7)
        )
        self.clip_input_proj = projected(config.clip_dim, dim, 3, version)
        self.sync_input_proj = nn.Sequential(
            TimeConv(config.sync_dim, dim, 7), activation(version), GatedMLP(dim, 3)
        )
        self.text_input_proj = projected(config.text_dim, dim, 1, version)
        self.clip_cond_proj, self.text_cond_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.global_cond_mlp = GatedMLP(dim)
        self.t_embed = TimeEmbedding(dim, version)
        self.joint_blocks = nn.ModuleList(
            JointBlock(dim, heads, last=k == config.joint - 1) for k in range(config.joint)
        )
        self.fused_blocks = nn.ModuleList(StreamBlock(dim, heads, 3) for _ in range(config.fused))
        self.final_layer = FinalLayer(dim, config.latent_dim)

    def conditions(self, clip: Tensor, sync: Tensor, text: Tensor, latents: int) -> Conditions:
        """Project features of B clips for `latents` positions.

        clip (B, T, clip_dim), sync (B, 8 * segments, sync_dim), text (B, 77, text_dim). Raises ValueError for sync
        features that are not whole segments.
        """
        if sync.shape[1] % FEATURES_OF_A_SEGMENT:
            raise ValueError(
                f"{sync.shape[1]} sync features are not whole segments of {FEATURES_OF_A_SEGMENT}"
            )
        within = self.sync_pos_emb[0].repeat(1, sync.shape[1] // FEATURES_OF_A_SEGMENT, 1)
        slow = self.sync_input_proj(sync + within)
        stretched = F.interpolate(slow.mT.float(), size=latents, mode="nearest-exact").mT
        clip, text = self.clip_input_proj(clip), self.text_input_proj(text)
        return Conditions(
            clip,
            stretched.to(slow.dtype),
            text,
            self.clip_cond_proj(clip.mean(1, keepdim=True)),
            self.text_cond_proj(text.mean(1, keepdim=True)),
        )

    def empty_video(self, rows: int, clip: int, sync: int) -> tuple[Tensor, Tensor]:
        """CLIP (rows, clip, clip_dim) and sync features (rows, sync, sync_dim) that stand for no video."""
        return self.empty_clip_feat.expand(rows, clip, -1), self.empty_sync_feat.expand(rows, sync, -1)

    def empty_text(self, rows: int) -> Tensor:
        """Text features (rows, 77, text_dim) that stand for no text."""
        return self.empty_string_feat.expand(rows, -1, -1)

    def rotations(self, latents: int, clip: int) -> tuple[Tensor, Tensor]:
        """Rotary tables of the latents and of CLIP features, which share one clock."""
        size, device = self.config.hidden // self.config.heads, self.latent_mean.device
        slow = torch.arange(clip, dtype=torch.float32, device=device) * (latents / clip)
        return (
            rotation_table(torch.arange(latents, dtype=torch.float32, device=device), size),
            rotation_table(slow, size),
        )

    def forward(self, x: Tensor, times: Tensor, given: Conditions) -> Tensor:
        """Velocity (B, T, latent_dim) of latents x (B, T, latent_dim) at times (B,) of the flow, 0 noise to 1 data."""
        summary = self.global_cond_mlp(given.clip_vector + given.text_vector) + self.t_embed(times)
        extended = summary + given.sync
        rotations = self.rotations(x.shape[1], given.clip.shape[1])
        streams = [self.audio_input_proj(x), given.clip, given.text]
        for block in self.joint_blocks:
            streams = block(streams, summary, extended, rotations)
        latent = streams[0]
        for block in self.fused_blocks:
            latent = block(latent, extended, rotations[0])
        return self.final_layer(latent, summary)

    def unnormalised(self, x: Tensor) -> Tensor:
        """Latents of the VAE from those of the flow, (B, T, latent_dim)."""
        return x * self.latent_std + self.latent_mean
