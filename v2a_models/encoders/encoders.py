"""The encoders of a recipe behind one call: frames and sound of windows in, feature store columns out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from v2a_models import pcm
from v2a_models.encoders.shapes import feature_shapes
from v2a_models.generator import autocast
from v2a_models.recipe import Recipe


class Encoders(nn.Module):
    """Encoders of a recipe. Weights are float32; `precision` is the arithmetic of all except the codec."""

    def __init__(self, recipe: Recipe, modules: Mapping[str, nn.Module], precision: str = "float32") -> None:
        super().__init__()
        self.recipe, self.precision = recipe, precision
        self.shapes = feature_shapes(recipe)
        self.by_role = nn.ModuleDict(dict(modules))

    @torch.inference_mode()
    def forward(self, frames: Mapping[str, Tensor], sound: Tensor | None) -> dict[str, np.ndarray]:
        """Columns of B windows, each [B, ...] with the shapes of `feature_shapes`. Row i depends on row i only.

        frames: by view, uint8 (B, T, H, W, 3). sound: int16 (B, channels, samples), for the codec, the audio encoder
        (downmixed to mono) and the column `waveform`. Returns float16 semantic, sync and audio, uint16 codes, uint8
        frames, int16 waveform. Raises ValueError if an output has another shape than the recipe states.
        """
        columns: dict[str, np.ndarray] = {}
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        with autocast(device, self.precision):
            for role in ("semantic", "sync"):
                if role in self.shapes:
                    features = self.by_role[role](frames[role].to(device))
                    columns[role] = _halves(features)
            if "audio" in self.shapes:
                assert sound is not None
                mono = sound.to(device).float().mean(1) / pcm.EXACT_SCALE
                columns["audio"] = _halves(self.by_role["audio"](mono))
        if "codes" in self.shapes:
            assert sound is not None
            codec: Any = self.by_role["codec"]
            codes = codec.encode(
                sound.to(device).float() / pcm.EXACT_SCALE
            )  # in float32: rounding must not change tokens
            columns["codes"] = codes.cpu().numpy().astype(np.uint16)
        if "frames" in self.shapes:
            columns["frames"] = frames["frames"].numpy()
        if "waveform" in self.shapes:
            assert sound is not None
            columns["waveform"] = sound.numpy()
        for name, column in columns.items():
            if column.shape[1:] != self.shapes[name]:
                raise ValueError(f"{name} has shape {column.shape[1:]}, the recipe says {self.shapes[name]}")
        return columns


def _halves(features: Tensor) -> np.ndarray:
    return features.float().cpu().numpy().astype(np.float16)


def load_encoders(
    recipe: Recipe, files: Mapping[str, str], device: torch.device | str = "cpu", precision: str = "float32"
) -> Encoders:
    """Load the encoders of a recipe from their weights (`files`: role -> path, or `mini`), in evaluation mode.

    Raises CheckpointError or WeightsError for unusable weights.
    """
    modules: dict[str, nn.Module] = {}
    bundled = [encoder.role for encoder in recipe.encoders if files[encoder.role] == "mini"]
    if bundled:
        from v2a_models.encoders.bundled import load_bundled

        modules |= load_bundled(bundled)
    for encoder in recipe.encoders:
        if encoder.role not in bundled:
            from v2a_models.encoders import published

            load: Any = getattr(published, f"load_{encoder.role}")
            options = {"sample_rate": recipe.sample_rate} if encoder.role == "audio" else {}
            modules[encoder.role] = load(encoder.name, files[encoder.role], **options)
    # Recipe order: module order is state-dict order.
    modules = {encoder.role: modules[encoder.role] for encoder in recipe.encoders}
    return Encoders(recipe, modules, precision).to(device).eval()
