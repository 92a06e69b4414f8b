"""Base class of the networks that take sounds, and imports of single modules of their packages."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from v2a_models.metrics.networks.base import AudioFeatures


class AudioNetwork:
    """Base of the audio networks: checks sounds, pads short ones, and computes in float32."""

    name: str
    rate: int
    dims: int
    classes: tuple[str, ...] | None = None
    sha256: str
    shortest = 1
    """Minimum length in samples; shorter sounds are padded with silence."""

    def __init__(self, net: nn.Module, device: torch.device | str, sha256: str) -> None:
        self.net, self.device, self.sha256 = net.to(device).eval(), torch.device(device), sha256

    def embed_audio(self, sounds: Tensor) -> list[AudioFeatures]:
        """See `Network`."""
        if sounds.ndim != 2 or not sounds.shape[1] or not sounds.is_floating_point():
            raise ValueError(f"expected float sounds (B, N), got {sounds.dtype} {tuple(sounds.shape)}")
        if not len(sounds):
            return []
        sounds = sounds.detach().float()
        missing = self.shortest - sounds.shape[1]
        if missing > 0:
            sounds = nn.functional.pad(sounds, (0, missing))
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            embeddings, logits = self.forward(sounds.to(self.device))
        rows = embeddings.float().cpu().numpy()
        if logits is None:
            return [AudioFeatures(row) for row in rows]
        probabilities = logits.float().softmax(-1).cpu().numpy()
        return [AudioFeatures(row, classes) for row, classes in zip(rows, probabilities, strict=True)]

    def forward(self, sounds: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embeddings (B, D) or (B, T, D), and class logits (B, C), of sounds (B, N)."""
        raise NotImplementedError


def module_of(name: str) -> ModuleType:
    """Import a module of an optional package. Raises ImportError for any error of the import."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # a package built for other versions can raise anything
        raise ImportError(f"{name}: {error}") from error


def part_of(package: str, module: str) -> ModuleType:
    """Import a module of an installed package without running the package's own __init__.

    Raises ImportError if there is none.
    """
    if package in sys.modules:
        return module_of(f"{package}.{module}")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError(f"no package {package}")
    before = set(sys.modules)
    empty: Any = ModuleType(package)
    empty.__path__ = list(spec.submodule_search_locations)
    sys.modules[package] = empty
    try:
        return module_of(f"{package}.{module}")
    finally:
        # Later imports get the whole package.
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            if name not in before:
                del sys.modules[name]
