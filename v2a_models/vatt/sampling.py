"""Conditional sampling for VATT: MaskVAT's iterative decoding with VATT's settings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from v2a_models.maskvat.sampling import SamplingConfig, unmask
from v2a_models.vatt.audio import Condition, VATTAudio

PAPER = SamplingConfig(steps=16, guidance=5.0, choice_temperature=25.5, top_k=256)
"""Published settings (the public code); confidence = log p + 25.5 * (1 - r) * Gumbel noise."""


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
    """Codes int64 (B, K, length), one seed per row; a row depends on its own condition and seed only.

    Guidance moves away from the null condition, or from `negative`. The result equals `known_codes` where `known_mask`
    (bool, B x K x length) is True. Raises ValueError for inputs of different sizes.
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
    return unmask(
        lambda codes: model(codes, condition if len(codes) == len(seeds) else both),
        shape,
        seeds,
        config,
        model.null.device,
        known_codes,
        known_mask,
    )


def stacked(one: Condition, other: Condition) -> Condition:
    """Stack the rows of two conditions, padded to the same number of tokens."""
    width = max(one.tokens.shape[1], other.tokens.shape[1])
    tokens, valid = [], []
    for part in (one, other):
        more = width - part.tokens.shape[1]
        tokens.append(torch.nn.functional.pad(part.tokens, (0, 0, 0, more)))
        valid.append(torch.nn.functional.pad(part.valid, (0, more)))
    timing = None
    if one.timing is not None and other.timing is not None:
        timing = torch.cat([one.timing, other.timing])
    modulations = tuple(torch.cat(pair) for pair in zip(one.modulations, other.modulations, strict=True))
    return Condition(torch.cat(tokens), torch.cat(valid), timing, modulations)
