"""VAE of mel spectrograms: magnitude-preserving layers (2312.02696, section 2.3) over time.

Weights are normalised each time they are used, so that a state dict holds the published numbers.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_models.mmaudio.config import SoundConfig

RMS_EPSILON = 1e-4
"""Added to root mean squares, and to those of weights."""
SHARE = 0.3
"""Share of a residual branch in its sum."""
LARGEST = 256.0
"""Magnitude to which activations are clamped."""
SILU_GAIN = 0.596
WIDTHS = (1, 2, 4)
"""Widths of the levels, from the mel spectrogram to the latents."""
HALVED = 0
"""Level after which the encoder halves time; the decoder doubles it before."""
LOG_VARIANCE = (-30.0, 20.0)


class NormedConv(nn.Module):
    """Convolution over time without bias whose filters have unit norm: (B, inputs, T) -> (B, outputs, T)."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        fan = math.sqrt(self.weight[0].numel())
        norm = torch.linalg.vector_norm(self.weight, dim=(1, 2), keepdim=True)
        weight = self.weight / (RMS_EPSILON + norm / fan) * (gain / fan)
        return F.conv1d(x, weight, padding=self.weight.shape[-1] // 2)


def unit_channels(x: Tensor) -> Tensor:
    """Scale x, (B, C, ...), to a root mean square of one over its channels."""
    return x / (RMS_EPSILON + x.square().mean(1, keepdim=True).sqrt())


def scaled_silu(x: Tensor) -> Tensor:
    """SiLU that keeps the magnitude of normal numbers."""
    return F.silu(x) / SILU_GAIN


def joined(x: Tensor, branch: Tensor) -> Tensor:
    """Sum of a residual branch and its input that keeps their magnitude."""
    return torch.lerp(x, branch, SHARE) / math.hypot(1 - SHARE, SHARE)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut: (B, inputs, T) -> (B, outputs, T)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = NormedConv(inputs, outputs, 3), NormedConv(outputs, outputs, 3)
        self.nin_shortcut = None if inputs == outputs else NormedConv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = unit_channels(x)
        branch = self.conv2(scaled_silu(self.conv1(scaled_silu(x))))
        return joined(x if self.nin_shortcut is None else self.nin_shortcut(x), branch)


class MelAttention(nn.Module):
    """Attention of one head over time beside a shortcut, (B, C, T); channels of `qkv` are c * 3 + (q, k, v)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv, self.proj_out = NormedConv(channels, 3 * channels, 1), NormedConv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (unit_channels(part).mT for part in self.qkv(x).unflatten(1, (-1, 3)).unbind(2))
        return joined(x, self.proj_out(F.scaled_dot_product_attention(q, k, v).mT))


class Middle(nn.Module):
    """Residual block, attention and residual block at the latents' rate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1, self.attn_1 = ResidualBlock(channels, channels), MelAttention(channels)
        self.block_2 = ResidualBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return clamped(self.block_2(self.attn_1(self.block_1(x))))


def clamped(x: Tensor) -> Tensor:
    """Bound activations to what half precision can hold with room to spare."""
    return x.clamp(-LARGEST, LARGEST)


class Halved(nn.Module):
    """Time at half the rate, (B, C, T) -> (B, C, T / 2): means of two frames between two 1x1 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = NormedConv(channels, channels, 1), NormedConv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.avg_pool1d(self.conv1(x), 2))


class Doubled(nn.Module):
    """Time at twice the rate, (B, C, T) -> (B, C, 2 T): every frame twice, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = NormedConv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest-exact"))


class Level(nn.Module):
    """Residual blocks of one width, then a change of rate, if any."""

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResidualBlock(outputs if k else inputs, outputs) for k in range(blocks))
        self.downsample: nn.Module | None = None
        self.upsample: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = clamped(block(x))
        for change in (self.downsample, self.upsample):
            x = x if change is None else change(x)
        return x


class MelEncoder(nn.Module):
    """Mean and logarithm of the variance of latents, (B, 2 * latent_dim, T / 2), of normalised mel (B, bands, T)."""

    def __init__(self, sound: SoundConfig) -> None:
        super().__init__()
        widths = [sound.vae_width * factor for factor in WIDTHS]
        self.learnable_gain = nn.Parameter(torch.zeros(()))
        self.conv_in = NormedConv(sound.bands, widths[0], 3)
        self.down = nn.ModuleList(Level(widths[max(0, k - 1)], width, 2) for k, width in enumerate(widths))
        self.down[HALVED].downsample = Halved(widths[HALVED])
        self.mid = Middle(widths[-1])
        self.conv_out = NormedConv(widths[-1], 2 * sound.latent_dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(scaled_silu(self.mid(x)), self.learnable_gain + 1)


class MelDecoder(nn.Module):
    """Normalised mel (B, bands, 2 T) of latents (B, latent_dim, T)."""

    def __init__(self, sound: SoundConfig) -> None:
        super().__init__()
        widths = [sound.vae_width * factor for factor in WIDTHS]
        self.learnable_gain = nn.Parameter(torch.zeros(()))
        self.conv_in = NormedConv(sound.latent_dim, widths[-1], 3)
        self.mid = Middle(widths[-1])
        wider = [*widths[1:], widths[-1]]
        self.up = nn.ModuleList(Level(*each, 3) for each in zip(wider, widths, strict=True))
        self.up[HALVED + 1].upsample = Doubled(widths[HALVED + 1])
        self.conv_out = NormedConv(widths[0], sound.bands, 3)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(scaled_silu(x), self.learnable_gain + 1)


class MelVAE(nn.Module):
    """Latents of mel spectrograms. Parameter names are the published ones."""

    data_mean: Tensor
    data_std: Tensor

    def __init__(self, sound: SoundConfig) -> None:
        super().__init__()
        self.register_buffer("data_mean", torch.zeros(1, sound.bands, 1))
        self.register_buffer("data_std", torch.ones(1, sound.bands, 1))
        self.encoder, self.decoder = MelEncoder(sound), MelDecoder(sound)

    def encode(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of latents, each (B, latent_dim, T / 2), of mel spectrograms (B, bands, T)."""
        mean, log_variance = self.encoder((mel - self.data_mean) / self.data_std).chunk(2, 1)
        return mean, (log_variance.clamp(*LOG_VARIANCE) / 2).exp()

    def decode(self, latents: Tensor) -> Tensor:
        """Mel spectrograms (B, bands, 2 T) of latents (B, latent_dim, T)."""
        return self.decoder(latents) * self.data_std + self.data_mean
