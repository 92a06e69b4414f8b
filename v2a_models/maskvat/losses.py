"""Training losses of MaskVAT (2407.10387, section 3): masked codes, and audio features predicted from the video."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from v2a_models.maskvat.masking import masked_fraction, random_mask
from v2a_models.maskvat.model import MaskVAT

REGRESSION, CONTRAST = 1.0, 0.1
"""Weights of the semantic terms beside the cross entropy. The paper has both terms and publishes no weights."""

CONTRASTED_STEPS = 1024
"""Maximum number of time steps contrasted per batch: their similarities are a square matrix."""


def masked_cross_entropy(logits: Tensor, codes: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross entropy over masked codes (eq. 2), and per codebook (K,) without gradient.

    logits (B, K, L, V), codes int64 (B, K, L), hidden bool (B, K, L).
    """
    losses = F.cross_entropy(logits.float().flatten(0, 2), codes.flatten(), reduction="none").view_as(codes)
    weight = hidden.float()
    per_codebook = (losses * weight).sum((0, 2)) / weight.sum((0, 2)).clamp_min(1)
    return (losses * weight).sum() / weight.sum().clamp_min(1), per_codebook.detach()


def audio_prediction_losses(predicted: Tensor, audio: Tensor) -> dict[str, Tensor]:
    """Losses of audio features predicted from the video: regression and contrast.

    predicted (B, L, D) is averaged over each time step of audio (B, T, D). The latter is layer-normalised first, so
    that the losses weigh the same for any audio encoder. Regression: mean squared error. Contrast: each step must find
    its own among the steps of the batch, both ways (InfoNCE, temperature 0.1).
    """
    steps = F.adaptive_avg_pool1d(predicted.float().transpose(1, 2), audio.shape[1]).transpose(1, 2)
    target = F.layer_norm(audio.float(), audio.shape[-1:])
    every = -(-steps.shape[0] * steps.shape[1] // CONTRASTED_STEPS)
    a = F.normalize(steps.flatten(0, 1)[::every], dim=-1)
    b = F.normalize(target.flatten(0, 1)[::every], dim=-1)
    similarity = a @ b.T / 0.1
    own = torch.arange(len(a), device=a.device)
    contrast = (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2
    return dict(regression=F.mse_loss(steps, target), contrast=contrast)


def training_loss(
    model: MaskVAT,
    semantic: Tensor | None,
    sync: Tensor | None,
    codes: Tensor,
    generator: torch.Generator,
    *,
    audio: Tensor | None = None,
    drop: float = 0.1,
) -> dict[str, Tensor]:
    """One training pass: a random fraction of the codes is masked, 10 % of the rows lose their condition.

    codes int64 (B, K, L); codebooks beyond the model's are ignored. audio (B, T, D): audio features of the true sound,
    for variants whose encoder predicts them. Returns scalars: "loss" and its parts.
    """
    codes = codes[:, : model.config.n_codebooks]
    fraction = masked_fraction(torch.rand(len(codes), generator=generator))
    hidden = random_mask(fraction, torch.rand(codes.shape, generator=generator)).to(codes.device)
    keep = (torch.rand(len(codes), generator=generator) >= drop).to(codes.device)
    condition = model.condition(semantic, sync, codes.shape[-1], keep)
    logits = model(codes.masked_fill(hidden, model.mask_id), model.conditionings(condition))
    loss, per_codebook = masked_cross_entropy(logits, codes, hidden)
    parts = dict(codes=loss.detach()) | {f"level{i}": v for i, v in enumerate(per_codebook)}
    if model.audio_head is not None:
        predicted = model.audio_head(condition)
        if audio is None:
            # The head must stay in the graph: a parameter without gradient stops data-parallel training.
            return dict(loss=loss + 0 * predicted.float().sum(), **parts)
        # Rows without a condition cannot predict anything; zeroing them keeps the shapes fixed.
        terms = audio_prediction_losses(predicted * keep[:, None, None], audio * keep[:, None, None])
        loss = loss + REGRESSION * terms["regression"] + CONTRAST * terms["contrast"]
        parts |= {name: term.detach() for name, term in terms.items()}
    return dict(loss=loss, **parts)
