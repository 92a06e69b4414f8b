"""3D VQ-VAE of frames, and a fully connected decoder from its codes to the waveform (2404.17608).

Stage 1 learns to reconstruct frames through a codebook. Stage 2, with that encoder frozen, learns to map the flattened
codes of a window to its whole waveform, by mean squared error. The authors report no usable sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_models.raw import sound
from v2a_models.raw.video_context import pixels

SHRINK = 4
"""Frames, rows and columns per code: two convolutions of stride two ("two repetitions of 3D convolution and ReLU")."""
STAGES = (1, 2)
LOSSES = ("mse", "mae", "signed-cross-entropy")
COLLAPSED = 0.05
"""A codebook has collapsed when perplexity / size falls below this."""


@dataclass(frozen=True)
class VQVAEConfig:
    """Sizes and training stage. The paper publishes no sizes."""

    stage: int = 1
    """Training stage: 1 for the VQ-VAE of frames, 2 for the sound decoder, with the VQ-VAE frozen."""
    width: int = 32
    codebook_size: int = 256
    code_dim: int = 8
    commitment: float = 0.25
    """Weight of the encoder's distance to its codes (VQ-VAE, 1711.00937, eq. 3)."""
    decay: float = 0.95
    """Decay of the running averages that the codes follow (1711.00937, appendix A.1)."""
    revive: float = 0.1
    """Codes used less often than this fraction of uniform use are moved to an encoder output."""
    hidden: tuple[int, ...] = (128,)
    """Widths of the sound decoder's hidden layers."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if self.stage not in STAGES:
            raise ValueError(f"stage must be 1 or 2, not {self.stage!r}")
        if min((self.width, self.codebook_size, self.code_dim, *self.hidden)) < 1:
            raise ValueError("width, codebook_size, code_dim and hidden must be at least 1")


SIZES: dict[str, dict[str, Any]] = {
    "mini": dict(),
    "base": dict(width=128, codebook_size=1024, code_dim=16, hidden=(512, 512)),
    "large": dict(width=256, codebook_size=4096, code_dim=32, hidden=(1024, 1024, 1024)),
}


class Quantiser(nn.Module):
    """Vector quantiser whose codes follow running averages of the vectors assigned to them.

    In training every call updates the codebook, and dead codes are moved to vectors of the batch. Processes share
    their counts, so that all keep the same codebook.
    """

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("codes", torch.zeros(config.codebook_size, config.code_dim))
        self.register_buffer("sums", torch.zeros(config.codebook_size, config.code_dim))
        self.register_buffer("counts", torch.zeros(config.codebook_size))
        self.register_buffer("begun", torch.zeros(()))
        self.codes: Tensor
        self.sums: Tensor
        self.counts: Tensor
        self.begun: Tensor

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise x (N, D): codes (N, D) with straight-through gradients, commitment loss, perplexity.

        generator: selects the vectors for dead codes; None leaves the codebook unchanged.
        """
        x = x.float()
        moving = self.training and generator is not None
        if moving and not self.begun:
            self._begin(x.detach(), generator)
        nearest = torch.cdist(x.detach(), self.codes).argmin(1)
        used = torch.bincount(nearest, minlength=len(self.codes)).float()
        if moving:
            self._move(x.detach(), nearest, used.clone(), generator)
        fraction = used / used.sum()
        perplexity = torch.exp(-(fraction * torch.log(fraction + 1e-10)).sum())
        quantised = self.codes[nearest]
        commitment = F.mse_loss(x, quantised)
        return x + (quantised - x).detach(), commitment, perplexity

    def _sample(self, x: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
        picks = torch.randint(len(x), (n,), generator=generator).to(x.device)
        chosen = x[picks] + 0.01 * x.std() * torch.randn(n, x.shape[1], generator=generator).to(x.device)
        if dist.is_initialized():
            dist.broadcast(chosen, 0)
        return chosen

    def _begin(self, x: Tensor, generator: torch.Generator | None) -> None:
        self.codes.copy_(self._sample(x, len(self.codes), generator))
        self.sums.copy_(self.codes)
        self.counts.fill_(1)
        self.begun.fill_(1)

    def _move(self, x: Tensor, nearest: Tensor, used: Tensor, generator: torch.Generator | None) -> None:
        sums = torch.zeros_like(self.sums).index_add_(0, nearest, x)
        if dist.is_initialized():
            dist.all_reduce(sums)
            dist.all_reduce(used)
        decay = self.config.decay
        self.counts.mul_(decay).add_(used, alpha=1 - decay)
        self.sums.mul_(decay).add_(sums, alpha=1 - decay)
        due = self.counts.sum() / len(self.counts)
        dead = self.counts < self.config.revive * due
        fresh = self._sample(x, len(self.codes), generator)
        # Twice the required use: a code that finds no use at its new place is soon moved again.
        start = 2 * self.config.revive * due
        self.counts.copy_(torch.where(dead, start, self.counts))
        self.sums.copy_(torch.where(dead[:, None], fresh * start, self.sums))
        self.codes.copy_(self.sums / self.counts[:, None])


class VQVAE(nn.Module):
    """Autoencoder: frames -> codes -> frames."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        w = config.width
        self.config = config
        self.encoder = nn.Sequential(
            nn.Conv3d(3, w, 4, 2, 1), nn.ReLU(), nn.Conv3d(w, 2 * w, 4, 2, 1), nn.ReLU(),
            nn.Conv3d(2 * w, config.code_dim, 1),
        )  # fmt: skip
        self.quantiser = Quantiser(config)
        self.decoder = nn.Sequential(
            nn.Conv3d(config.code_dim, 2 * w, 3, 1, 1), nn.ReLU(),
            nn.ConvTranspose3d(2 * w, w, 4, 2, 1), nn.ReLU(), nn.ConvTranspose3d(w, 3, 4, 2, 1),
        )  # fmt: skip

    def encode(
        self, frames: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode frames uint8 (B, T, H, W, 3): quantised (B, D, T/4, H/4, W/4), commitment loss, perplexity.

        Sides are padded to multiples of 4 by repeating the last frame, row or column.
        """
        x = self.encoder(_whole(pixels(frames)))
        flat = x.movedim(1, -1)
        quantised, commitment, perplexity = self.quantiser(flat.flatten(0, -2), generator)
        return quantised.view(flat.shape).movedim(-1, 1), commitment, perplexity

    def rebuild(self, quantised: Tensor, like: Tensor) -> Tensor:
        """Reconstruct frames, float (B, 3, T, H, W) in [-1, 1], cropped to the size of `like` uint8 (B, T, H, W, 3)."""
        t, h, w = like.shape[1:4]
        return self.decoder(quantised)[:, :, :t, :h, :w]

    def forward(self, frames: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        quantised, commitment, perplexity = self.encode(frames, generator)
        rebuilt = F.mse_loss(self.rebuild(quantised, frames).float(), pixels(frames))
        loss = rebuilt + self.config.commitment * commitment
        return dict(loss=loss, rebuilt=rebuilt, commitment=commitment, perplexity=perplexity)


def _whole(x: Tensor) -> Tensor:
    t, h, w = (-side % SHRINK for side in x.shape[2:])
    return F.pad(x, (0, w, 0, h, 0, t), mode="replicate") if t or h or w else x


class SoundDecoder(nn.Module):
    """Sound decoder: flattened codes of a window -> its waveform, by linear layers and a final tanh."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], channels: int, samples: int) -> None:
        super().__init__()
        widths = [inputs, *hidden]
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], channels * samples))
        self.channels = channels

    def forward(self, codes: Tensor) -> Tensor:
        """Waveform (B, channels, samples) in [-1, 1] of codes (B, ...)."""
        return self.layers(codes.flatten(1)).tanh().unflatten(1, (self.channels, -1))


class VQVAESound(nn.Module):
    """VQ-VAE and sound decoder: frames -> codes -> waveform of a window.

    shape: T, H, W of a window's frames. samples: per window.
    """

    def __init__(
        self, config: VQVAEConfig, shape: tuple[int, int, int], *, loss: str, channels: int, samples: int
    ) -> None:
        super().__init__()
        sound.check_loss(loss, LOSSES, channels)
        self.config, self.loss = config, loss
        self.vqvae = VQVAE(config)
        cells = 1
        for side in shape:
            cells *= -(-side // SHRINK)
        self.decoder = SoundDecoder(cells * config.code_dim, config.hidden, channels, samples)

    def task(self) -> nn.Module:
        """Trainable module of the current stage."""
        return self.vqvae if self.config.stage == 1 else _Second(self)

    @torch.no_grad()
    def codes(self, frames: Tensor) -> Tensor:
        return self.vqvae.encode(frames)[0]

    @torch.inference_mode()
    def generate(self, frames: Tensor) -> Tensor:
        """Waveform float32 (B, channels, samples) of a window's frames, uint8 (B, T, H, W, 3)."""
        return self.decoder(self.codes(frames)).float()


class _Second(nn.Module):
    """Training task of stage 2, with only the sound decoder among its parameters."""

    def __init__(self, whole: VQVAESound) -> None:
        super().__init__()
        self.decoder = whole.decoder
        self._codes, self._loss = whole.codes, whole.loss

    def forward(
        self, frames: Tensor, waveform: Tensor, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        predicted = self.decoder(self._codes(frames))
        true = sound.to_float(waveform)[..., : predicted.shape[-1]]
        return sound.prediction_losses(self._loss, predicted.transpose(1, 2), true.transpose(1, 2))
