"""BigVGAN: samples of a mel spectrogram (2206.04658), in the two published configurations that MMAudio uses."""

from __future__ import annotations

import math
import re
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_models.mmaudio.config import SoundConfig

KERNELS, DILATIONS = (3, 7, 11), (1, 3, 5)
TAPS = 12
CUTOFF, HALF_WIDTH = 0.25, 0.3
"""Cutoff of the resampling filters and half the width of their transition, at twice the rate."""
SNAKE_EPSILON = 1e-9

_WEIGHT_NORM = re.compile(r"\.(?:weight_([gv])|parametrizations\.weight\.original([01]))$")


def low_pass() -> Tensor:
    """Windowed sinc that halves or doubles a rate: float32 (1, 1, 12), with sum 1."""
    attenuation = 2.285 * (TAPS // 2 - 1) * math.pi * 4 * HALF_WIDTH + 7.95
    beta = 0.1102 * (attenuation - 8.7)  # Kaiser's formula for attenuations above 50 dB
    window = torch.kaiser_window(TAPS, periodic=False, beta=beta, dtype=torch.float32)
    times = torch.arange(-TAPS // 2, TAPS // 2, dtype=torch.float32) + 0.5
    taps = 2 * CUTOFF * window * torch.sinc(2 * CUTOFF * times)
    return (taps / taps.sum()).view(1, 1, TAPS)


class Filter(nn.Module):
    """Taps of a resampling filter, a buffer as in the published files."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", low_pass())


class HalfRate(nn.Module):
    """Filter before the rate is halved, under its published name."""

    def __init__(self) -> None:
        super().__init__()
        self.lowpass = Filter()


class Snake(nn.Module):
    """x + sin(x * e^alpha)^2 / e^beta, per channel: (B, C, T)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        alpha, beta = self.alpha.exp()[:, None], self.beta.exp()[:, None]
        return x + (x * alpha).sin().square() / (beta + SNAKE_EPSILON)


class Activation(nn.Module):
    """Snake at twice the rate, so that its harmonics do not alias: (B, C, T)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.act, self.upsample, self.downsample = Snake(channels), Filter(), HalfRate()

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        up = self.upsample.filter.expand(channels, -1, -1)
        down = self.downsample.lowpass.filter.expand(channels, -1, -1)
        margin = TAPS // 2 - 1
        fast = F.conv_transpose1d(F.pad(x, (margin, margin), mode="replicate"), up, stride=2, groups=channels)
        fast = self.act(2 * fast[..., 3 * margin : -3 * margin])
        return F.conv1d(F.pad(fast, (margin, margin + 1), mode="replicate"), down, stride=2, groups=channels)


class VocoderBlock(nn.Module):
    """Three dilated convolutions, each beside a shortcut: (B, C, T)."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, padding=kernel // 2 * d, dilation=d) for d in DILATIONS
        )
        self.convs2 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, padding=kernel // 2) for _ in DILATIONS
        )
        self.activations = nn.ModuleList(Activation(channels) for _ in range(2 * len(DILATIONS)))

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.activations[::2], self.activations[1::2]
        for before, dilated, between, conv in zip(first, self.convs1, second, self.convs2, strict=True):
            x = x + conv(between(dilated(before(x))))
        return x


class Vocoder(nn.Module):
    """Mel spectrogram (B, bands, T) -> waveform (B, 1, T * hop) in [-1, 1].

    Parameter names are the published ones after `folded`.
    """

    def __init__(self, sound: SoundConfig) -> None:
        super().__init__()
        self.ends_in_tanh = sound.ends_in_tanh
        widths = [sound.vocoder_width >> k for k in range(len(sound.up_rates) + 1)]
        self.conv_pre = nn.Conv1d(sound.bands, widths[0], 7, padding=3)
        self.ups = nn.ModuleList(
            nn.ModuleList(
                [nn.ConvTranspose1d(widths[k], widths[k + 1], kernel, rate, padding=(kernel - rate) // 2)]
            )
            for k, (rate, kernel) in enumerate(zip(sound.up_rates, sound.up_kernels, strict=True))
        )
        self.resblocks = nn.ModuleList(
            VocoderBlock(width, kernel) for width in widths[1:] for kernel in KERNELS
        )
        self.activation_post = Activation(widths[-1])
        self.conv_post = nn.Conv1d(widths[-1], 1, 7, padding=3, bias=sound.ends_in_tanh)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.conv_pre(mel)
        for k, up in enumerate(self.ups):
            x = cast(nn.ModuleList, up)[0](x)
            blocks = self.resblocks[k * len(KERNELS) : (k + 1) * len(KERNELS)]
            x = torch.stack([block(x) for block in blocks]).mean(0)
        x = self.conv_post(self.activation_post(x))
        return x.tanh() if self.ends_in_tanh else x.clamp(-1, 1)


def folded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict with each direction and magnitude of weight norm, under either of its names, as one `weight`.

    The norm runs over all but the first dimension, which of transposed convolutions is the input.
    """
    result: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        if found := _WEIGHT_NORM.search(key):
            part = found[1] or "gv"[int(found[2])]
            parts.setdefault(key[: found.start()], {})[part] = value
        else:
            result[key] = value
    for name, pair in parts.items():
        if pair.keys() == {"g", "v"}:
            over = tuple(range(1, pair["v"].ndim))
            norm = torch.linalg.vector_norm(pair["v"].float(), dim=over, keepdim=True)
            result[f"{name}.weight"] = pair["g"].float() * pair["v"].float() / norm
    return result
