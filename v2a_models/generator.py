"""The surface every generator has, and the registry that names them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from v2a_models.batch import Batch
from v2a_models.recipe import Recipe


class Generator(nn.Module):
    """A video-to-audio model with everything it needs to turn frames into sound.

    Trains with `task`, dubs with `generate_from_frames`; every system has this surface.
    """

    recipe: Recipe
    name: str = ""
    sha256: str = ""
    """Of the weights file it was loaded from; empty for a model never saved."""
    precision: str = "float32"
    """Arithmetic of the transformers: float32 or bfloat16. Another one gives another (as good) sound."""

    streams = False
    """Whether it goes on from its own past instead of making windows one by one. `generate` of such a system takes any
    number of frames and `past`, float32 (B, channels, samples): the sound of the first of these frames, which is
    there already and is not returned again. Nothing further back than `context_frames` frames is listened to."""

    @property
    def makes_sound(self) -> bool:
        """Whether it can be heard already; not if an earlier stage of its training is all that was done."""
        return True

    follows_text = False
    """Whether `generate` takes `prompts` and `negative`: strings, one a row or one for all, that say what is to be
    heard and what is not."""

    paints = False
    """Whether its sound is made of codec tokens (of its `codec`, an attribute), of which any may be decided before:
    `draw` gives them, and takes `known_codes` and `known_mask` (`v2a_models.longform`)."""

    @property
    def context_frames(self) -> int:
        """Frames (and their sound) before a moment on which it may depend, in a system that streams."""
        return 0

    @property
    @abstractmethod
    def system(self) -> str:
        """Its name in the registry, which config.json keeps."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Columns of a feature store that `task` is fed with."""

    @abstractmethod
    def task(self) -> nn.Module:
        """What training fits: `task(batch, seed)` gives scalars, "loss" to be minimised and its parts, for columns
        (name -> tensor) of B windows. It shares its parameters with this generator and holds nothing frozen;
        `task.units` are its repeated blocks, by which a sharded trainer cuts it."""

    @abstractmethod
    def generate(self, batch: Batch, *, seeds: Sequence[int], **sampling: Any) -> Tensor:
        """Waveform float32 (B, channels, recipe.window) in [-1, 1]. Row i depends on row i and seeds[i] only."""

    @abstractmethod
    def features(self, frames: Mapping[str, Tensor]) -> Batch:
        """What the model is fed of frames: by view of the recipe, uint8 (B, T, H, W, 3)."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values from which `from_config` rebuilds the model without its weights."""

    def draw(
        self, batch: Batch, *, seeds: Sequence[int], candidates: int = 1, keep: int = 1, **options: Any
    ) -> Tensor:
        """Codec tokens int64 (B, keep, K, L) of a model that paints: the `keep` best of `candidates`, the best first.
        Options as for `generate`, and `length`, the L codec frames that the features are of (recipe.codec_frames
        without it), and `known_codes`, `known_mask` (B, K, L): where the mask is True, the tokens that all have."""
        raise ValueError(f"{self.system} makes no codec tokens")

    def preview(self, columns: Mapping[str, Tensor]) -> Batch:
        """What is made into sound while it trains, of columns of a feature store: all of the window, or as much as
        can be had in reasonable time."""
        return Batch(semantic=columns.get("semantic"), sync=columns.get("sync"))

    def stored(self, name: str) -> bool:
        """Whether a checkpoint holds this parameter; not those that it names by their hash instead."""
        return True

    def remarks(self, figures: Mapping[str, float]) -> list[str]:
        """What somebody who trains it should know of these losses of a validation (such as a collapsed codebook)."""
        return []

    def with_options(self, **options: Any) -> Generator:
        """The same weights with other settings. Raises ValueError for those that the weights decide."""
        raise ValueError(f"{sorted(options)} cannot be changed")

    def generate_from_frames(
        self, frames: Mapping[str, Tensor], seeds: Sequence[int], **sampling: Any
    ) -> Tensor:
        """Frames (by view) to waveform: `features`, then `generate`."""
        return self.generate(self.features(frames), seeds=seeds, **sampling)


def best_precision(device: torch.device | str = "cpu") -> str:
    """bfloat16 where the hardware multiplies it natively (three to five times faster), else float32."""
    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bfloat16" if native() else "float32"
