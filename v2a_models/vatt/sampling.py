"""Sound under a condition, and away from another: MaskVAT's iterative decoding with VATT's settings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from v2a_models.maskvat.sampling import SamplingConfig, reveal
from v2a_models.vatt.audio import Condition, VATTAudio

PAPER = SamplingConfig(steps=16, guidance=5.0, choice_temperature=25.5, top_k=256)
"""As published (the public code); confidence = log p + 25.5 * (1 - r) * Gumbel noise."""


@torch.inference_mode()
def sample(
    model: VATTAudio,
    condition: Condition,
    length: int,
    seeds: Sequence[int],
    config: SamplingConfig = PAPER,
    known_codes: Tensor | None = None,
    known_mask: Tensor | None = None,
    negative: Condition | None = None,
) -> Tensor:
    """Codes int64 (B, K, length), one seed a row; a row depends on its own condition and seed only.

    Guidance moves away from the condition that says nothing, or from `negative`. Where `known_mask` (bool, B x K x
    length) is True the result equals `known_codes`. Raises ValueError for parts of unlike sizes.
    """
    for part in (condition, *([] if negative is None else [negative])):
        if len(part.tokens) != len(seeds):
            raise ValueError(
                f"{len(seeds)} seeds need conditions of {len(seeds)} rows, got {len(part.tokens)}"
            )
    both = condition
    if config.guidance != 1:
        both = stacked(condition, model.null_condition(condition) if negative is None else negative)
    shape = (model.config.n_codebooks, length, model.config.codebook_size)
    return reveal(
        lambda codes: model(codes, condition if len(codes) == len(seeds) else both),
        shape,
        seeds,
        config,
        model.null.device,
        known_codes,
        known_mask,
    )


def stacked(one: Condition, other: Condition) -> Condition:
    """The rows of both, padded to as many tokens."""
    width = max(one.tokens.shape[1], other.tokens.shape[1])
    tokens, valid = [], []
    for part in (one, other):
        more = width - part.tokens.shape[1]
        tokens.append(torch.nn.functional.pad(part.tokens, (0, 0, 0, more)))
        valid.append(torch.nn.functional.pad(part.valid, (0, more)))
    moments = None
    if one.moments is not None and other.moments is not None:
        moments = torch.cat([one.moments, other.moments])
    modulations = tuple(torch.cat(pair) for pair in zip(one.modulations, other.modulations, strict=True))
    return Condition(torch.cat(tokens), torch.cat(valid), moments, modulations)
