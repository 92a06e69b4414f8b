"""The Descript Audio Codec: waveform <-> codes, with exact lengths.

The network is descript-audio-codec's `DAC` (Kumar et al. 2023, "High-Fidelity Audio Compression with Improved
RVQGAN"), or, for the bundled model, its quantiser with a spectral encoder and decoder (`codec.spectral`). This module
adds exact lengths (L codec frames decode to L * hop samples, trimmed to the requested length), codebooks that stay in
use, and loading without unpickling.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from dac.model.dac import DAC
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from v2a_models import grid
from v2a_models.codec.spectral import SpectralCodec

MINI: dict[str, Any] = dict(
    kind="spectral",
    width=256,
    encoder_depth=4,
    decoder_depth=6,
    latent_dim=96,
    n_codebooks=6,
    codebook_size=512,
    codebook_dim=8,
)
"""Config of the bundled codec: DAC's quantiser and frame rate, spectral encoder and decoder (`codec.spectral`)."""

FULL: dict[str, Any] = dict(
    encoder_dim=64,
    encoder_rates=[2, 4, 8, 8],
    latent_dim=1024,
    decoder_dim=1536,
    decoder_rates=[8, 8, 4, 2],
    n_codebooks=9,
    codebook_size=1024,
    codebook_dim=8,
    quantizer_dropout=True,
    sample_rate=grid.SAMPLE_RATE,
)
"""Config of the published 44.1 kHz model: 9 codebooks of 1024, 8 kbit/s."""


class Codec(nn.Module):
    """Codec between waveforms (B, 1, N) in [-1, 1] and codes int64 (B, K, L), L = ceil(N / 512)."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        with warnings.catch_warnings():
            # The package still uses torch's deprecated weight_norm.
            warnings.simplefilter("ignore", FutureWarning)
            kind = config.get("kind", "dac")
            sizes = {name: value for name, value in config.items() if name != "kind"}
            self.dac: Any = {"dac": DAC, "spectral": SpectralCodec}[kind](**sizes)
        self.n_codebooks: int = config["n_codebooks"]
        self.codebook_size: int = config["codebook_size"]

    @torch.no_grad()
    def encode(self, waveform: Tensor) -> Tensor:
        """Codes (B, K, L) of a waveform (B, 1, N), padded with zeros to whole codec frames.

        Computed in float32, under autocast as well: a quantiser that rounds distances to bfloat16 picks another code
        in most places.
        """
        _check_waveform(waveform)
        pad = -waveform.shape[-1] % grid.HOP
        with torch.autocast(waveform.device.type, enabled=False):
            latent = self.dac.encoder(F.pad(waveform.float(), (0, pad)))
            # Eval mode keeps every codebook: quantizer dropout is for training only.
            return self.dac.quantizer.eval()(latent)[1]

    @torch.no_grad()
    def decode(self, codes: Tensor, n_samples: int | None = None) -> Tensor:
        """Waveform (B, 1, n_samples) of codes (B, K, L); all of L * 512 samples when n_samples is None.

        Raises ValueError for codes out of range or too short for `n_samples`.
        """
        length = codes.shape[-1] * grid.HOP
        if n_samples is not None and n_samples > length:
            raise ValueError(
                f"{codes.shape[-1]} codec frames hold {length} samples, {n_samples} were requested"
            )
        waveform = self.dac.decoder(self.latents(codes))
        return waveform[..., : length if n_samples is None else n_samples]

    @property
    def receptive_radius(self) -> int:
        """Codec frames on either side that a sample may depend on. With that many extra frames at both ends, a part of
        the codes decodes to the same samples as the whole."""
        return (
            int(self.dac.receptive_radius)
            if isinstance(self.dac, SpectralCodec)
            else _dac_receptive_radius(self.config)
        )

    @torch.no_grad()
    def latents(self, codes: Tensor) -> Tensor:
        """Decoder input: dequantised codes (B, K, L) as float (B, latent_dim, L).

        K may be less than the number of codebooks: each refines those before it. Raises ValueError for codes out of
        range.
        """
        if codes.ndim != 3 or not 1 <= codes.shape[1] <= self.n_codebooks:
            raise ValueError(
                f"expected codes (B, K, L) of 1 to {self.n_codebooks} levels, got {tuple(codes.shape)}"
            )
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.codebook_size:
            raise ValueError(f"codes must lie in [0, {self.codebook_size})")
        return self.dac.quantizer.from_codes(codes)[0]

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """Training pass over (B, 1, N), N a multiple of 512: waveform, codes, latents and the two VQ losses."""
        latent = self.dac.encoder(waveform)
        with torch.autocast(waveform.device.type, enabled=False):  # as in `encode`
            quantized, codes, latents, commitment, codebook = self.dac.quantizer(latent.float())
        return dict(
            waveform=self.dac.decoder(quantized),
            codes=codes,
            latents=latents,
            commitment_loss=commitment,
            codebook_loss=codebook,
        )


def _dac_receptive_radius(config: dict[str, Any]) -> int:
    """Receptive radius of DAC's decoder: kernels of 7, transposed convolutions of twice their stride, residual units
    dilated 1, 3, 9."""
    frames, step = 3.0, 1
    for stride in config["decoder_rates"]:
        frames += 1 / step
        step *= stride
        frames += 3 * (1 + 3 + 9) / step
    return math.ceil(frames + 3 / step)


class CodebookKeeper:
    """Keep every code in use: initialise codebooks from encoder outputs and replace dead codes.

    Without it the codebooks of a small DAC collapse (150, 52, 28 and 96 of 512 codes in use in a trial), and the codec
    limits the quality of the sound.
    """

    def __init__(self, codec: Codec, start_step: int = 40, patience: int = 200) -> None:
        self.codec, self.start_step, self.patience = codec, start_step, patience
        self.last_used = torch.zeros(codec.n_codebooks, codec.codebook_size, dtype=torch.long)

    @torch.no_grad()
    def update(self, step: int, codes: Tensor, latents: Tensor, generator: torch.Generator) -> int:
        """Update after an optimiser step, given codes (B, K, L) and latents (B, K*D, L). Returns the codes replaced."""
        replaced = 0
        per_level = latents.detach().float().cpu().unflatten(1, (self.codec.n_codebooks, -1))
        for level, quantizer in enumerate(self.codec.dac.quantizer.quantizers):
            used = torch.unique(codes[:, level].cpu())
            self.last_used[level, used] = step
            if step == self.start_step:
                dead = torch.arange(self.codec.codebook_size)
                self.last_used[level] = step
            elif step > self.start_step:
                dead = torch.nonzero(step - self.last_used[level] > self.patience)[:, 0]
            else:
                continue
            if len(dead):
                vectors = per_level[:, level].transpose(1, 2).flatten(0, 1)
                picks = torch.randint(len(vectors), (len(dead),), generator=generator)
                weight = quantizer.codebook.weight
                weight[dead.to(weight.device)] = vectors[picks].to(weight)
                self.last_used[level, dead] = step
                replaced += len(dead)
        return replaced


class SpectralLoss(nn.Module):
    """Multi-scale spectral losses on waveforms (B, 1, N): "mel", L1 of log-mel spectra (RVQGAN, section 3.4), and
    "convergence", the spectral convergence of Yamamoto et al. 2020 (1910.11480).

    Small windows resolve attacks, large ones pitch. On a log scale a ringing partial weighs no more than the noise
    around it; "convergence" accounts for its loudness.
    """

    def __init__(self, windows: tuple[int, ...] = (128, 256, 512, 1024, 2048, 4096)) -> None:
        super().__init__()
        self.windows = windows
        for n_fft in windows:
            n_mels = max(8, min(100, n_fft // 12))
            self.register_buffer(
                f"mel_{n_fft}",
                melscale_fbanks(n_fft // 2 + 1, 20.0, grid.SAMPLE_RATE / 2, n_mels, grid.SAMPLE_RATE),
                persistent=False,
            )
            self.register_buffer(f"window_{n_fft}", torch.hann_window(n_fft), persistent=False)

    def forward(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        mels, convergences = [], []
        both = torch.cat([estimate, target]).squeeze(1).float()
        for n_fft in self.windows:
            spectrum = torch.stft(
                both, n_fft, n_fft // 4, window=getattr(self, f"window_{n_fft}"), return_complex=True
            )
            power = spectrum.real.square() + spectrum.imag.square() + 1e-10
            level = power.sqrt().transpose(1, 2) / (n_fft / 2)  # a full-scale sine is about 1/2
            # Below -70 dB lies background noise, whose fluctuations would dominate the loss.
            log = torch.log10(torch.matmul(level, getattr(self, f"mel_{n_fft}")).clamp_min(3e-4))
            ours, theirs = log.chunk(2)
            mels.append(F.l1_loss(ours, theirs))
            ours, theirs = level.flatten(1).chunk(2)
            convergences.append(
                ((ours - theirs).abs().sum(1) / (theirs.sum(1) + 1e-4 * theirs[0].numel())).mean()
            )
        return dict(mel=torch.stack(mels).mean(), convergence=torch.stack(convergences).mean())


@torch.no_grad()
def perplexity(codes: Tensor, codebook_size: int) -> list[float]:
    """Perplexity, exp(entropy), of each codebook of codes (B, K, L): codebook_size for uniform use."""
    figures = []
    for level in codes.unbind(1):
        p = torch.bincount(level.flatten(), minlength=codebook_size).float()
        p = p / p.sum()
        figures.append(float(torch.exp(-(p * torch.log(p.clamp_min(1e-12))).sum())))
    return figures


def _check_waveform(waveform: Tensor) -> None:
    if waveform.ndim != 3 or waveform.shape[1] != 1:
        raise ValueError(f"expected a mono waveform (B, 1, N), got {tuple(waveform.shape)}")
    if not torch.isfinite(waveform).all():
        raise ValueError("the waveform holds NaN or infinity")
