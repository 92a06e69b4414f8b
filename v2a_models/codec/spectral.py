"""Network of the small codec: DAC's residual quantiser between a spectral encoder and decoder.

A DAC small enough to train on a CPU has ten channels left at 44.1 kHz, too few for tones: anvils, drips and fans came
back as noise of the right loudness. Here the last layer is an inverse Fourier transform (Vocos, 2306.00814), whose
basis are tones, and all layers run at the codec-frame rate or twice that: better and several times faster at this size.
Codec frames and codebooks are DAC's.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from dac.nn.quantize import ResidualVectorQuantize
from torch import Tensor, nn

from v2a_models import grid

N_FFT = 1024
STEP = grid.HOP // 2
"""Hop between spectra in samples: two per codec frame, short enough not to smear attacks."""

BINS = N_FFT // 2 + 1


class ConvNeXt(nn.Module):
    """ConvNeXt block over time, (B, T, C) -> (B, T, C): depthwise convolution, feed-forward, small initial scale."""

    def __init__(self, width: int, kernel: int = 7) -> None:
        super().__init__()
        self.mix = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))
        self.scale = nn.Parameter(torch.full((width,), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix(x.transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.mlp(self.norm(mixed))


class SpectralEncoder(nn.Module):
    """Encoder: waveform (B, 1, N), N a multiple of 512 -> latent (B, latent_dim, N / 512)."""

    window: Tensor

    def __init__(self, width: int, depth: int, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)
        self.input = nn.Linear(3 * BINS, width)
        self.fine = nn.Sequential(ConvNeXt(width), ConvNeXt(width))
        self.join = nn.Linear(2 * width, width)
        self.coarse = nn.Sequential(*(ConvNeXt(width) for _ in range(depth)), nn.LayerNorm(width))
        self.output = nn.Linear(width, latent_dim)

    def forward(self, waveform: Tensor) -> Tensor:
        frames = waveform.shape[-1] // STEP
        # Spectrum i is centred on sample i * STEP + STEP / 2: both spectra of a codec frame lie inside it.
        padded = F.pad(waveform.float().squeeze(1), ((N_FFT - STEP) // 2, (N_FFT - STEP) // 2))
        spectrum = torch.stft(padded, N_FFT, STEP, window=self.window, center=False, return_complex=True)
        spectrum = spectrum[..., :frames].transpose(1, 2)
        level = (spectrum.real.square() + spectrum.imag.square() + 1e-10).sqrt()
        # Compressed, so that quiet tones do not vanish beside attacks.
        soft = level.pow(-0.6)
        features = torch.cat(
            [torch.log10(level.clamp_min(1e-4)), spectrum.real * soft, spectrum.imag * soft], -1
        )
        x = self.fine(self.input(features))
        x = self.coarse(self.join(x.unflatten(1, (-1, 2)).flatten(2)))
        return self.output(x).transpose(1, 2)


class SpectralDecoder(nn.Module):
    """Decoder: latent (B, latent_dim, L) -> waveform (B, 1, L * 512)."""

    window: Tensor

    def __init__(self, width: int, depth: int, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)
        self.input = nn.Linear(latent_dim, width)
        self.coarse = nn.Sequential(ConvNeXt(width), ConvNeXt(width))
        self.split = nn.Linear(width, 2 * width)
        self.fine = nn.Sequential(*(ConvNeXt(width) for _ in range(depth)), nn.LayerNorm(width))
        self.output = nn.Linear(width, 2 * BINS)
        nn.init.constant_(self.output.bias[:BINS], -3.0)  # about the mean loudness of sound

    def forward(self, latent: Tensor) -> Tensor:
        x = self.coarse(self.input(latent.transpose(1, 2)))
        x = self.fine(self.split(x).unflatten(-1, (2, -1)).flatten(1, 2))
        level, phase = self.output(x).float().transpose(1, 2).chunk(2, 1)
        spectrum = torch.polar(level.clamp_max(6.0).exp(), phase)
        return overlap_add(spectrum, self.window).unsqueeze(1)


def overlap_add(spectrum: Tensor, window: Tensor) -> Tensor:
    """Inverse STFT of complex (B, BINS, T), spectrum i centred on i * STEP + STEP / 2: float (B, T * STEP).

    torch.istft centres spectra on multiples of the hop or drops the edges; here every sample is covered.
    """
    pieces = torch.fft.irfft(spectrum, N_FFT, dim=1) * window[:, None]
    length = (spectrum.shape[-1] - 1) * STEP + N_FFT
    total = F.fold(pieces, (1, length), (1, N_FFT), stride=(1, STEP))[:, 0, 0]
    weights = window.square()[None, :, None].expand(1, -1, spectrum.shape[-1])
    norm = F.fold(weights, (1, length), (1, N_FFT), stride=(1, STEP))[:, 0, 0]
    edge = (N_FFT - STEP) // 2
    return (total / norm.clamp_min(1e-3))[:, edge : length - edge]


class SpectralCodec(nn.Module):
    """Spectral codec with the interface of descript-audio-codec's `DAC`: encoder, quantizer, decoder."""

    def __init__(
        self,
        width: int,
        encoder_depth: int,
        decoder_depth: int,
        latent_dim: int,
        n_codebooks: int,
        codebook_size: int,
        codebook_dim: int,
    ) -> None:
        super().__init__()
        self.encoder = SpectralEncoder(width, encoder_depth, latent_dim)
        self.quantizer: Any = ResidualVectorQuantize(
            input_dim=latent_dim,
            n_codebooks=n_codebooks,
            codebook_size=codebook_size,
            codebook_dim=codebook_dim,
        )
        self.decoder = SpectralDecoder(width, decoder_depth, latent_dim)
        # Kernels of 7, two of them at codec-frame rate, the others at twice that; plus the window of a spectrum.
        self.receptive_radius = -(
            -(2 * 3 * grid.HOP + decoder_depth * 3 * STEP + (N_FFT - STEP) // 2) // grid.HOP
        )
