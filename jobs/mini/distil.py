"""Distillation of `mini` into `vatt-mini`: MaskVAT's weights to begin with, and its logits as soft targets.

MaskVAT hears from a classifier of pictures what sounds; VATT Audio has to learn it from text. For the sound that a
caption names, the teacher gets the answer that a clear picture of it would give, and the same motion. At the end, its
summary of text and picture is fitted once more (`clear_summary`), so that the text alone decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.mini.steering_corpus import Crop
from pipelines.foley.corpus import LABELS
from pipelines.foley.expectation import Answers, Confusion
from v2a_models.encoders.efficientnet import SoundExpectation
from v2a_models.maskvat.model import MaskVAT, stretch
from v2a_models.vatt.audio import VATTAudio
from v2a_models.vatt.losses import Teacher

Batches = Callable[[int], Mapping[str, Any]]
"""Number of a step -> columns of its crops: `semantic`, `sync`, `text`, `answers` and `codes`."""
Tokens = Callable[..., tuple[Tensor, Tensor]]
"""Semantic features and texts -> condition tokens of VATT Audio, and their mask."""

CLEAR = Confusion(clear=1.0, companion=0.0)
"""A caption names one sound, and no doubt."""
CERTAIN = 0.5
"""Probability moved to the class of the caption: pictures of some sounds (a bell) are mostly taken for others."""
CLEARER = 0.85
"""The same for the last fit of the summary, whose result is as certain as a picture that leaves no doubt."""
FITTING_RATE, CLEARING_RATE = 3e-3, 1e-3
"""Learning rates of the first fit of the summary, and of the last."""
GUIDANCE = 2.0
"""Guidance of the teacher: what is seen counts for more than in the sounds themselves."""
_TIMING = 0.25
"""Scale of the sync features: VATT adds them to the sound frames as well, which MaskVAT's weights do not know."""


def clear_answers(expectation: SoundExpectation) -> Answers:
    """Sampler of answers to pictures that show clearly what a scene sounds like."""
    return Answers(expectation.classifier.weight.detach(), expectation.table, CLEAR)  # type: ignore[arg-type]


def answers_to(
    sampler: Answers, crops: Iterable[Crop], text: Iterable[str], own: Tensor, rng: np.random.Generator,
    certain: float = CERTAIN,
) -> Tensor:  # fmt: skip
    """Semantic features float32 (B, T, D) for the teacher: clear ones of the captions' sounds, and the pictures' `own`
    (B, T, D) where a crop has no caption. certain: probability moved to the class of the caption."""
    rows = []
    for crop, words, row in zip(crops, text, own.cpu(), strict=True):
        if words:
            scene = replace(crop.scene, seen=True)
            shares = (1 - certain) * torch.from_numpy(sampler.draw(scene, own.shape[1], rng)).square()
            shares[:, LABELS.index(scene.label)] += certain
            row = shares.sqrt()
        rows.append(row.float())
    return torch.stack(rows).to(own.device)


def teach(teacher: MaskVAT) -> Callable[[Mapping[str, Any]], Teacher]:
    """Teacher of a batch with the columns `answers` (B, T1, D) and `sync` (B, T2, D)."""

    def of_batch(batch: Mapping[str, Any]) -> Teacher:
        @torch.no_grad()
        def logits(masked: Tensor, keep: Tensor) -> Tensor:
            length = masked.shape[-1]
            seen = teacher.condition(batch["answers"], batch["sync"], length, keep)
            unseen = teacher.null_condition(len(masked), length)
            seen, unseen = (teacher(masked, teacher.conditionings(x)) for x in (seen, unseen))
            return unseen + GUIDANCE * (seen - unseen)

        return logits

    return of_batch


def begin_from(
    audio: VATTAudio,
    teacher: MaskVAT,
    batches: Batches,
    tokens: Tokens,
    steps: int,
    log: Callable[[str], None],
) -> None:
    """Begin a modulated VATT Audio with the weights of MaskVAT-Hybrid, its conditioning fitted on some batches.

    steps: of the fit of the summary. Both need as many layers, and the same embeddings and heads of codes.
    """
    assert audio.summary is not None and audio.fuse is not None and audio.sync is not None
    _carry_over(audio, teacher)
    error = _fit_summary(audio, teacher, batches, tokens, steps, FITTING_RATE)
    log(f"distil: the summary explains {1 - error:.2f} of the variance of the teacher's")
    explained = _fit_modulations(audio, teacher, [batches(10_000 + k) for k in range(24)])
    log(f"distil: the modulation explains {explained:.2f} of the variance of the teacher's video encoder")


def clear_summary(
    audio: VATTAudio,
    teacher: MaskVAT,
    batches: Batches,
    tokens: Tokens,
    steps: int,
    log: Callable[[str], None],
) -> None:
    """Fit the summary of a trained VATT Audio once more, and nothing else.

    batches: with certain `answers`, and with other pictures than those of the sounds in many rows (`other_pictures`).
    """
    for parameter in audio.summary.parameters():  # type: ignore[union-attr]
        parameter.requires_grad_(True)
    error = _fit_summary(audio, teacher, batches, tokens, steps, CLEARING_RATE)
    log(f"distil: the clear summary explains {1 - error:.2f} of the variance of the teacher's")


def other_pictures(semantic: Tensor, text: Iterable[str], rng: np.random.Generator) -> Tensor:
    """Semantic features (B, T, D), in half of the rows with text those of another row: there only the text can tell
    what sounds."""
    rows = np.arange(len(semantic))
    swapped = np.array([bool(words) and rng.random() < 0.5 for words in text])
    rows[swapped] = rng.permutation(len(rows))[swapped]
    return semantic[torch.from_numpy(rows).to(semantic.device)]


@torch.no_grad()
def _carry_over(audio: VATTAudio, teacher: MaskVAT) -> None:
    """Copy what both have, but for embeddings and heads of the codes."""
    for ours, theirs in ((audio.sync, teacher.sync_mlp), (audio.fuse, teacher.fuse[0])):
        assert isinstance(ours, nn.Module) and isinstance(theirs, nn.Module)
        ours.load_state_dict(theirs.state_dict())
    last = audio.sync[-1]  # type: ignore[index]
    last.weight.mul_(_TIMING)
    last.bias.mul_(_TIMING)
    audio.fuse.weight[:, audio.config.dim :].div_(_TIMING)  # type: ignore[union-attr]
    pairs: Iterable[tuple[Any, Any]] = zip(audio.layers, teacher.blocks, strict=True)
    for layer, block in pairs:
        layer.qkv.load_state_dict(block.attention.qkv.state_dict())
        layer.out.load_state_dict(block.attention.out.state_dict())
        for feed in (layer.sound, layer.other):
            if feed is not None:
                feed.load_state_dict(block.mlp.state_dict())


def _fit_summary(
    audio: VATTAudio, teacher: MaskVAT, batches: Batches, tokens: Tokens, steps: int, rate: float
) -> float:
    """Fit the summary of text and picture to the teacher's of its answers; returns the unexplained variance."""
    assert audio.summary is not None and teacher.semantic_mlp is not None
    optimiser = torch.optim.AdamW(audio.summary.parameters(), rate, weight_decay=0.0)
    errors: list[float] = []
    for step in range(steps):
        batch = batches(step)
        optimiser.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 100) * (1 - step / steps)
        with torch.no_grad():
            wanted = teacher.semantic_mlp(batch["answers"]).mean(1)
            states, valid = tokens(batch["semantic"], batch["text"])
        error = F.mse_loss(audio.summarised(states, valid), wanted)
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(float(error.detach()) / float((wanted - wanted.mean(0)).square().mean()))
    return float(np.mean(errors[-50:]))


@torch.no_grad()
def _fit_modulations(audio: VATTAudio, teacher: MaskVAT, batches: list[Mapping[str, Any]]) -> float:
    """Modulate by the frames as the teacher does by its encoded video: its layers after a linear fit of that encoder.

    Returns the explained variance.
    """
    fused, encoded = [], []
    assert teacher.semantic_mlp is not None and teacher.sync_mlp is not None
    for batch in batches:
        length = batch["codes"].shape[-1]
        semantic = teacher.semantic_mlp(batch["answers"]).mean(1, keepdim=True).expand(-1, length, -1)
        streams = [semantic, stretch(teacher.sync_mlp(batch["sync"]), length)]
        fused.append(teacher.fuse(torch.cat(streams, -1)).flatten(0, 1))
        encoded.append(teacher.condition(batch["answers"], batch["sync"], length).flatten(0, 1))
    x = F.pad(torch.cat(fused), (0, 1), value=1.0).double()
    y = torch.cat(encoded).double()
    ridge = 1e-4 * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    fit = torch.linalg.solve(x.T @ x + ridge, x.T @ y)
    layers = [conditioner.modulation for conditioner in teacher.conditioners] + [teacher.final_modulation]
    for ours, theirs in zip(audio.modulations, layers, strict=True):
        weight = theirs.weight.double()  # type: ignore[union-attr, operator]
        ours.weight.copy_(weight @ fit[:-1].T)  # type: ignore[operator]
        ours.bias.copy_(weight @ fit[-1] + theirs.bias)  # type: ignore[union-attr, operator]
    return 1 - float((y - x @ fit).square().mean() / (y - y.mean(0)).square().mean())
