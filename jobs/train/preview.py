"""Previews of a model in training: sounds of a few fixed windows, and captions where it writes some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from v2a_models import pcm

if TYPE_CHECKING:
    from v2a_models.generator import Generator

N_SOUNDS = 2
"""Windows to generate sound for at every validation."""
N_CAPTIONS = 8
"""Windows to caption at every validation."""


def n_previewed(generator: Generator) -> int:
    """Number of windows that the previews need."""
    return max(N_SOUNDS, N_CAPTIONS if generator.writes_captions else 0)


def sounds(generator: Generator, batch: Mapping[str, Any], clips: Sequence[str]) -> dict[str, Any]:
    """Columns `generated` and `true` of the first windows: generated and original sound, int16 (B, channels, samples).

    The original is decoded from the store's codes or taken from its waveforms; None where it has neither.
    """
    import torch

    batch, clips = {name: column[:N_SOUNDS] for name, column in batch.items()}, clips[:N_SOUNDS]
    codec, true = generator.codec, None
    with torch.inference_mode():
        generated = _pcm(generator.generate(generator.preview(batch), seeds=list(range(len(clips)))))
        if codec is not None and "codes" in batch:
            true = _pcm(codec.decode(batch["codes"], generator.recipe.window))
        elif "waveform" in batch:
            true = batch["waveform"][..., : generated.shape[-1]].cpu().numpy()
    return dict(clips=clips, rate=generator.recipe.sample_rate, generated=generated, true=true)


def captions(
    generator: Generator, batch: Mapping[str, Any], clips: Sequence[str], step: int
) -> dict[str, list[Any]]:
    """Columns of a table: step, clip, the caption of the store (empty without one), and the generated one."""
    import torch

    n = min(N_CAPTIONS, len(clips))
    with torch.inference_mode():
        generated = generator.captions(
            generator.preview({name: column[:n] for name, column in batch.items()})
        )
    true = list(batch.get("text") or [""] * n)[:n]
    return dict(step=[step] * n, clip=list(clips[:n]), reference=true, generated=generated)


def _pcm(sound: Any) -> np.ndarray:
    """Samples as int16 (B, channels, samples)."""
    return pcm.quantise(np.nan_to_num(sound.float().cpu().numpy()))
