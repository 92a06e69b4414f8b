"""Training task of the small codec: multi-scale spectral losses and a discriminator at three resolutions.

The discriminator is descript-audio-codec's complex multi-band spectrogram discriminator, with the losses of RVQGAN
(Kumar et al. 2023, section 3.4: least squares, feature matching). The published model also uses multi-period
discriminators, whose layers of up to 1024 channels are too slow on a CPU.
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from dac.model.discriminator import Discriminator
from torch import Tensor, nn

from v2a_models.codec.dac import Codec, SpectralLoss

MEL, CONVERGENCE, WAVE, FEATURES, ADVERSARY = 10.0, 5.0, 15.0, 2.0, 1.0
"""Weights of the losses. A large spectral weight keeps the codebooks of a small codec in use; the waveform loss keeps
low tones, which a mel scale hardly resolves and which distinguish a drum from a clap."""

DISCRIMINATED = 4
"""Rows of a batch given to the discriminator; all rows would double the cost of a step."""


class CodecTask(nn.Module):
    """Waveforms (B, 1, N), N a multiple of 512 -> losses of codec and discriminator, for one optimiser."""

    def __init__(self, codec: Codec, adversarial: bool) -> None:
        super().__init__()
        self.codec, self.spectral = codec, SpectralLoss()
        self.adversary: nn.Module | None = None
        if adversarial:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                self.adversary = Discriminator(periods=[], fft_sizes=[2048, 1024, 512])

    def forward(self, target: Tensor) -> dict[str, Tensor]:
        """Scalars "loss" and its parts; "codes" (B, K, L) and "latents" of the batch, for `CodebookKeeper`."""
        out = self.codec(target)
        estimate = out["waveform"].float()
        spectra, wave = self.spectral(estimate, target), (estimate - target).abs().mean()
        quantised = out["codebook_loss"].float() + 0.25 * out["commitment_loss"].float()
        loss = MEL * spectra["mel"] + CONVERGENCE * spectra["convergence"] + WAVE * wave + quantised
        parts = {name: value.detach() for name, value in spectra.items()} | dict(wave=wave.detach())
        if self.adversary is not None:
            generated, real, fake = self._discriminate(estimate[:DISCRIMINATED], target[:DISCRIMINATED])
            features = _features_differ(generated, real)
            fooled = torch.stack([(1 - scale[-1]).square().mean() for scale in generated]).sum()
            mistakes = [
                r[-1].sub(1).square().mean() + f[-1].square().mean() for r, f in zip(real, fake, strict=True)
            ]
            discrimination = torch.stack(mistakes).sum()
            loss = loss + FEATURES * features + ADVERSARY * fooled + discrimination
            parts |= dict(features=features.detach(), fooled=fooled.detach(), told=discrimination.detach())
        return dict(loss=loss, **parts, codes=out["codes"], latents=out["latents"])

    def _discriminate(self, estimate: Tensor, target: Tensor) -> tuple[list[list[Tensor]], ...]:
        """Discriminator outputs: for the estimate (codec loss), the truth and the estimate (discriminator loss)."""
        assert self.adversary is not None
        # Frozen for the codec's loss, so that the discriminator does not learn to be fooled.
        self.adversary.requires_grad_(False)
        generated = self.adversary(estimate)
        self.adversary.requires_grad_(True)
        return generated, self.adversary(target), self.adversary(estimate.detach())


def _features_differ(generated: list[list[Tensor]], real: list[list[Tensor]]) -> Tensor:
    """Mean absolute difference of the discriminator's features, summed over resolutions and layers."""
    pairs = [
        (a, b)
        for ours, theirs in zip(generated, real, strict=True)
        for a, b in zip(ours[:-1], theirs[:-1], strict=True)
    ]
    return torch.stack([F.l1_loss(a.float(), b.detach().float()) for a, b in pairs]).mean()
