"""WaveNet with visual context: the next sample from past samples and frames (2308.12408, section III-D2).

Dilated causal convolutions (WaveNet, 1609.03499) over past samples, to which the video context embedding is added
first. A dense layer outputs the next sample of all channels, as a value (tanh) or a distribution over 256 levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_models.raw import ring_buffer

JOINS = ("audio", "channels")


@dataclass(frozen=True)
class WaveNetConfig:
    """Sizes of the WaveNet. The paper publishes none; 10 layers in 2 stacks are usual."""

    layers: int = 10
    """Layers of a stack; the dilation doubles from one to the next."""
    stacks: int = 2
    channels: int = 64
    """Channels of the residual path."""
    skip: int = 64
    """Channels of the skip connections and of the dense layer."""
    join: str = "channels"
    """Place where the video context embedding is added: "audio", the samples themselves, as published, which leaves the
    embedding as few channels as the sound has; or "channels", the output of the first convolution."""

    def __post_init__(self) -> None:
        if self.join not in JOINS:
            raise ValueError(f"unknown join {self.join!r}: choose one of {list(JOINS)}")
        if min(self.layers, self.stacks, self.channels, self.skip) < 1:
            raise ValueError("a WaveNet needs at least one layer, one stack and one channel")

    @property
    def dilations(self) -> list[int]:
        return [2**layer for _ in range(self.stacks) for layer in range(self.layers)]

    @property
    def receptive(self) -> int:
        """Receptive field in samples."""
        return 1 + sum(self.dilations)


SIZES: dict[str, dict[str, Any]] = {
    "mini": dict(layers=9, stacks=2, channels=48, skip=64),
    "base": dict(layers=10, stacks=3, channels=128, skip=256),
    "large": dict(layers=11, stacks=4, channels=256, skip=512),
}


class Layer(nn.Module):
    """Gated dilated convolution with residual (except in the last layer) and skip outputs."""

    def __init__(self, channels: int, skip: int, dilation: int, last: bool) -> None:
        super().__init__()
        self.dilation = dilation
        self.gate = nn.Conv1d(channels, 2 * channels, 2, dilation=dilation)
        self.residual = None if last else nn.Conv1d(channels, channels, 1)
        self.skip = nn.Conv1d(channels, skip, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (B, R, N) to the next layer's input (B, R, N) and the skip output (B, S, N)."""
        signal, gate = self.gate(F.pad(x, (self.dilation, 0))).chunk(2, 1)
        open_ = signal.tanh() * gate.sigmoid()
        return x if self.residual is None else x + self.residual(open_), self.skip(open_)


class WaveNet(nn.Module):
    """Past samples and video context embedding -> outputs for the next sample, for all time steps at once.

    channels: sound channels. outputs: numbers that describe one sample.
    """

    def __init__(self, config: WaveNetConfig, channels: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.enter = nn.Conv1d(channels, config.channels, 1)
        self.layers: Any = nn.ModuleList(
            Layer(config.channels, config.skip, dilation, at == len(config.dilations))
            for at, dilation in enumerate(config.dilations, 1)
        )
        self.dense = nn.Conv1d(config.skip, config.skip, 1)
        self.leave = nn.Conv1d(config.skip, outputs, 1)
        self.context_channels = channels if config.join == "audio" else config.channels
        """Required channels of the video context embedding."""

    @property
    def receptive(self) -> int:
        return self.config.receptive

    @property
    def units(self) -> list[nn.Module]:
        return list(self.layers)

    def forward(self, audio: Tensor, context: Tensor) -> Tensor:
        """Outputs (B, N, outputs), given the sample before each time step (B, C, N) and its context (B, D, N)."""
        x = self._enter(audio, context)
        out: Any = 0
        for layer in self.layers:
            x, skip = layer(x)
            out = out + skip
        return self.leave(F.relu(self.dense(F.relu(out)))).transpose(1, 2)

    def _enter(self, audio: Tensor, context: Tensor) -> Tensor:
        if self.config.join == "audio":
            return self.enter(audio + context)
        return self.enter(audio) + context

    def stepper(self, audio: Tensor, context: Tensor) -> WaveNetStepper:
        """Stepper that continues audio and context (as for `forward`) of any length, including 0."""
        return WaveNetStepper(self, audio, context)


class WaveNetStepper:
    """WaveNet run one sample at a time from cached activations (fast WaveNet, 1611.09482).

    Each layer keeps its last `dilation` inputs in a ring buffer: the cost of a sample does not grow with the past.
    """

    time: int | Tensor
    """Number of samples so far; `Sampler` makes it a tensor for a CUDA graph."""

    def __init__(self, net: WaveNet, audio: Tensor, context: Tensor) -> None:
        batch, n = len(audio), audio.shape[-1]
        self.time, self.join = n, net.config.join
        self.enter = _matrix(net.enter)
        self.layers: list[tuple[Any, ...]] = []
        outs = []
        x = net._enter(audio, context) if n else None
        for layer in net.layers:
            d = layer.dilation
            ring = audio.new_zeros(d, batch, net.config.channels)
            if x is not None:
                kept = x[..., max(0, n - d) :].permute(2, 0, 1)
                ring[torch.arange(n - len(kept), n, device=audio.device) % d] = kept
                x, _ = layer(x)
            weight, bias = layer.gate.weight, layer.gate.bias
            past, now = (weight[..., tap].T.contiguous() for tap in (0, 1))
            on = None if layer.residual is None else _matrix(layer.residual)
            self.layers.append((ring, d, bias, past, now, on))
            outs.append(layer.skip.weight[..., 0].T)
        self.outs = torch.cat(outs).contiguous()  # all skip outputs in one product
        self.dense, self.leave = _matrix(net.dense), _matrix(net.leave)
        self.opened = audio.new_empty(batch, len(net.layers), net.config.channels)

    def step(self, audio: Tensor, context: Tensor) -> Tensor:
        """Outputs (B, outputs), given the sample before (B, C) and the context of this time step (B, D)."""
        weight, bias = self.enter
        if self.join == "audio":
            x = torch.addmm(bias, audio + context, weight)
        else:
            x = torch.addmm(bias, audio, weight).add_(context)
        width = x.shape[1]
        for at, (ring, d, gate_bias, past, now, on) in enumerate(self.layers):
            slot = self.time % d
            z = torch.addmm(gate_bias, ring_buffer.read(ring, slot), past).addmm_(x, now)
            ring_buffer.write(ring, slot, x)
            opened = self.opened[:, at]
            opened.copy_(z[:, :width].tanh_().mul_(z[:, width:].sigmoid_()))
            if on is not None:
                x = torch.addmm(on[1], opened, on[0]).add_(x)
        self.time += 1
        out = (self.opened.flatten(1) @ self.outs).relu_()
        weight, bias = self.dense
        out = torch.addmm(bias, out, weight).relu_()
        weight, bias = self.leave
        return torch.addmm(bias, out, weight)


def _matrix(layer: nn.Conv1d) -> tuple[Tensor, Tensor]:
    """Weight (in, out) and bias of a convolution with kernel size 1."""
    assert layer.bias is not None
    return layer.weight[..., 0].T.contiguous(), layer.bias
