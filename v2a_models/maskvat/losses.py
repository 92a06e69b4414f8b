"""Training losses of MaskVAT (2407.10387, section 3): hidden codes, and what the encoded video says about the sound."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from v2a_models.maskvat.masking import masked_share, random_mask
from v2a_models.maskvat.model import MaskVAT

REGRESSION, CONTRAST = 1.0, 0.1
"""Weights of the semantic terms beside the cross entropy; the paper has both terms and publishes no weights."""

MOMENTS = 1024
"""At most so many moments of a batch are told apart: their likeness is a square matrix."""


def masked_cross_entropy(logits: Tensor, codes: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross entropy over hidden codes (eq. 2), and per level (K,) without gradient.

    logits (B, K, L, V), codes int64 (B, K, L), hidden bool (B, K, L).
    """
    losses = F.cross_entropy(logits.float().flatten(0, 2), codes.flatten(), reduction="none").view_as(codes)
    weight = hidden.float()
    per_level = (losses * weight).sum((0, 2)) / weight.sum((0, 2)).clamp_min(1)
    return (losses * weight).sum() / weight.sum().clamp_min(1), per_level.detach()


def foretelling(foretold: Tensor, heard: Tensor) -> dict[str, Tensor]:
    """How well the encoded video foretells the audio features of the true sound: regression and contrast.

    foretold (B, L, D) is averaged over the span of each moment of heard (B, T, D), which is layer-normalised first,
    so that the terms weigh the same for any audio encoder. Regression: mean squared error. Contrast: each moment
    must find its own among the batch's moments, both ways (InfoNCE, temperature 0.1).
    """
    moments = F.adaptive_avg_pool1d(foretold.float().transpose(1, 2), heard.shape[1]).transpose(1, 2)
    target = F.layer_norm(heard.float(), heard.shape[-1:])
    every = -(-moments.shape[0] * moments.shape[1] // MOMENTS)
    a = F.normalize(moments.flatten(0, 1)[::every], dim=-1)
    b = F.normalize(target.flatten(0, 1)[::every], dim=-1)
    likeness = a @ b.T / 0.1
    own = torch.arange(len(a), device=a.device)
    contrast = (F.cross_entropy(likeness, own) + F.cross_entropy(likeness.T, own)) / 2
    return dict(regression=F.mse_loss(moments, target), contrast=contrast)


def training_loss(
    model: MaskVAT,
    semantic: Tensor | None,
    sync: Tensor | None,
    codes: Tensor,
    generator: torch.Generator,
    *,
    heard: Tensor | None = None,
    drop: float = 0.1,
) -> dict[str, Tensor]:
    """One training pass: a random share of the codes is hidden, 10 % of the rows lose their condition.

    codes int64 (B, K, L); levels beyond the model's are left out. heard (B, T, D): audio features of the true sound,
    for variants whose encoder foretells them. Gives scalars: "loss" and its parts.
    """
    codes = codes[:, : model.config.n_codebooks]
    share = masked_share(torch.rand(len(codes), generator=generator))
    hidden = random_mask(share, torch.rand(codes.shape, generator=generator)).to(codes.device)
    keep = (torch.rand(len(codes), generator=generator) >= drop).to(codes.device)
    condition = model.condition(semantic, sync, codes.shape[-1], keep)
    logits = model(codes.masked_fill(hidden, model.mask_id), model.influences(condition))
    loss, per_level = masked_cross_entropy(logits, codes, hidden)
    parts = dict(codes=loss.detach()) | {f"level{i}": v for i, v in enumerate(per_level)}
    if model.audio_head is not None:
        foretold = model.audio_head(condition)
        if heard is None:
            # Keeps the head in the graph: a parameter without gradient stops data-parallel training.
            return dict(loss=loss + 0 * foretold.float().sum(), **parts)
        # Rows without a condition have nothing to foretell from; scaling them to zero keeps the shapes fixed.
        terms = foretelling(foretold * keep[:, None, None], heard * keep[:, None, None])
        loss = loss + REGRESSION * terms["regression"] + CONTRAST * terms["contrast"]
        parts |= {name: term.detach() for name, term in terms.items()}
    return dict(loss=loss, **parts)
