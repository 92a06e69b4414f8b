"""The VAE gives the original's numbers in both directions, and has the published parameters."""

import pytest
import torch

from tests.support.mmaudio_reference import RATES, difference, kept, part, shapes_of, tolerance
from v2a_models.mmaudio.vae import MelVAE, NormedConv, unit_channels


@pytest.mark.parametrize("rate", RATES)
def test_every_output_is_the_original_s(rate: str) -> None:
    name = f"vae_{rate}_tiny"
    ours, reference = part(name), kept(name)
    assert set(reference) == {"mel_13", "encode_mean", "encode_std"}
    for key, theirs in reference.items():
        assert difference(ours(key), theirs) <= tolerance(f"{name}/{key}"), key


@pytest.mark.parametrize("rate", RATES)
def test_full_sizes_have_the_published_parameters(rate: str) -> None:
    with torch.device("meta"):
        vae = MelVAE(RATES[rate])
    ours = {f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes_of(vae).items()}
    assert ours == set(kept(f"keys_vae_{rate}")["shapes"].tolist())


def test_convolutions_do_not_depend_on_the_magnitude_of_their_weights() -> None:
    conv, x = NormedConv(64, 64, 3), unit_channels(torch.randn(1, 64, 200))
    before = conv(x)
    with torch.no_grad():
        conv.weight.mul_(7)
    assert torch.allclose(conv(x), before, atol=1e-3)
    assert 0.8 < float(before.detach().std()) < 1.2  # it keeps the magnitude of its input
