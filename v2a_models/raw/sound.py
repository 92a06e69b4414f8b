"""Sample formats (numbers, mu-law classes) and the losses of predicted samples (2308.12408, section III-D4)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from v2a_models import pcm

LEVELS = 256
"""Number of classes of a quantised sample (the paper's "between [0, 255]")."""

MU = LEVELS - 1

LOSSES = ("mu-law", "mse", "mae", "signed-cross-entropy")
"""mu-law: cross entropy over 256 mu-law classes (WaveNet, 1609.03499, section 2.2), the default of models that predict
a distribution. mse, mae: errors of the samples. signed-cross-entropy: the loss of 2308.12408."""


def to_float(waveform: Tensor) -> Tensor:
    """Convert int16 to float32 in [-1, 1]."""
    return waveform.float() / pcm.SYMMETRIC_SCALE


def on_grid(sound: Tensor) -> Tensor:
    """Round samples to 16 bits. A model's own past is rounded in this way, so that generation continues from the same
    numbers when it resumes from a 16-bit file."""
    return (sound.clamp(-1, 1) * pcm.SYMMETRIC_SCALE).round() / pcm.SYMMETRIC_SCALE


def mu_law(sound: Tensor) -> Tensor:
    """Quantise samples in [-1, 1] to classes int64 in [0, 255], finer near zero."""
    bent = sound.sign() * torch.log1p(MU * sound.abs().clamp(max=1)) / math.log1p(MU)
    return ((bent + 1) / 2 * MU + 0.5).long().clamp_(0, MU)


def mu_law_inverse(classes: Tensor) -> Tensor:
    """Samples in [-1, 1] of classes in [0, 255]. `mu_law` returns the same class, also after rounding to 16 bits."""
    bent = classes.float() / MU * 2 - 1
    return bent.sign() * torch.expm1(bent.abs() * math.log1p(MU)) / MU


def signed_cross_entropy(predicted: Tensor, true: Tensor) -> Tensor:
    """Published cross entropy per time step: both (..., channels) in [-1, 1] -> (...).

    2308.12408 (III-D4) gives -sum P(x) log Q(x) with waveforms for P and Q, but signed waveforms have no logarithm.
    Deep-learning libraries compute for float targets the log-softmax over the channels of the prediction, weighted by
    the signed target, which can be negative as in the paper's Table I. We assume that this was used. It is not a proper
    loss: it does not change when all channels move together (the paper's Fig. 11 shows a resting position of 0.6), and
    its gradient vanishes where equal channels (mono) are predicted equal.
    """
    return -(true * F.log_softmax(predicted, -1)).sum(-1)


def check_loss(loss: str, choices: tuple[str, ...], channels: int) -> None:
    """Raises ValueError, with the choices, for an unsuitable loss."""
    if loss not in choices:
        raise ValueError(f"unknown loss {loss!r}: choose one of {list(choices)}")
    if loss == "signed-cross-entropy" and channels < 2:
        raise ValueError("signed-cross-entropy compares channels: it needs a store with stereo sound")


def prediction_losses(
    loss: str, predicted: Tensor, true: Tensor, counts: Tensor | None = None, logits: Tensor | None = None
) -> dict[str, Tensor]:
    """Scalars: "loss" to be minimised, and every point loss for comparison.

    predicted, true: (B, N, channels) in [-1, 1]. counts: float (N,), 0 for time steps that do not count.
    logits: (B, N, channels, 256), for mu-law.
    """

    def mean(each: Tensor) -> Tensor:
        if counts is None:
            return each.mean()
        return (each * counts).sum() / (counts.sum() * each.shape[0])

    parts = {
        "mse": mean((predicted - true).square().mean(-1)),
        "mae": mean((predicted - true).abs().mean(-1)),
    }
    if true.shape[-1] > 1:
        parts["signed-cross-entropy"] = mean(signed_cross_entropy(predicted, true))
    if logits is not None:
        classes = mu_law(true)
        each = F.cross_entropy(logits.flatten(0, -2).float(), classes.flatten(), reduction="none")
        parts["mu-law"] = mean(each.view(classes.shape).mean(-1))
    named = {name.replace("-", "_"): value for name, value in parts.items()}
    return {"loss": parts[loss], **named}


def expected(logits: Tensor) -> Tensor:
    """Mean (...), in [-1, 1], of the distributions with logits (..., 256)."""
    levels = mu_law_inverse(torch.arange(LEVELS, device=logits.device))
    return logits.float().softmax(-1) @ levels


def draw(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """Draw samples in [-1, 1] from logits (..., 256) by one uniform number each (...), inverting the distribution.

    temperature 0 takes the most likely value.
    """
    if temperature == 0:
        return mu_law_inverse(logits.argmax(-1))
    steps = (logits.float() / temperature).softmax(-1).cumsum(-1)
    # The last of the running sum may be just below one.
    classes = (steps < uniform[..., None]).sum(-1).clamp_(max=MU)
    return mu_law_inverse(classes)
