"""Audio and video transformer: the next sample by self-attention over past ones (2308.12408, section III-D3).

The paper has two variants: a short context of raw samples, and a long one shortened by strided convolutions. Both are
one network here, selected by `strides`. Without strides, every sample is a token. With a total stride of S, the tokens
of a time step end S, 2 S, 3 S ... samples before it: strided convolutions whose last output ends at the present, as in
the paper. For all time steps at once that is a dilated convolution, after which each of the S phases attends within
itself. The video context embedding is added to the tokens before any attention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_models.raw import ring_buffer


@dataclass(frozen=True)
class AVTransformerConfig:
    """Sizes of the transformer. The paper publishes none."""

    context: int = 256
    """Past samples that a layer attends to."""
    strides: tuple[int, ...] = ()
    """Strides of the convolutions that turn samples into tokens, such as 4 4 4; none for raw samples."""
    dim: int = 64
    depth: int = 4
    heads: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # lists come from files
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of the heads, got {self.dim} and {self.heads}")
        if min((*self.strides, self.depth, self.heads)) < 1:
            raise ValueError("strides, depth and heads must be at least 1")
        if self.context < self.stride or self.context % self.stride:
            raise ValueError(f"context must be a multiple of the strides together ({self.stride})")

    @property
    def stride(self) -> int:
        return math.prod(self.strides)

    @property
    def tokens(self) -> int:
        """Tokens that a time step attends to, including its own."""
        return self.context // self.stride

    @property
    def receptive(self) -> int:
        """Receptive field in samples."""
        return self.stride + self.depth * (self.context - self.stride)


SIZES: dict[str, dict[str, Any]] = {
    "mini": dict(dim=64, depth=3, heads=4),
    "base": dict(dim=256, depth=8, heads=8, context=1024),
    "large": dict(dim=512, depth=12, heads=8, context=2048),
}


class Block(nn.Module):
    """Self-attention over the last `tokens` tokens with learned relative positions per head, then a ReLU layer."""

    def __init__(self, config: AVTransformerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads, self.tokens = config.heads, config.tokens
        self.norm, self.ff_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.ago = nn.Parameter(torch.zeros(config.heads, config.tokens))
        """Attention bias by distance in tokens. Relative, so that keys and values stay valid when the context moves."""
        self.ff = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map M tokens (B, M, D), in temporal order, to the same shape."""
        n, length = self.tokens, x.shape[1]
        q, k, v = self.split(F.pad(x, (0, 0, 0, -length % n)))
        # In chunks of n tokens, each of which attends to itself and the chunk before.
        q, k, v = (part.unflatten(2, (-1, n)) for part in (q, k, v))  # B, heads, pieces, n, d
        k, v = (torch.cat([F.pad(part, (0, 0, 0, 0, 1, 0))[:, :, :-1], part], 3) for part in (k, v))
        place = torch.arange(n, device=x.device)
        ago = place[:, None] + n - torch.arange(2 * n, device=x.device)
        visible = (ago >= 0) & (ago < n)
        bias = self.ago[:, ago.clamp(0, n - 1)].masked_fill(~visible, -torch.inf)  # heads, n, 2 n
        first = bias.masked_fill(torch.arange(2 * n, device=x.device) < n, -torch.inf)
        mask = torch.stack([first, *[bias] * (q.shape[2] - 1)], 1).to(q.dtype)  # heads, pieces, n, 2 n
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.rest(x, attended.flatten(2, 3).transpose(1, 2).flatten(2)[:, :length])

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values of x (B, M, D): (B, heads, M, d) each."""
        parts = self.qkv(self.norm(x)).chunk(3, -1)
        return tuple(part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)

    def rest(self, x: Tensor, attended: Tensor) -> Tensor:
        """Output layers after the attention."""
        x = x + self.out(attended)
        return x + self.ff(self.ff_norm(x))


class AVTransformer(nn.Module):
    """Past samples and video context embedding -> outputs for the next sample, for all time steps at once.

    channels: sound channels. outputs: numbers that describe one sample.
    """

    def __init__(self, config: AVTransformerConfig, channels: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.context_channels = config.dim
        kernels, dilation = [], 1
        for stride in config.strides or (1,):
            kernels.append((stride, dilation))
            dilation *= stride
        widths = [channels] + [config.dim] * len(kernels)
        self.convolutions: Any = nn.ModuleList(
            nn.Conv1d(width, config.dim, kernel, dilation=dilation)
            for width, (kernel, dilation) in zip(widths, kernels, strict=False)
        )
        self.blocks: Any = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim)
        self.leave = nn.Linear(config.dim, outputs)

    @property
    def receptive(self) -> int:
        return self.config.receptive

    @property
    def units(self) -> list[nn.Module]:
        return list(self.blocks)

    def forward(self, audio: Tensor, context: Tensor) -> Tensor:
        """Outputs (B, N, outputs), given the sample before each time step (B, C, N) and its context (B, D, N)."""
        x = self._phased(self._tokens(audio) + context)
        for block in self.blocks:
            x = block(x)
        return self._unphased(self.leave(self.norm(x)), audio)

    def _tokens(self, audio: Tensor) -> Tensor:
        x = audio
        for layer in self.convolutions:
            x = convolved(layer, x)
        return x

    def _phased(self, x: Tensor) -> Tensor:
        """Rearrange (B, D, N) to tokens (B * S, N / S, D), one phase per row."""
        s = self.config.stride
        padded = F.pad(x, (0, -x.shape[-1] % s))
        return padded.unflatten(-1, (-1, s)).permute(0, 3, 2, 1).flatten(0, 1)

    def _unphased(self, x: Tensor, audio: Tensor) -> Tensor:
        whole = x.unflatten(0, (len(audio), -1)).transpose(1, 2).flatten(1, 2)
        return whole[:, : audio.shape[-1]]

    def stepper(self, audio: Tensor, context: Tensor) -> AVTransformerStepper:
        """Stepper that continues audio and context (as for `forward`) of any length, including 0."""
        return AVTransformerStepper(self, audio, context)


def convolved(layer: nn.Conv1d, x: Tensor) -> Tensor:
    """Causal convolution with ReLU; samples before the first are zero."""
    back = (layer.kernel_size[0] - 1) * layer.dilation[0]
    return F.relu(layer(F.pad(x, (back, 0))))


class AVTransformerStepper:
    """Transformer run one sample at a time from cached keys and values.

    Keys and values of the last `context` samples lie in ring buffers, one per phase, so the tokens of a time step are
    one block of memory. The cost of a sample is that of the tokens it attends to: context / stride.
    """

    time: int | Tensor
    """Number of samples so far; `Sampler` makes it a tensor for a CUDA graph."""

    def __init__(self, net: AVTransformer, audio: Tensor, context: Tensor) -> None:
        self.net, config = net, net.config
        batch, n = len(audio), audio.shape[-1]
        self.time = 0
        self.rings: list[Tensor] = []
        x = audio
        for layer in net.convolutions:
            length = (layer.kernel_size[0] - 1) * layer.dilation[0] + 1
            ring = audio.new_zeros(length, batch, layer.in_channels)
            if n:
                kept = x[..., max(0, n - length) :].permute(2, 0, 1)
                ring[torch.arange(n - len(kept), n, device=audio.device) % length] = kept
                x = convolved(layer, x)
            self.rings.append(ring)
        lanes, width, tokens = (config.stride, batch, config.heads), config.dim // config.heads, config.tokens
        self.scale = width**-0.5
        # Keys are contiguous over tokens, so that a query needs one product and no copy.
        self.caches = [
            (audio.new_zeros(*lanes, width, tokens), audio.new_zeros(*lanes, tokens, width))
            for _ in net.blocks
        ]
        # Bias from the newest token to the oldest, twice: any rotation of the ring is a slice of it.
        self.ago = [torch.cat([block.ago.flip(1)] * 2, 1)[:, None] for block in net.blocks]
        self.weights = [
            layer.weight.permute(2, 1, 0).flatten(0, 1).contiguous() for layer in net.convolutions
        ]
        if n:
            self._remember(net._phased(x + context), n)

    def _remember(self, x: Tensor, n: int) -> None:
        """Fill the caches with the tokens x (B * S, M, D) of n samples."""
        stride, tokens = self.net.config.stride, self.net.config.tokens
        phases = torch.arange(stride, device=x.device)
        for block, (keys, values) in zip(self.net.blocks, self.caches, strict=True):
            _, k, v = block.split(x)
            m = k.shape[2]
            for token in range(max(0, m - tokens - 1), m):
                there = phases[token * stride + phases < n]  # some phases have one token less
                k_now, v_now = (
                    part[:, :, token].unflatten(0, (-1, stride)).transpose(0, 1)[there] for part in (k, v)
                )
                keys[there, ..., token % tokens] = k_now
                values[there, ..., token % tokens, :] = v_now
            x = block(x)
        self.time = n

    def step(self, audio: Tensor, context: Tensor) -> Tensor:
        """Outputs (B, outputs), given the sample before (B, C) and the context of this time step (B, D)."""
        net, config = self.net, self.net.config
        x = audio
        for layer, ring, weight in zip(net.convolutions, self.rings, self.weights, strict=True):
            kernel, dilation, length = layer.kernel_size[0], layer.dilation[0], len(ring)
            ring_buffer.write(ring, self.time % length, x)
            taps = [
                ring_buffer.read(ring, (self.time - back * dilation) % length)
                for back in range(kernel - 1, -1, -1)
            ]
            x = torch.addmm(layer.bias, torch.cat(taps, 1) if kernel > 1 else taps[0], weight).relu_()
        x = (x + context)[:, None]
        age, phase = self.time // config.stride, self.time % config.stride
        slot = age % config.tokens
        for block, (keys, values), ago in zip(net.blocks, self.caches, self.ago, strict=True):
            q, k, v = block.split(x)
            if isinstance(slot, int):
                bias = ago[..., config.tokens - 1 - slot : 2 * config.tokens - 1 - slot]
                # In the first round, entries after the newest are not yet written.
                kept = slice(None) if age >= config.tokens else slice(0, slot + 1)
                keys[phase, ..., slot].copy_(k[:, :, 0])
                values[phase, ..., slot, :].copy_(v[:, :, 0])
                past_keys, past_values, bias = (
                    keys[phase][..., kept],
                    values[phase][..., kept, :],
                    bias[..., kept],
                )
            else:
                place = torch.arange(config.tokens, device=slot.device)
                bias = ago.index_select(-1, place + config.tokens - 1 - slot)
                bias = bias.masked_fill((place > slot) & (age < config.tokens), -torch.inf)
                keys[phase, :, :, :, slot] = k[None, :, :, 0]
                values[phase, :, :, slot] = v[None, :, :, 0]
                past_keys, past_values = ring_buffer.read(keys, phase), ring_buffer.read(values, phase)
            weights = torch.matmul(q * self.scale, past_keys).add_(bias).softmax(-1)
            attended = torch.matmul(weights, past_values)
            x = block.rest(x, attended.transpose(1, 2).flatten(2))
        self.time += 1
        return net.leave(net.norm(x))[:, 0]
