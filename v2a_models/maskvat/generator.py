"""MaskVAT with its encoders and codec, as a Generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from v2a_models.batch import Batch
from v2a_models.codec.dac import Codec
from v2a_models.encoders.untrained import untrained_encoder
from v2a_models.generator import Generator
from v2a_models.maskvat.losses import training_loss
from v2a_models.maskvat.model import MaskVAT, MaskVATConfig
from v2a_models.maskvat.sampling import SamplingConfig, sample
from v2a_models.recipe import Recipe
from v2a_models.selection import draw_best


class MaskVATTask(nn.Module):
    """Training task: feature store columns -> losses. Holds the transformer and nothing frozen."""

    def __init__(self, maskvat: MaskVAT, audio_features: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.maskvat = maskvat
        # A bound method, so that the frozen audio encoder is neither trained nor saved with the task.
        self._audio_features = audio_features

    @property
    def units(self) -> list[nn.Module]:
        """Repeated blocks, along which FSDP shards the model."""
        return self.maskvat.units

    def forward(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Losses of columns of B windows; `seed` determines the masks. "loss" is to be minimised."""
        audio, codes = batch.get("audio"), batch["codes"].long()
        if audio is None and self._audio_features is not None:
            audio = self._audio_features(codes)
        generator = torch.Generator().manual_seed(seed)
        return training_loss(
            self.maskvat, batch.get("semantic"), batch.get("sync"), codes, generator, audio=audio
        )


class MaskVATGenerator(Generator):
    """Frames -> CLIP and S3D features -> codec tokens -> waveform (2407.10387)."""

    inpaints = True
    codec: Codec

    def __init__(
        self,
        recipe: Recipe,
        codec: Codec,
        semantic: nn.Module,
        sync: nn.Module,
        maskvat: MaskVAT,
        sampling: SamplingConfig = SamplingConfig(),
    ) -> None:
        super().__init__()
        self.recipe, self.sampling = recipe, sampling
        self.codec, self.semantic, self.sync, self.maskvat = codec, semantic, sync, maskvat

    def config(self) -> dict[str, Any]:
        return dict(
            codec=self.codec.config,
            maskvat=dataclasses.asdict(self.maskvat.config),
            sampling=dataclasses.asdict(self.sampling),
        )

    @classmethod
    def from_config(cls, recipe: Recipe, config: dict[str, Any]) -> MaskVATGenerator:
        """Build the model without weights. Raises KeyError or TypeError for a config of another system."""
        return cls(
            recipe,
            Codec(config["codec"]),
            untrained_encoder(recipe, "semantic"),
            untrained_encoder(recipe, "sync"),
            MaskVAT(MaskVATConfig(**config["maskvat"])),
            SamplingConfig(**config["sampling"]),
        )

    @property
    def system(self) -> str:
        return f"maskvat-{self.maskvat.config.variant}"

    @property
    def columns(self) -> tuple[str, ...]:
        config = self.maskvat.config
        visual = [name for name in ("semantic", "sync") if getattr(config, f"{name}_dim")]
        audio = self.recipe.encoder("audio") is not None and self.maskvat.audio_head is not None
        return (*visual, "codes", *(["audio"] if audio else []))

    def stored(self, name: str) -> bool:
        part, _, rest = name.partition(".")
        keeps = getattr(self.semantic, "stored", None)  # of an encoder whose weights a package carries
        return part != "semantic" or keeps is None or bool(keeps(rest))

    def task(self) -> MaskVATTask:
        predicts = self.maskvat.audio_head is not None and self.scav is not None
        return MaskVATTask(self.maskvat, self._audio_features if predicts else None)

    @torch.no_grad()
    def _audio_features(self, codes: Tensor) -> Tensor:
        """SCAV audio features (B, T, D) of true codes (B, K, L)."""
        assert self.scav is not None
        return self.scav.audio(self.codec.latents(codes))

    @torch.inference_mode()
    def features(self, frames: Mapping[str, Tensor]) -> Batch:
        with self.autocast():
            semantic, sync = self.semantic(frames["semantic"]), self.sync(frames["sync"])
        return Batch(semantic=semantic.float(), sync=sync.float(), place=self.place(frames))

    @torch.inference_mode()
    def codes(
        self,
        batch: Batch,
        seeds: Sequence[int],
        *,
        length: int | None = None,
        known_codes: Tensor | None = None,
        known_mask: Tensor | None = None,
        negative: Batch | None = None,
        **sampling: Any,
    ) -> Tensor:
        """Codec tokens int64 (B, K, L), one seed per row, for windows of L = `length` codec frames (recipe.codec_frames
        by default). Windows shorter than in training work as well: positions are relative.

        `sampling` overrides fields of SamplingConfig, such as steps=8. `negative`: features to move away from. Raises
        TypeError for an unknown sampling option, ValueError for missing features.
        """
        config = dataclasses.replace(self.sampling, **sampling)
        against = None if negative is None else (negative.semantic, negative.sync)
        with self.autocast():
            return sample(
                self.maskvat, batch.semantic, batch.sync, length or self.recipe.codec_frames, seeds, config,
                known_codes, known_mask, against,
            )  # fmt: skip

    def draw(
        self, batch: Batch, *, seeds: Sequence[int], candidates: int = 1, keep: int = 1, **sampling: Any
    ) -> Tensor:
        return draw_best(self, batch, seeds, candidates, keep, **sampling)
