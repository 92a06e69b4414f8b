"""The experiments of 2404.17608 with the 3D VQ-VAE: what `benchmarks.raw_experiments vqvae` measures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

from benchmarks import raw_footage as footage
from pipelines import synthfoley
from v2a_models.batch import Batch
from v2a_models.build import new_generator
from v2a_models.raw.sound import to_float
from v2a_models.raw.video_context import pixels
from v2a_models.raw.vqvae import SoundDecoder

WINDOW_S = 2.0
CLIPS = 56
"""Scenes to train on, and half as many to judge by; of one class or spread over all."""


def experiment(name: str, steps: int, device: str = "cpu") -> dict[str, float]:
    """Run the three experiments; `name` is "one class" or "all classes"."""
    from benchmarks.raw_experiments import Settings, fitted

    labels = ["engine"] if name == "one class" else list(synthfoley.CLASSES)
    train, held = (
        {"frames": torch.from_numpy(frames).to(device), "waveform": torch.from_numpy(sound).to(device)}
        for frames, sound in (
            footage.clips(labels, n // len(labels), WINDOW_S, seed)
            for n, seed in ((CLIPS, 11), (CLIPS // 2, 12))
        )
    )
    settings = Settings(steps=steps, batch_size=8, device=device)

    def batch(rng: np.random.Generator) -> dict[str, Tensor]:
        picks = torch.from_numpy(rng.choice(len(train["frames"]), settings.batch_size)).to(device)
        return {column: tensor[picks] for column, tensor in train.items()}

    torch.manual_seed(0)
    first: Any = new_generator("vqvae-fc", footage.recipe(WINDOW_S), "mini")
    learner = fitted(first, batch, settings)
    with learner.averaged():
        scores = rebuilt(first, held["frames"])
        second: Any = first.with_options(stage=2)
    learner = fitted(second, batch, settings)
    with learner.averaged():
        second.eval()
        for part, columns in (("train", train), ("held", held)):
            generated = second.generate(Batch(frames=columns["frames"]), seeds=[])
            true = to_float(columns["waveform"])
            scores[f"{part}_mse"] = float((generated - true).square().mean())
            scores[f"{part}_silence"] = float(true.square().mean())
        scores["held_stft"] = distance(generated, true)
        scores["silence_stft"] = distance(torch.zeros_like(true), true)
    return scores | {"noise_mse": from_noise(to_float(train["waveform"]), steps)}


@torch.no_grad()
def rebuilt(generator: Any, frames: Tensor) -> dict[str, float]:
    """SSIM of held-out frames as they come back, beside that of every frame replaced by its window's first one."""
    generator.eval()
    quantised, _, perplexity = generator.net.vqvae.encode(frames)
    true = pixels(frames)
    back = generator.net.vqvae.rebuild(quantised, frames).clamp(-1, 1)
    still = true[:, :, :1].expand_as(true)

    def similarity(these: Tensor) -> float:
        flat = [part.transpose(1, 2).flatten(0, 1) for part in (these, true)]
        return float(ssim(*flat, data_range=2.0))  # type: ignore[arg-type]

    return dict(perplexity=float(perplexity), ssim=similarity(back), ssim_still=similarity(still))


def from_noise(sounds: Tensor, steps: int) -> float:
    """MSE of a decoder that was trained to give each sound from a noise vector of its own: can it say anything?"""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(sounds), 512, generator=generator).to(sounds.device)
    torch.manual_seed(0)
    decoder: nn.Module = SoundDecoder(512, (128,), sounds.shape[1], sounds.shape[2]).to(sounds.device)
    optimizer = torch.optim.AdamW(decoder.parameters(), 2e-3)
    for _ in range(2 * steps):
        loss = (decoder(noise) - sounds).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def distance(generated: Tensor, true: Tensor) -> float:
    pairs = zip(generated.mean(1).cpu().numpy(), true.mean(1).cpu().numpy(), strict=True)
    return float(np.mean([footage.stft_distance(a, b) for a, b in pairs]))
