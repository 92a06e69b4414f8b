"""Training loss of MaskVAT: cross entropy on hidden codes (2407.10387, eq. 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from v2a_models.maskvat.masking import masked_share, random_mask
from v2a_models.maskvat.model import MaskVAT


def masked_cross_entropy(logits: Tensor, codes: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross entropy over hidden codes, and per level (K,) without gradient.

    logits (B, K, L, V), codes int64 (B, K, L), hidden bool (B, K, L).
    """
    losses = F.cross_entropy(logits.float().flatten(0, 2), codes.flatten(), reduction="none").view_as(codes)
    weight = hidden.float()
    per_level = (losses * weight).sum((0, 2)) / weight.sum((0, 2)).clamp_min(1)
    return (losses * weight).sum() / weight.sum().clamp_min(1), per_level.detach()


def training_loss(
    model: MaskVAT,
    semantic: Tensor,
    sync: Tensor,
    codes: Tensor,
    generator: torch.Generator,
    drop: float = 0.1,
) -> dict[str, Tensor]:
    """One training pass: a random share of the codes is hidden, 10 % of the rows lose their condition."""
    share = masked_share(torch.rand(len(codes), generator=generator))
    hidden = random_mask(share, torch.rand(codes.shape, generator=generator)).to(codes.device)
    keep = (torch.rand(len(codes), generator=generator) >= drop).to(codes.device)
    condition = model.condition(semantic, sync, codes.shape[-1], keep)
    logits = model(codes.masked_fill(hidden, model.mask_id), model.modulations(condition))
    loss, per_level = masked_cross_entropy(logits, codes, hidden)
    return dict(loss=loss) | {f"level{i}": v for i, v in enumerate(per_level)}
