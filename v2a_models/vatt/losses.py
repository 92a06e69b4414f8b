"""Training loss of VATT Audio (2411.05679, section 3): cross entropy over masked codes, with label smoothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from v2a_models.maskvat.masking import random_mask
from v2a_models.vatt.audio import VATTAudio
from v2a_models.vatt.masking import Masking

SMOOTHING = 0.1
"""Label smoothing (the public code)."""
DROPPED = 0.1
"""Fraction of rows that lose their condition (the public code)."""

TAUGHT = 0.75
"""Weight of the teacher's soft targets; the rest is that of the codes. Ours."""

Teacher = Callable[[Tensor, Tensor], Tensor]
"""Trained model of the same codes: masked codes (B, K, L) and rows that keep their condition, bool (B,) -> logits."""


def smoothed_cross_entropy(
    logits: Tensor, codes: Tensor, hidden: Tensor, smoothing: float = SMOOTHING
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean cross entropy over masked codes: with smoothed labels, without, and without per codebook (K,). Only the
    first has a gradient.

    logits (B, K, L, V), codes int64 (B, K, L), hidden bool (B, K, L), at least one of them.
    """
    flat = logits.float()[hidden]
    true = codes[hidden]
    loss = F.cross_entropy(flat, true, label_smoothing=smoothing)
    with torch.no_grad():
        plain = F.cross_entropy(flat, true, reduction="none")
        codebook = torch.arange(codes.shape[1], device=codes.device)[None, :, None].expand_as(codes)[hidden]
        ones = torch.ones_like(plain)
        zeros = plain.new_zeros(codes.shape[1])
        per_codebook = zeros.index_add(0, codebook, plain) / zeros.index_add(0, codebook, ones).clamp_min(1)
    return loss, plain.mean(), per_codebook


def divergence(wanted: Tensor, logits: Tensor, hidden: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of the predicted from the wanted codes, over masked ones.

    wanted and logits (B, K, L, V): logits; hidden bool (B, K, L), at least one of them.
    """
    target, predicted = (x.float()[hidden].log_softmax(-1) for x in (wanted.detach(), logits))
    return F.kl_div(predicted, target, reduction="batchmean", log_target=True)


def training_loss(
    model: VATTAudio,
    tokens: Tensor,
    valid: Tensor,
    sync: Tensor | None,
    codes: Tensor,
    generator: torch.Generator,
    masking: Masking = Masking(),
    progress: float = 0.0,
    drop: float = DROPPED,
    teacher: Teacher | None = None,
) -> dict[str, Tensor]:
    """One training pass: one fraction of the codes is masked in all rows, 10 % of the rows lose their condition.

    tokens (B, C, condition_dim) and valid bool (B, C): the condition. codes int64 (B, K, L); codebooks beyond the
    model's are ignored. With a teacher, the divergence from it is `TAUGHT` of the loss (distillation, 1503.02531).
    Returns scalars: "loss" and its parts.
    """
    codes = codes[:, : model.config.n_codebooks]
    fraction = masking.fraction(float(torch.rand((), generator=generator, dtype=torch.float64)), progress)
    noise = torch.rand(codes.shape, generator=generator)
    hidden = random_mask(torch.full((len(codes),), fraction), noise).to(codes.device)
    keep = (torch.rand(len(codes), generator=generator) >= drop).to(codes.device)
    condition = model.condition(tokens, valid, sync, codes.shape[-1], keep)
    masked = codes.masked_fill(hidden, model.mask_id)
    logits = model(masked, condition)
    loss, plain, per_codebook = smoothed_cross_entropy(logits, codes, hidden)
    parts = {f"level{i}": value for i, value in enumerate(per_codebook)}
    if teacher is not None:
        parts["teacher"] = divergence(teacher(masked, keep), logits, hidden)
        loss = (1 - TAUGHT) * loss + TAUGHT * parts["teacher"]
    # The null condition always takes part: a parameter without gradient stops data-parallel training.
    return dict(loss=loss + 0 * model.null.sum(), codes=plain, **parts)
