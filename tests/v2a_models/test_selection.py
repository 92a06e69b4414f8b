"""Selection among candidates, with a toy generator of random weights."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.support.toy_generators import toy_generator
from v2a_models.batch import Batch
from v2a_models.checkpoint import load_generator, save_generator
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.scav import SCAV, SCAVConfig, interpolated_euclidean
from v2a_models.selection import best_codes, candidate_seed, draw_best


@pytest.fixture(scope="module")
def generator() -> MaskVATGenerator:
    made: MaskVATGenerator = toy_generator()
    return made


def features(rows: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        semantic=torch.randn(rows, 4, 128, generator=generator),
        sync=torch.randn(rows, 10, 128, generator=generator),
    )


@given(st.integers(0, 2**62), st.integers(1, 1000), st.integers(1, 1000))
@settings(max_examples=20)
def test_candidates_have_seeds_of_their_own(seed: int, one: int, other: int) -> None:
    assert candidate_seed(seed, 0) == seed
    assert candidate_seed(seed, one) == candidate_seed(seed, one) != seed
    assert (candidate_seed(seed, one) == candidate_seed(seed, other)) == (one == other)
    assert 0 <= candidate_seed(seed, one) < 2**63


def test_one_candidate_is_no_selection(generator: MaskVATGenerator) -> None:
    batch, seeds = features(2), [5, 6]
    plain = generator.generate(batch, seeds=seeds)
    assert torch.equal(plain, generator.generate(batch, seeds=seeds, candidates=1))
    assert torch.equal(plain, generator.decode(draw_best(generator, batch, seeds, 1)[:, 0]))


def test_the_nearest_candidate_of_each_row_is_kept(generator: MaskVATGenerator) -> None:
    batch, seeds, count = features(6), list(range(6)), 4
    drawn = [generator.codes(batch, [candidate_seed(s, n) for s in seeds]) for n in range(count)]
    assert generator.scav is not None
    with torch.inference_mode():
        seen = generator.scav.video(batch.semantic, batch.sync)
        heard = [generator.scav.audio(generator.codec.latents(codes)) for codes in drawn]
    expected = torch.stack([interpolated_euclidean(seen, one) for one in heard], 1)
    codes, distances = best_codes(generator, batch, seeds, count)
    assert torch.equal(distances, expected)
    nearest = expected.argmin(1).tolist()
    assert len(set(nearest)) > 1  # or this would show nothing
    assert all(torch.equal(codes[row], drawn[n][row]) for row, n in enumerate(nearest))
    assert torch.equal(generator.generate(batch, seeds=seeds, candidates=count), generator.decode(codes))
    # A candidate is the same however many others there are.
    fewer = best_codes(generator, batch, seeds, count - 1)[1]
    assert torch.equal(fewer, distances[:, :-1])


def test_only_the_chosen_are_decoded(generator: MaskVATGenerator) -> None:
    calls: list[int] = []
    hook = generator.codec.dac.decoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        waveform = generator.generate(features(2), seeds=[1, 2], candidates=3)
        assert len(calls) == 1
    finally:
        hook.remove()
    assert waveform.shape == (2, 1, generator.recipe.window)


def test_a_row_does_not_depend_on_who_shares_its_batch(generator: MaskVATGenerator) -> None:
    batch = features(3)
    assert batch.semantic is not None and batch.sync is not None
    together = generator.generate(batch, seeds=[1, 2, 3], candidates=3)
    turned = Batch(semantic=batch.semantic[[2, 0, 0]], sync=batch.sync[[2, 0, 0]])
    again = generator.generate(turned, seeds=[3, 1, 1], candidates=3)
    assert torch.equal(again, together[[2, 0, 0]])


def test_what_is_known_stays_in_every_candidate(generator: MaskVATGenerator) -> None:
    shape = (2, generator.codec.n_codebooks, generator.recipe.codec_frames)
    known = torch.randint(512, shape, generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[..., :9] = True
    codes, _ = best_codes(generator, features(2), [1, 2], 3, known_codes=known, known_mask=mask)
    assert torch.equal(codes[mask], known[mask])
    assert not torch.equal(codes, known)


def test_a_model_that_cannot_select_says_so(generator: MaskVATGenerator) -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        generator.generate(features(1), seeds=[1], candidates=0)
    scav = generator.scav
    try:
        generator.scav = None
        with pytest.raises(ValueError, match="has no SCAV"):
            generator.generate(features(1), seeds=[1], candidates=2)
        generator.scav = SCAV(SCAVConfig(audio_channels=7, width=8, depth=1))
        with pytest.raises(ValueError, match="expects 7 channels, the codec's latents have 96"):
            generator.generate(features(1), seeds=[1], candidates=2)
    finally:
        generator.scav = scav


def test_a_checkpoint_keeps_it_in_a_file_of_its_own(generator: MaskVATGenerator, tmp_path: Path) -> None:
    save_generator(generator, tmp_path / "with")
    loaded = load_generator(str(tmp_path / "with"))
    assert not any(name.startswith("scav") for name in load_file(tmp_path / "with" / "model.safetensors"))
    assert isinstance(loaded, MaskVATGenerator)
    assert loaded.scav is not None and generator.scav is not None
    assert loaded.scav.config == generator.scav.config and not loaded.scav.training
    first = next(generator.scav.parameters())
    assert torch.equal(next(loaded.scav.parameters()), first.half().float())
    assert loaded.generate(features(1), seeds=[1], candidates=2).isfinite().all()
