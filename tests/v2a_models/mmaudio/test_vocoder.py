"""The vocoders give the original's samples, and have the published parameters."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.support.mmaudio_reference import RATES, difference, kept, part, shapes_of, tolerance
from v2a_models.mmaudio.vocoder import Vocoder, folded

NAMES = {"16k": "bigvgan_16k", "44k": "bigvgan_v2_44k"}


@pytest.mark.parametrize("rate", RATES)
def test_every_output_is_the_original_s(rate: str) -> None:
    name = f"{NAMES[rate]}_tiny"
    ours, reference = part(name), kept(name)
    assert "wave_9" in reference and np.abs(reference["wave_9"]).max() > 0.1
    for key, theirs in reference.items():
        assert difference(ours(key), theirs) <= tolerance(f"{name}/{key}"), key


@pytest.mark.parametrize("rate", RATES)
def test_full_sizes_have_the_published_parameters(rate: str) -> None:
    published = {}
    for row in kept(f"keys_{NAMES[rate]}")["shapes"].tolist():
        name, _, shape = row.partition(" ")
        published[name] = torch.empty([int(n) for n in shape.split("x")], device="meta")
    with torch.device("meta"):
        vocoder = Vocoder(RATES[rate])
    assert shapes_of(vocoder) == {name: tuple(value.shape) for name, value in folded(published).items()}


def test_weight_norm_is_folded_under_both_of_its_names() -> None:
    conv: Any = torch.nn.utils.parametrizations.weight_norm(torch.nn.ConvTranspose1d(3, 5, 4))
    new = {f"ups.{key}": value for key, value in conv.state_dict().items()}
    with torch.no_grad():
        new["ups.parametrizations.weight.original0"] *= 2
    old = {
        "ups.bias": new["ups.bias"],
        "ups.weight_g": new["ups.parametrizations.weight.original0"],
        "ups.weight_v": new["ups.parametrizations.weight.original1"],
    }
    for state in (new, old):
        result = folded(state)
        assert set(result) == {"ups.bias", "ups.weight"}
        assert torch.allclose(result["ups.weight"], conv.weight, atol=1e-6)


def test_half_a_pair_gives_no_weight() -> None:
    assert folded({"conv.weight_g": torch.ones(3, 1, 1)}) == {}
