"""The surface every generator has, and the registry that names them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from v2a_models.batch import Batch
from v2a_models.recipe import Recipe


class Generator(nn.Module):
    """A video-to-audio model with everything it needs to turn frames into sound.

    Trains with `training_loss`, dubs with `generate_from_frames`; every system has this surface.
    """

    recipe: Recipe
    name: str = ""
    sha256: str = ""
    """Of the weights file it was loaded from; empty for a model never saved."""

    @abstractmethod
    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars: "loss" and its parts, for features and codes of B windows."""

    @abstractmethod
    def generate(self, batch: Batch, *, seeds: Sequence[int], **sampling: Any) -> Tensor:
        """Waveform float32 (B, channels, recipe.window) in [-1, 1]. Row i depends on row i and seeds[i] only."""

    @abstractmethod
    def features(self, semantic_frames: Tensor, sync_frames: Tensor) -> Batch:
        """Encodes frames uint8 (B, T, H, W, 3), sampled as the recipe's two views say."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values from which `from_config` rebuilds the model without its weights."""

    def generate_from_frames(
        self, semantic_frames: Tensor, sync_frames: Tensor, seeds: Sequence[int], **sampling: Any
    ) -> Tensor:
        """Frames to waveform: `features`, then `generate`."""
        return self.generate(self.features(semantic_frames, sync_frames), seeds=seeds, **sampling)
