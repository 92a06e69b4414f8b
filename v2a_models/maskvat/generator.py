"""MaskVAT with its encoders and its codec, behind the project's Generator surface."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from v2a_models.batch import Batch
from v2a_models.codec import Codec
from v2a_models.generator import Generator
from v2a_models.maskvat.losses import training_loss
from v2a_models.maskvat.model import MaskVAT, MaskVATConfig
from v2a_models.maskvat.sampling import SamplingConfig, sample
from v2a_models.recipe import Recipe
from v2a_models.visual import SemanticEncoder, SyncEncoder


class MaskVATGenerator(Generator):
    """Frames -> CLIP and S3D features -> codec tokens -> waveform (2407.10387)."""

    def __init__(
        self,
        recipe: Recipe,
        codec: Codec,
        semantic: SemanticEncoder,
        sync: SyncEncoder,
        maskvat: MaskVAT,
        sampling: SamplingConfig = SamplingConfig(),
    ) -> None:
        super().__init__()
        self.recipe, self.sampling = recipe, sampling
        self.codec, self.semantic, self.sync, self.maskvat = codec, semantic, sync, maskvat

    def _arithmetic(self) -> torch.autocast:
        """bfloat16 for the transformers where asked for; the codec always decodes in float32."""
        device = next(self.parameters()).device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.precision == "bfloat16")

    def config(self) -> dict[str, Any]:
        return dict(
            codec=self.codec.config,
            maskvat=dataclasses.asdict(self.maskvat.config),
            sampling=dataclasses.asdict(self.sampling),
        )

    @classmethod
    def from_config(cls, recipe: Recipe, config: dict[str, Any]) -> MaskVATGenerator:
        """The model without its weights. Raises KeyError or TypeError for a config of another kind."""
        return cls(
            recipe,
            Codec(config["codec"]),
            SemanticEncoder.mini(),
            SyncEncoder.mini(),
            MaskVAT(MaskVATConfig(**config["maskvat"])),
            SamplingConfig(**config["sampling"]),
        )

    def training_loss(self, batch: Batch) -> dict[str, Tensor]:
        if batch.semantic is None or batch.sync is None or batch.codes is None:
            raise ValueError("MaskVAT trains on semantic and sync features and codes")
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        return training_loss(self.maskvat, batch.semantic, batch.sync, batch.codes, generator)

    @torch.inference_mode()
    def features(self, semantic_frames: Tensor, sync_frames: Tensor) -> Batch:
        with self._arithmetic():
            semantic, sync = self.semantic(semantic_frames), self.sync(sync_frames)
        return Batch(semantic=semantic.float(), sync=sync.float())

    @torch.inference_mode()
    def generate(
        self,
        batch: Batch,
        *,
        seeds: Sequence[int],
        known_codes: Tensor | None = None,
        known_mask: Tensor | None = None,
        **sampling: Any,
    ) -> Tensor:
        """Waveform (B, 1, recipe.window). `sampling` overrides fields of SamplingConfig, e.g. steps=8.

        Raises TypeError for an unknown sampling option.
        """
        if batch.semantic is None or batch.sync is None:
            raise ValueError("MaskVAT needs semantic and sync features")
        config = dataclasses.replace(self.sampling, **sampling)
        with self._arithmetic():
            codes = sample(
                self.maskvat, batch.semantic, batch.sync, self.recipe.codec_frames, seeds, config,
                known_codes, known_mask,
            )  # fmt: skip
        return self.codec.decode(codes, self.recipe.window).float().clamp_(-1, 1)
