"""The codec's lengths and its codebooks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.toy_generators import SMALL_DAC
from v2a_models import grid
from v2a_models.codec.dac import MINI, CodebookKeeper, Codec, SpectralLoss, perplexity
from v2a_models.codec.spectral import N_FFT, STEP, overlap_add
from v2a_models.codec.training import CodecTask


@pytest.fixture(scope="module", params=[MINI, SMALL_DAC], ids=["spectral", "dac"])
def codec(request: pytest.FixtureRequest) -> Codec:
    torch.manual_seed(0)
    return Codec(request.param).eval()


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 3000))
def test_what_goes_in_comes_out_as_long(codec: Codec, n_samples: int) -> None:
    codes = codec.encode(torch.randn(1, 1, n_samples) * 0.1)
    assert codes.shape == (1, codec.n_codebooks, grid.codec_frames(n_samples))
    assert codec.decode(codes, n_samples).shape == (1, 1, n_samples)


def test_rounding_changes_no_code(codec: Codec) -> None:
    sound = torch.randn(2, 1, 20 * grid.HOP, generator=torch.Generator().manual_seed(0)) * 0.1
    with torch.no_grad():
        expected, trained = codec.encode(sound), codec.eval()(sound)["codes"]
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(codec.encode(sound), expected)
            # In training, only the encoder before the quantiser is rounded.
            rounded = codec(sound)["codes"]
    assert (rounded == trained).float().mean() > 0.8


def test_bad_input_is_refused(codec: Codec) -> None:
    with pytest.raises(ValueError, match="mono"):
        codec.encode(torch.zeros(1, 2, 100))
    with pytest.raises(ValueError, match="NaN"):
        codec.encode(torch.full((1, 1, 100), torch.nan))
    with pytest.raises(ValueError, match="were requested"):
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
    assert (
        keeper.update(0, out["codes"], out["latents"], generator) == 512 * codec.n_codebooks
    )  # all start from data
    replaced = [keeper.update(s, out["codes"], out["latents"], generator) for s in range(1, 6)]
    assert replaced[:3] == [0, 0, 0] and replaced[3] > 0
    weight = codec.dac.quantizer.quantizers[0].codebook.weight
    vectors = out["latents"][:, :8].transpose(1, 2).reshape(-1, 8)
    assert (
        torch.cdist(weight, vectors, compute_mode="donot_use_mm_for_euclid_dist").min(1).values.max() < 1e-4
    )  # every code is an encoder output


def test_spectral_loss_is_zero_for_equals_and_grows_with_noise() -> None:
    loss, sound = SpectralLoss(), torch.randn(1, 1, 8192) * 0.1
    assert all(value == 0 for value in loss(sound, sound).values())
    small, large = (loss(sound + s * torch.randn_like(sound), sound) for s in (0.01, 0.3))
    assert all(0 < small[name] < large[name] for name in ("mel", "convergence"))


def test_spectra_turn_back_into_sound_at_their_place() -> None:
    sound = torch.randn(2, STEP * 12)
    window = torch.hann_window(N_FFT)
    padded = torch.nn.functional.pad(sound, ((N_FFT - STEP) // 2, (N_FFT - STEP) // 2))
    spectrum = torch.stft(padded, N_FFT, STEP, window=window, center=False, return_complex=True)
    assert torch.allclose(overlap_add(spectrum, window), sound, atol=1e-4)


def test_the_first_levels_are_a_coarser_sound(codec: Codec) -> None:
    codes = codec.encode(torch.randn(1, 1, 5120) * 0.1)
    assert codec.decode(codes[:, :2]).shape == codec.decode(codes).shape
    assert not torch.equal(codec.decode(codes[:, :2]), codec.decode(codes))
    with pytest.raises(ValueError, match=f"1 to {codec.n_codebooks} levels"):
        codec.decode(torch.cat([codes, codes], 1))


def test_both_players_of_the_adversarial_training_learn() -> None:
    torch.manual_seed(0)
    task = CodecTask(Codec(dict(MINI, width=32, encoder_depth=1, decoder_depth=1)), adversarial=True)
    losses = task(torch.randn(2, 1, 8192) * 0.1)
    losses["loss"].backward()
    assert {"mel", "wave", "features", "fooled", "told"} <= set(losses)
    assert all(p.grad is not None for p in task.codec.dac.decoder.parameters())
    assert all(p.grad is not None for p in task.adversary.parameters())
