"""Trained parts in the work folder of `make mini`, and windows cut from whole scenes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from pipelines import synthfoley
from v2a_models import grid
from v2a_models.codec.dac import MINI, Codec
from v2a_models.encoders.audio import EventClassifier
from v2a_models.encoders.clip_s3d import SemanticEncoder, SyncEncoder
from v2a_models.maskvat.model import MaskVAT, sized
from v2a_models.recipe import Recipe
from v2a_models.scav import SCAV, SCAVConfig

if TYPE_CHECKING:
    from jobs.mini.config import MiniConfig

Log = Callable[[str], None]

MINI_MASKVAT = sized("hybrid", "mini")

PARTS: dict[str, Callable[[], nn.Module]] = dict(
    codec_spectra=lambda: Codec(MINI),
    codec=lambda: Codec(MINI),
    clip=SemanticEncoder.mini,
    sync=SyncEncoder.mini,
    scav=lambda: SCAV(SCAVConfig()),
    maskvat=lambda: MaskVAT(MINI_MASKVAT),
    classifier=lambda: EventClassifier(len(synthfoley.CLASSES)),
)


def load_part(config: MiniConfig, part: str, device: str) -> nn.Module:
    """Trained part from the work folder, in evaluation mode."""
    model: nn.Module = PARTS[part]()
    inner = model.visual if isinstance(model, SemanticEncoder) else model
    inner.load_state_dict(torch.load(config.work / f"{part}.pt", map_location="cpu", weights_only=True))
    return model.to(device).eval()


@dataclass
class Scenes:
    """Features and tokens of whole scenes, to cut windows from."""

    semantic: Tensor
    sync: Tensor
    codes: Tensor
    recipe: Recipe

    def crops(self, rng: np.random.Generator, rows: int, device: str) -> dict[str, Tensor]:
        """Columns of random windows of `rows` scenes."""
        chosen = rng.choice(len(self.codes), min(rows, len(self.codes)), replace=False)
        windows = [self._crop(int(row), rng) for row in chosen]
        semantic, sync, codes = (torch.stack(part).to(device) for part in zip(*windows, strict=True))
        return dict(semantic=semantic.float(), sync=sync.float(), codes=codes.long())

    def _crop(self, row: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        recipe = self.recipe
        slow, fast = recipe.view("semantic").fps, recipe.view("sync").fps
        n_slow, n_fast = (grid.frame_count(recipe.window_s, fps) for fps in (slow, fast))
        start = int(rng.integers(self.sync.shape[1] - n_fast + 1))
        first = min(round(grid.samples(start / fast) / grid.HOP), self.codes.shape[-1] - recipe.codec_frames)
        start_slow = min(round(start * slow / fast), self.semantic.shape[1] - n_slow)
        return (
            self.semantic[row, start_slow : start_slow + n_slow],
            self.sync[row, start : start + n_fast],
            self.codes[row, :, first : first + recipe.codec_frames],
        )


def windows_of(config: MiniConfig, split: str) -> Scenes:
    """Scenes as the stages `tokens` and `features` wrote them."""
    data = torch.load(config.work / f"features_{split}.pt", weights_only=True)
    codes = torch.load(config.work / f"codes_{split}.pt", weights_only=True)
    return Scenes(data["semantic"], data["sync"], codes, Recipe(name="mini"))
