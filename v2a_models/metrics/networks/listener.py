"""Base class of the networks that take sounds, and imports of single modules of their packages."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from v2a_models.metrics.networks.base import Heard


class Listener:
    """What all networks share: sounds are checked, lengthened where too short, and heard in float32."""

    name: str
    rate: int
    dims: int
    classes: tuple[str, ...] | None = None
    sha256: str
    shortest = 1
    """Samples that a sound is lengthened to with silence."""

    def __init__(self, net: nn.Module, device: torch.device | str, sha256: str) -> None:
        self.net, self.device, self.sha256 = net.to(device).eval(), torch.device(device), sha256

    def hear(self, sounds: Tensor) -> list[Heard]:
        """See `networks.Network`."""
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
            return [Heard(row) for row in rows]
        shares = logits.float().softmax(-1).cpu().numpy()
        return [Heard(row, share) for row, share in zip(rows, shares, strict=True)]

    def forward(self, sounds: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embeddings (B, D) or (B, T, D), and class logits (B, C), of sounds (B, N)."""
        raise NotImplementedError


def module_of(name: str) -> ModuleType:
    """A module of a package of the extra. Raises ImportError, also where the package itself fails some other way."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # built for other versions of what it needs, it can fail in any way
        raise ImportError(f"{name}: {error}") from error


def part_of(package: str, module: str) -> ModuleType:
    """A module of an installed package, imported without running the package's own __init__.

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
        # Whoever imports the package afterwards gets all of it.
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            if name not in before:
                del sys.modules[name]
