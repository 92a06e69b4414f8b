"""Mel spectrograms as MMAudio's VAE was trained on."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from v2a_models.mmaudio.config import SoundConfig

FLOOR = 1e-5
"""Least value of a band before the logarithm."""
MAGNITUDE_EPSILON = 1e-9


def mel_spectrogram(sound: Tensor, config: SoundConfig) -> Tensor:
    """Logarithm of mel bands, float32 (B, bands, T), of mono sound (B, samples) in [-1, 1]: T = samples // hop."""
    margin = (config.fft - config.hop) // 2
    padded = F.pad(sound.float().clamp(-1, 1)[:, None], (margin, margin), mode="reflect")[:, 0]
    window = torch.hann_window(config.fft, device=sound.device)
    spectrum = torch.stft(padded, config.fft, config.hop, window=window, center=False, return_complex=True)
    pairs = torch.view_as_real(spectrum)
    magnitude = (pairs.square().sum(-1) + MAGNITUDE_EPSILON).sqrt()
    bands = mel_bands(config).to(sound.device) @ magnitude
    return bands.clamp_min(FLOOR).log() / math.log(config.log_base)


@functools.cache
def mel_bands(config: SoundConfig) -> Tensor:
    """Slaney's mel bands with his norm, float32 (bands, fft / 2 + 1)."""
    import torchaudio

    basis = torchaudio.functional.melscale_fbanks(
        config.fft // 2 + 1, 0.0, config.top_hz, config.bands, config.sample_rate, norm="slaney",
        mel_scale="slaney",
    )  # fmt: skip
    return basis.T.contiguous()
