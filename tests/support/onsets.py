"""Sounds and helpers for the tests of published networks."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from v2a_models.metrics.networks import load
from v2a_models.metrics.networks.base import AudioFeatures, Unavailable


def noise(*shape: int) -> Tensor:
    sound = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.1
    return sound * torch.linspace(0.1, 1, shape[-1])  # so that no two moments are alike


def stirred(net: nn.Module) -> nn.Module:
    """Random weights that nobody could swap unnoticed: biases and norms are all alike in a new network."""
    torch.manual_seed(1)
    with torch.no_grad():
        for key, value in net.state_dict().items():
            if value.ndim == 1 and value.is_floating_point():
                value.uniform_(0.5, 1.5) if key.endswith("var") else value.add_(torch.rand_like(value) * 0.1)
    return net.eval()


def close(heard: list[AudioFeatures], embeddings: Tensor, logits: Tensor | None = None) -> None:
    """Each row is the expected one, and no other row is."""
    found = np.stack([each.embedding for each in heard])
    expected = embeddings.detach().numpy()
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(found) == 1 or not np.allclose(found, expected[::-1], rtol=1e-3, atol=1e-5)
    if logits is None:
        assert all(each.probabilities is None for each in heard)
    else:
        shares = np.stack([each.probabilities for each in heard])  # type: ignore[misc]
        assert np.allclose(shares, logits.detach().softmax(-1).numpy(), rtol=1e-4, atol=1e-7)


def needs(package: str) -> None:
    """Skips without it; looks only, as an import of panns_inference would run wget."""
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")


def refusal(name: str, files: dict[str, str] | None = None, **options: Any) -> str:
    with pytest.raises(Unavailable) as caught:
        load.load_any(name, files, **options)
    return str(caught.value)
