"""The codec's lengths and its codebooks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from v2a_models import grid
from v2a_models.codec import MINI, CodebookKeeper, Codec, SpectralLoss, perplexity


@pytest.fixture(scope="module")
def codec() -> Codec:
    torch.manual_seed(0)
    return Codec(MINI).eval()


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 3000))
def test_what_goes_in_comes_out_as_long(codec: Codec, n_samples: int) -> None:
    codes = codec.encode(torch.randn(1, 1, n_samples) * 0.1)
    assert codes.shape == (1, MINI["n_codebooks"], grid.codec_frames(n_samples))
    assert codec.decode(codes, n_samples).shape == (1, 1, n_samples)


def test_bad_input_is_refused(codec: Codec) -> None:
    with pytest.raises(ValueError, match="mono"):
        codec.encode(torch.zeros(1, 2, 100))
    with pytest.raises(ValueError, match="NaN"):
        codec.encode(torch.full((1, 1, 100), torch.nan))
    with pytest.raises(ValueError, match="asked for"):
        codec.decode(torch.zeros(1, 4, 2, dtype=torch.long), 2000)
    with pytest.raises(ValueError, match=r"\[0, 512\)"):
        codec.decode(torch.full((1, 4, 2), 512))


def test_perplexity_of_even_and_of_collapsed_codes() -> None:
    even = torch.arange(16).repeat(4).view(1, 1, 64)
    assert perplexity(even, 16) == [pytest.approx(16)]
    assert perplexity(torch.zeros(1, 1, 64, dtype=torch.long), 16) == [pytest.approx(1)]


def test_dead_codes_come_back_to_life(codec: Codec) -> None:
    keeper = CodebookKeeper(codec, start_step=0, patience=3)
    out = codec(torch.randn(2, 1, 512 * 8) * 0.1)
    generator = torch.Generator().manual_seed(0)
    assert keeper.update(0, out["codes"], out["latents"], generator) == 4 * 512  # all start from data
    replaced = [keeper.update(s, out["codes"], out["latents"], generator) for s in range(1, 6)]
    assert replaced[:3] == [0, 0, 0] and replaced[3] > 0
    weight = codec.dac.quantizer.quantizers[0].codebook.weight
    vectors = out["latents"][:, :8].transpose(1, 2).reshape(-1, 8)
    assert torch.cdist(weight, vectors).min(1).values.max() < 1e-4  # every code is an encoder output


def test_spectral_loss_is_zero_for_equals_and_grows_with_noise() -> None:
    loss, sound = SpectralLoss(), torch.randn(1, 1, 8192) * 0.1
    assert loss(sound, sound) == 0
    small, large = (loss(sound + s * torch.randn_like(sound), sound) for s in (0.01, 0.3))
    assert 0 < small < large
