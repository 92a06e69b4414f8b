"""Iterative decoding: all codes start masked, the most confident are unmasked step by step (MaskGIT; 2407.10387 §3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from v2a_models.maskvat.blocks import Conditioning
from v2a_models.maskvat.masking import hidden_after, lowest
from v2a_models.maskvat.model import MaskVAT
from v2a_models.seeds import RowNoise


@dataclass(frozen=True)
class SamplingConfig:
    """Sampling parameters. MaskVAT publishes none; these are tuned on held-out SynthFoley."""

    steps: int = 8
    """Passes through the transformer for a window without known codes; fewer if some are known (`steps_for`). On
    held-out SynthFoley 16 are no better than 8 (docs/experiments.md)."""
    guidance: float = 1.0
    """Scale of classifier-free guidance: 1 uses the condition as is, at half the cost; more exaggerates it. On
    SynthFoley, whose sounds follow from the video, more lowers the class match and hardly improves onsets."""
    guided: float = 1.0
    """Fraction of the steps, from the first on, with guidance. The sound is decided early; later steps hardly depend on
    the condition, and cost half without guidance."""
    temperature: float = 1.0
    """Temperature of the code distribution."""
    choice_temperature: float = 4.0
    """Scale of the Gumbel noise on the confidence, annealed to 0: varies the order in which codes are unmasked."""
    top_k: int = 0
    """Number of most likely codes to draw from; 0 for all."""


@torch.inference_mode()
def sample(
    model: MaskVAT,
    semantic: Tensor | None,
    sync: Tensor | None,
    length: int,
    seeds: Sequence[int],
    config: SamplingConfig = SamplingConfig(),
    known_codes: Tensor | None = None,
    known_mask: Tensor | None = None,
    negative: tuple[Tensor | None, Tensor | None] | None = None,
) -> Tensor:
    """Codes int64 (B, K, length) for the features of B windows.

    The result equals `known_codes` where `known_mask` (bool, B x K x length) is True. Guidance moves away from the
    null condition, or from `negative`: semantic and sync features of B windows. A row depends on its own features and
    seed only.

    Raises ValueError for inputs of different sizes.
    """
    batch, device = len(seeds), model.null.device
    for features in (semantic, sync, *(negative or ())):
        if features is not None and len(features) != batch:
            raise ValueError(f"{batch} seeds need features of {batch} rows, got {len(features)}")
    conditions = [model.condition(semantic, sync, length)]
    if config.guidance != 1:
        against = (
            model.null_condition(batch, length) if negative is None else model.condition(*negative, length)
        )
        conditions.append(against.to(conditions[0].dtype))
    both = model.conditionings(torch.cat(conditions))
    alone = [Conditioning(*(None if part is None else part[:batch] for part in block)) for block in both]
    shape = (model.config.n_codebooks, length, model.config.codebook_size)

    def predict(codes: Tensor) -> Tensor:
        return model(codes, alone if len(codes) == batch else both)

    return unmask(predict, shape, seeds, config, device, known_codes, known_mask)


@torch.inference_mode()
def unmask(
    predict: Callable[[Tensor], Tensor],
    shape: tuple[int, int, int],
    seeds: Sequence[int],
    config: SamplingConfig,
    device: torch.device | str = "cpu",
    known_codes: Tensor | None = None,
    known_mask: Tensor | None = None,
) -> Tensor:
    """Codes int64 (B, K, L) from any model of masked codes; `shape` is (K, L, V), one row per seed.

    predict: maps codes (B, K, L), hidden ones set to V, to logits (B, K, L, V). In guided steps it gets every row twice
    and returns the conditional logits first, then those to move away from. Known codes are kept as in `sample`.
    Raises ValueError for inputs of different sizes.
    """
    codebooks, length, size = shape
    noise = RowNoise(seeds)
    codes = torch.full((len(seeds), codebooks, length), size, device=device)
    if known_mask is not None:
        if known_codes is None or known_codes.shape != codes.shape or known_mask.shape != codes.shape:
            raise ValueError(f"known_codes and known_mask must both be {tuple(codes.shape)}")
        codes = torch.where(known_mask, known_codes, codes)
    hidden = codes == size
    total = hidden.flatten(1).sum(1).tolist()
    # A number of steps per row: a row must not depend on the others in its batch.
    steps = [steps_for(config.steps, n / (codebooks * length)) for n in total]
    for step in range(1, max(steps) + 1):
        guided = config.guidance != 1 and step <= math.ceil(config.guided * config.steps)
        parts = predict(codes.repeat(2 if guided else 1, 1, 1)).chunk(2 if guided else 1)
        # Logits (N, V) of hidden codes only: known codes are not drawn again.
        logits = parts[0][hidden].float()
        if guided:
            null = parts[1][hidden].float()
            logits = null + config.guidance * (logits - null)
        uniform = noise.uniform(codebooks, length, device=device)[hidden]
        drawn, likelihood = draw_codes(logits / max(config.temperature, 1e-6), uniform, config.top_k)
        codes[hidden] = drawn
        annealed = torch.tensor([config.choice_temperature * max(0.0, 1 - step / n) for n in steps])
        confidence = annealed.to(device)[:, None, None] * noise.gumbel(codebooks, length, device=device)
        confidence[hidden] += likelihood.log()
        still = [hidden_after(min(step, n), n, count) for n, count in zip(steps, total, strict=True)]
        hidden = lowest(confidence, hidden, torch.tensor(still, device=device))
        codes = codes.masked_fill(hidden, size)
    return codes


def steps_for(steps: int, hidden: float) -> int:
    """Steps for a window with a fraction `hidden` of its codes masked: each unmasks as many codes as in a fully masked
    window. At least half of `steps`, since codes drawn in few steps fit together less well."""
    return max(math.ceil(steps / 2), round(steps * hidden))


def draw_codes(logits: Tensor, uniform: Tensor, top_k: int = 0) -> tuple[Tensor, Tensor]:
    """Draw codes int64 (N) from logits (N, V) by one uniform number each (N), with their probabilities (N).

    top_k: number of most likely codes to draw from; 0 for all.
    """
    codes = None
    if 0 < top_k < logits.shape[-1]:
        logits, codes = logits.topk(top_k, -1)
    probabilities = logits.softmax(-1)
    drawn = draw(probabilities, uniform)[..., None]
    likelihood = probabilities.gather(-1, drawn)
    return (drawn if codes is None else codes.gather(-1, drawn))[..., 0], likelihood[..., 0]


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Draw int64 (...) from each distribution (..., V) by one uniform number (...), inverting the cumulative sum.

    The Gumbel trick needs V random numbers per draw, which took a fifth of the sampling time on a CPU.
    """
    summed = probabilities.cumsum(-1)
    passed = summed < uniform[..., None] * summed[..., -1:]
    return passed.sum(-1).clamp_max(probabilities.shape[-1] - 1)
