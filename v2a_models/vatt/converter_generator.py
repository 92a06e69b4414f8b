"""VATT Converter alone, as a Generator that writes captions and makes no sound."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from v2a_models.batch import Batch
from v2a_models.encoders.bundled import bundled_or_untrained
from v2a_models.generator import Generator
from v2a_models.recipe import Recipe
from v2a_models.vatt.config import converter_config
from v2a_models.vatt.converter import Converter, ConverterConfig, ConverterTask
from v2a_models.vatt.instructions import ASK


class ConverterGenerator(Generator):
    """VATT Converter alone, as trained by `v2a train vatt-converter`. Writes captions, makes no sound."""

    writes_captions = True

    def __init__(self, recipe: Recipe, semantic: nn.Module, config: ConverterConfig, stage: int = 2) -> None:
        super().__init__()
        self.recipe, self.semantic, self.stage = recipe, semantic, stage
        self.converter = Converter(config)

    @property
    def makes_sound(self) -> bool:
        return False

    @property
    def system(self) -> str:
        return "vatt-converter"

    @property
    def columns(self) -> tuple[str, ...]:
        return ("semantic", "text")

    def stored(self, name: str) -> bool:
        part, _, rest = name.partition(".")
        if part == "converter":
            return self.converter.stored(rest)
        keeps = getattr(self.semantic, "stored", None)  # of an encoder whose weights a package carries
        return not self.recipe.bundled and (keeps is None or bool(keeps(rest)))

    def config(self) -> dict[str, Any]:
        return dict(converter=dataclasses.asdict(self.converter.config), stage=self.stage)

    @classmethod
    def from_config(cls, recipe: Recipe, config: dict[str, Any]) -> ConverterGenerator:
        """Build the model without weights; see `VATTGenerator.from_config`."""
        _, semantic, _ = bundled_or_untrained(recipe, None)
        return cls(recipe, semantic, converter_config(config["converter"]), config["stage"])

    def with_options(self, **options: Any) -> ConverterGenerator:
        """The same weights in another `stage` of training."""
        if unknown := sorted(set(options) - {"stage"}):
            raise ValueError(f"{unknown} cannot be changed, only ['stage']")
        self.stage = int(options.get("stage", self.stage))
        return self

    def task(self) -> ConverterTask:
        return ConverterTask(self.converter, self.stage)

    @torch.inference_mode()
    def features(self, frames: Mapping[str, Tensor]) -> Batch:
        return Batch(semantic=self.semantic(frames["semantic"]).float())

    def captions(self, batch: Batch, *, beams: int = 1, instruction: str = ASK) -> list[str]:
        """Caption of the sound of each row."""
        assert batch.semantic is not None
        return self.converter.eval().captions(batch.semantic, instruction, beams=beams)

    def generate(self, batch: Batch, *, seeds: Sequence[int], **sampling: Any) -> Tensor:
        raise ValueError(
            "a vatt-converter makes no sound: train a vatt on it with v2a train vatt STORE --set converter=DIR"
        )
