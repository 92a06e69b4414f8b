"""Answers of an image classifier to pictures that do not exist: semantic features for training.

No photographs can be had for training, and drawings would teach a model cartoons. What a real picture of a dog gives is
known well enough, though: mostly breeds of dogs, sometimes something that looks like one, often nothing clear, and a
little of it changes from frame to frame. The likeness of classes is read off the classifier's own weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.foley.scene import QUIET, FoleyScene
from v2a_models.encoders.sound_classes import SOUND_CLASSES


@dataclass(frozen=True)
class Confusion:
    """Clarity of the answers."""

    clear: float = 0.82
    """Share of scenes whose picture shows a class that makes the sound; in the others it could be anything."""
    sharpness: tuple[float, float] = (7.0, 26.0)
    """Logit of the true class, and of others by their likeness."""
    noise: tuple[float, float] = (0.8, 2.2)
    """Standard deviation of the logits' noise that stays, and changes slowly."""
    companion: float = 0.35
    """Share of scenes that show something else as well."""


class Answers:
    """Sampler of features like those of `SoundExpectation`."""

    def __init__(self, classifier: Tensor, table: Tensor, confusion: Confusion = Confusion()) -> None:
        """classifier: weights (1000, D) of the image classifier; table: `imagenet_sounds`."""
        unit = F.normalize(classifier.float() - classifier.float().mean(0), dim=-1)
        self._likeness = (unit @ unit.T).numpy().astype(np.float32)
        self._table = table.numpy().astype(np.float32)
        self._confusion = confusion

    def draw(self, scene: FoleyScene, n_frames: int, rng: np.random.Generator) -> np.ndarray:
        """Unit vectors float32 [n_frames, 1 + sound classes] for frames at an even pace."""
        how = self._confusion
        first = self._shown(scene, rng) if rng.uniform() < how.clear else None
        sharpness = rng.uniform(*how.sharpness)
        logits = np.zeros(len(self._table), np.float32)
        if first is None:
            anything = self._one_of(int(rng.integers(self._table.shape[1])), 1.0, rng)
            logits += rng.uniform(2, 9) * self._likeness[anything or 0]
        else:
            logits += sharpness * self._likeness[first]
        if rng.uniform() < how.companion:
            # Uniform over sounds, not over classes: an eighth of ImageNet are dogs.
            column = 0 if rng.uniform() < 0.6 else int(rng.integers(self._table.shape[1]))
            beside = self._one_of(column, 1.5, rng)
            if beside is not None:
                logits = np.maximum(logits, sharpness * rng.uniform(0.3, 0.85) * self._likeness[beside])
        scale = rng.uniform(*how.noise)
        stays = rng.standard_normal(len(logits)).astype(np.float32)
        drift = rng.standard_normal(len(logits)).astype(np.float32)
        frames = []
        for _ in range(n_frames):
            drift = 0.9 * drift + np.sqrt(1 - 0.9**2) * rng.standard_normal(len(logits)).astype(np.float32)
            x = logits + scale * (0.85 * stays + 0.5 * drift)
            p = np.exp(x - x.max())
            frames.append(p / p.sum())
        return np.sqrt(np.stack(frames) @ self._table)

    def _shown(self, scene: FoleyScene, rng: np.random.Generator) -> int | None:
        """ImageNet class of a scene's picture; None where none shows the sound, or the sound is not in the picture."""
        if not scene.seen:
            return None
        if scene.label == QUIET:
            return self._one_of(0, 4.0, rng)
        return self._one_of(1 + SOUND_CLASSES.index(scene.label), 1.5, rng)

    def _one_of(self, column: int, power: float, rng: np.random.Generator) -> int | None:
        """ImageNet class drawn by its share of a sound to a power; None if no class makes the sound."""
        shares = self._table[:, column].astype(np.float64) ** power
        if shares.max() < 0.05:
            return None
        return int(rng.choice(len(shares), p=shares / shares.sum()))


def answers_of(expectation: torch.nn.Module) -> Answers:
    """Sampler for a `v2a_models.encoders.efficientnet.SoundExpectation`."""
    return Answers(expectation.classifier.weight.detach(), expectation.table)  # type: ignore[operator, union-attr, arg-type]
