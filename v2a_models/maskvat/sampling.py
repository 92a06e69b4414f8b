"""Iterative decoding: all codes hidden, the most confident ones revealed step by step (MaskGIT; 2407.10387 §3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from v2a_models.maskvat.blocks import Influence
from v2a_models.maskvat.masking import hidden_after, lowest
from v2a_models.maskvat.model import MaskVAT
from v2a_models.seeds import RowNoise


@dataclass(frozen=True)
class SamplingConfig:
    """How codes are drawn. MaskVAT publishes none of these; they are tuned on held-out SynthFoley."""

    steps: int = 8
    """Passes through the transformer where nothing is known; where part is, as many fewer (`steps_for`). On held-out
    SynthFoley 16 are no better than 8 (docs/experiments.md)."""
    guidance: float = 1.0
    """Classifier-free guidance: 1 follows the condition plainly and costs half, more exaggerates it. On SynthFoley,
    whose sounds follow from their pictures, exaggeration costs class match and gains hardly any onset."""
    guided: float = 1.0
    """Share of the steps, from the first on, in which guidance acts. What is heard is decided early; later steps, which
    cost half without it, hardly look at what was asked."""
    temperature: float = 1.0
    """Of the codes' distribution."""
    choice_temperature: float = 4.0
    """Gumbel noise on the confidence, annealed to 0 over the steps: variety in which codes come first."""
    top_k: int = 0
    """Draw from the k most likely codes only; 0 for all."""


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

    Where `known_mask` (bool, B x K x length) is True the result equals `known_codes`, whatever else is drawn.
    Guidance moves away from the null condition, or from `negative`: semantic and sync features of B windows that the
    sound should not fit. A row depends on its own features and seed only, not on the rows beside it.

    Raises ValueError for parts of unlike sizes.
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
    both = model.influences(torch.cat(conditions))
    alone = [Influence(*(None if part is None else part[:batch] for part in influence)) for influence in both]
    shape = (model.config.n_codebooks, length, model.config.codebook_size)

    def predict(codes: Tensor) -> Tensor:
        return model(codes, alone if len(codes) == batch else both)

    return reveal(predict, shape, seeds, config, device, known_codes, known_mask)


@torch.inference_mode()
def reveal(
    predict: Callable[[Tensor], Tensor],
    shape: tuple[int, int, int],
    seeds: Sequence[int],
    config: SamplingConfig,
    device: torch.device | str = "cpu",
    known_codes: Tensor | None = None,
    known_mask: Tensor | None = None,
) -> Tensor:
    """Codes int64 (B, K, L) from any model of hidden codes; `shape` is (K, L, V), a row per seed.

    predict: codes with hidden ones set to V, (B, K, L), or in guided steps (2B, K, L), each row twice, -> logits
    (..., K, L, V), first those under the condition, then those to move away from. Known codes as for `sample`.
    Raises ValueError for parts of unlike sizes.
    """
    levels, length, size = shape
    noise = RowNoise(seeds)
    codes = torch.full((len(seeds), levels, length), size, device=device)
    if known_mask is not None:
        if known_codes is None or known_codes.shape != codes.shape or known_mask.shape != codes.shape:
            raise ValueError(f"known_codes and known_mask must both be {tuple(codes.shape)}")
        codes = torch.where(known_mask, known_codes, codes)
    hidden = codes == size
    total = hidden.flatten(1).sum(1).tolist()
    # Each row has its own number, whatever the others have: it must not depend on its company.
    steps = [steps_for(config.steps, n / (levels * length)) for n in total]
    for step in range(1, max(steps) + 1):
        guided = config.guidance != 1 and step <= math.ceil(config.guided * config.steps)
        parts = predict(codes.repeat(2 if guided else 1, 1, 1)).chunk(2 if guided else 1)
        # Of hidden codes only (N, V): what is known is not drawn again.
        logits = parts[0][hidden].float()
        if guided:
            null = parts[1][hidden].float()
            logits = null + config.guidance * (logits - null)
        uniform = noise.uniform(levels, length, device=device)[hidden]
        drawn, likelihood = likely(logits / max(config.temperature, 1e-6), uniform, config.top_k)
        codes[hidden] = drawn
        annealed = torch.tensor([config.choice_temperature * max(0.0, 1 - step / n) for n in steps])
        confidence = annealed.to(device)[:, None, None] * noise.gumbel(levels, length, device=device)
        confidence[hidden] += likelihood.log()
        still = [hidden_after(min(step, n), n, count) for n, count in zip(steps, total, strict=True)]
        hidden = lowest(confidence, hidden, torch.tensor(still, device=device))
        codes = codes.masked_fill(hidden, size)
    return codes


def steps_for(steps: int, hidden: float) -> int:
    """Of `steps` those that a share of a window's codes takes: each reveals as many as where all are hidden. At least
    half, since what is drawn in few steps fits less well together."""
    return max(math.ceil(steps / 2), round(steps * hidden))


def likely(logits: Tensor, uniform: Tensor, top_k: int = 0) -> tuple[Tensor, Tensor]:
    """Draws of distributions (N, V) with one uniform number each (N): codes int64 (N) and their probabilities (N).

    top_k: of so many likeliest codes only; 0 for all.
    """
    codes = None
    if 0 < top_k < logits.shape[-1]:
        logits, codes = logits.topk(top_k, -1)
    probabilities = logits.softmax(-1)
    drawn = draw(probabilities, uniform)[..., None]
    likelihood = probabilities.gather(-1, drawn)
    return (drawn if codes is None else codes.gather(-1, drawn))[..., 0], likelihood[..., 0]


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Draws from each distribution (..., V) with one uniform number (...): int64 (...), by inverting the sum.

    One number a draw instead of V (Gumbel): a fifth of the sampling time on a CPU went into noise.
    """
    summed = probabilities.cumsum(-1)
    passed = summed < uniform[..., None] * summed[..., -1:]
    return passed.sum(-1).clamp_max(probabilities.shape[-1] - 1)
