"""Interfaces of the published networks that scores use. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from v2a_models.recipe import View

if TYPE_CHECKING:
    from torch import Tensor


class Unavailable(Exception):
    """Network that cannot be loaded; the message gives the whole reason and what to do."""


@dataclass(frozen=True)
class AudioFeatures:
    """Output of a network for one sound."""

    embedding: np.ndarray
    """Embedding float32 (D,), or (T, D) for a sequence over time."""
    probabilities: np.ndarray | None = None
    """Class probabilities float32 (C,), the softmax of the logits; None without classes."""


class Network(Protocol):
    """Audio network on its device, in evaluation mode."""

    name: str
    rate: int
    """Sample rate of its input in Hz."""
    dims: int
    """Width of its embeddings."""
    classes: tuple[str, ...] | None
    """Class names; None if it has no classes, or its package does not name them (AudioSet's 527)."""
    sha256: str
    """SHA-256 of the weights file."""

    def embed_audio(self, sounds: Tensor) -> list[AudioFeatures]:
        """Outputs for mono float sounds (B, N) in [-1, 1] at `rate`, each independent of the others.

        Sounds too short for the network are padded with silence. Raises ValueError for another shape or type, and for
        sounds without samples.
        """
        ...


class VisualNetwork(Protocol):
    """Visual network."""

    views: Mapping[str, View]
    """Views of the video that it takes, by name."""

    def embed_frames(self, frames: Mapping[str, Tensor]) -> np.ndarray:
        """Embedding of one clip from frames by view, uint8 (T, H, W, 3): float32 (D,), or (T, D) over time."""
        ...
