"""MaskVAT: masks, sampling and the generator, at toy size with random weights."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from v2a_models.batch import Batch
from v2a_models.codec.dac import Codec
from v2a_models.encoders.clip_s3d import SemanticEncoder, SyncEncoder
from v2a_models.maskvat import masking
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.maskvat.losses import audio_prediction_losses, training_loss
from v2a_models.maskvat.model import VARIANTS, MaskVAT, MaskVATConfig, sized
from v2a_models.maskvat.sampling import SamplingConfig, sample, unmask
from v2a_models.recipe import Recipe, View

TOY = MaskVATConfig(n_codebooks=2, codebook_size=16, audio_dim=8, dim=32, depth=2, heads=2, encoder_depth=1)


def awake(config: MaskVATConfig) -> MaskVAT:
    """A random model whose zero-initialised paths from the video are not zero, so that the condition matters."""
    torch.manual_seed(0)
    model = MaskVAT(config).eval()
    for conditioner, block in zip(model.conditioners, model.blocks, strict=True):
        if conditioner.modulation is not None:
            torch.nn.init.normal_(conditioner.modulation.weight, std=0.2)
        if block.cross is not None:
            torch.nn.init.normal_(block.cross.out.weight, std=0.5)
    if model.final_modulation is not None:
        torch.nn.init.normal_(model.final_modulation.weight, std=0.2)
    return model


@pytest.fixture(scope="module", params=sorted(VARIANTS))
def model(request: pytest.FixtureRequest) -> MaskVAT:
    return awake(replace(TOY, variant=request.param))


def features(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 4, 128, generator=generator), torch.randn(rows, 12, 128, generator=generator)


shapes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 30))


@given(shapes, st.lists(st.floats(0, 1), min_size=4, max_size=4), st.integers(0, 99))
def test_training_mask_hides_exactly_its_share(
    shape: tuple[int, int, int], shares: list[float], seed: int
) -> None:
    share = torch.tensor(shares[: shape[0]])
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    mask = masking.random_mask(share, noise)
    assert mask.shape == shape
    for row, wanted in zip(mask, share, strict=True):
        assert row.sum() == max(1, round(float(wanted * shape[1] * shape[2])))


def test_masked_fraction_has_the_papers_mean() -> None:
    u = (torch.arange(100_000) + 0.5) / 100_000
    assert masking.masked_fraction(u).mean() == pytest.approx(2 / math.pi, abs=1e-3)


@given(st.integers(1, 40), st.integers(0, 3000))
def test_decoding_reveals_more_at_every_step_and_all_in_the_end(steps: int, total: int) -> None:
    hidden = [masking.hidden_after(step, steps, total) for step in range(1, steps + 1)]
    assert hidden == sorted(hidden, reverse=True)
    assert hidden[-1] == 0
    assert all(0 <= n <= total for n in hidden)


@given(shapes, st.integers(0, 99), st.integers(0, 60))
def test_lowest_picks_the_least_confident_candidates_only(
    shape: tuple[int, int, int], seed: int, count: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    confidence = torch.rand(shape, generator=generator)
    candidates = torch.rand(shape, generator=generator) < 0.5
    picked = masking.lowest(confidence, candidates, torch.full((shape[0],), count))
    assert not (picked & ~candidates).any()
    for row in range(shape[0]):
        assert picked[row].sum() == min(count, int(candidates[row].sum()))
        left = candidates[row] & ~picked[row]
        if picked[row].any() and left.any():
            assert confidence[row][picked[row]].max() <= confidence[row][left].min()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.floats(0, 1), st.integers(1, 6), st.sampled_from([1.0, 3.0]))
def test_known_codes_never_change(
    model: MaskVAT, seed: int, share: float, steps: int, guidance: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    known = torch.randint(0, TOY.codebook_size, (2, 2, 20), generator=generator)
    mask = torch.rand(known.shape, generator=generator) < share
    config = SamplingConfig(steps=steps, guidance=guidance)
    codes = sample(model, *features(2), 20, [seed, seed + 1], config, known, mask)
    assert torch.equal(codes[mask], known[mask])
    assert codes.min() >= 0 and codes.max() < TOY.codebook_size  # nothing is left hidden


def test_a_row_does_not_depend_on_the_rows_beside_it(model: MaskVAT) -> None:
    semantic, sync = features(4)
    together = sample(model, semantic, sync, 24, [1, 2, 3, 4], SamplingConfig(steps=4))
    order = [2, 0, 3, 1]
    shuffled = sample(model, semantic[order], sync[order], 24, [3, 1, 4, 2], SamplingConfig(steps=4))
    assert torch.equal(together[order], shuffled)
    padded = sample(
        model, semantic[[1, 1, 1, 1]], sync[[1, 1, 1, 1]], 24, [2, 9, 9, 9], SamplingConfig(steps=4)
    )
    assert torch.equal(together[1], padded[0])


def test_nor_on_how_much_of_those_is_known(model: MaskVAT) -> None:
    semantic, sync = features(3)
    known = torch.randint(0, TOY.codebook_size, (3, 2, 24), generator=torch.Generator().manual_seed(5))
    mask = torch.zeros(known.shape, dtype=torch.bool)
    mask[1, :, :6], mask[2, :, 2:] = True, True
    config = SamplingConfig(steps=4, guidance=2, guided=0.5)
    together = sample(model, semantic, sync, 24, [1, 2, 3], config, known, mask)
    for row in range(3):
        # As many rows, so that the arithmetic is the same.
        same = [row] * 3
        alone = sample(model, semantic[same], sync[same], 24, [row + 1] * 3, config, known[same], mask[same])
        assert torch.equal(together[row], alone[0])


@given(st.integers(1, 40), st.integers(0, 24), st.integers(0, 9))
def test_of_what_is_partly_known_less_is_asked(steps: int, n_known: int, seed: int) -> None:
    """Passes decrease with the number of codes to find, but never below half."""
    passes = 0

    def predict(codes: torch.Tensor) -> torch.Tensor:
        nonlocal passes
        passes += 1
        return torch.zeros(*codes.shape, 8)

    known, mask = torch.ones(1, 1, 24, dtype=torch.long), (torch.arange(24) < n_known)[None, None]
    codes = unmask(predict, (1, 24, 8), [seed], SamplingConfig(steps=steps), "cpu", known, mask)
    assert codes.max() < 8
    assert abs(24 * passes - steps * max(12, 24 - n_known)) <= 12
    assert n_known or passes == steps


def test_the_seed_and_the_picture_matter(model: MaskVAT) -> None:
    semantic, sync = features(1)
    one = sample(model, semantic, sync, 24, [1])
    assert torch.equal(one, sample(model, semantic, sync, 24, [1]))
    assert not torch.equal(one, sample(model, semantic, sync, 24, [2]))
    assert not torch.equal(one, sample(model, semantic * -3, sync * -3, 24, [1]))


def test_top_1_is_greedy(model: MaskVAT) -> None:
    semantic, sync = features(1)
    config = SamplingConfig(steps=1, top_k=1, guidance=1)
    assert torch.equal(
        sample(model, semantic, sync, 24, [1], config), sample(model, semantic, sync, 24, [2], config)
    )


def test_wrong_shapes_are_refused(model: MaskVAT) -> None:
    semantic, sync = features(2)
    with pytest.raises(ValueError, match="1 seeds"):
        sample(model, semantic, sync, 10, [1])
    with pytest.raises(ValueError, match="known_codes"):
        sample(model, semantic, sync, 10, [1, 2], known_mask=torch.zeros(2, 2, 9, dtype=torch.bool))


def test_guidance_moves_away_from_the_negative(model: MaskVAT) -> None:
    semantic, sync = features(1)
    config = SamplingConfig(steps=3, guidance=4.0)
    null = sample(model, semantic, sync, 24, [1], config)
    other = sample(model, semantic, sync, 24, [1], config, negative=features(1, seed=5))
    assert not torch.equal(null, other)
    # Away from itself is nowhere: any guidance equals none.
    itself = sample(model, semantic, sync, 24, [1], config, negative=(semantic, sync))
    plain = sample(model, semantic, sync, 24, [1], replace(config, guidance=1.0))
    assert (itself == plain).float().mean() > 0.95  # but for sums rounded otherwise


def test_every_variant_captures_as_one_graph(model: MaskVAT) -> None:
    codes, condition = torch.zeros(1, 2, 12, dtype=torch.long), model.condition(*features(1), 12)
    graph = torch.compile(
        lambda c, v: model(c, model.conditionings(v)), backend="eager", fullgraph=True
    )  # raises where Python would have to be run in between
    assert torch.allclose(graph(codes, condition), model(codes, model.conditionings(condition)), atol=1e-5)


def test_recomputed_activations_give_the_same_gradients() -> None:
    grads = []
    for recompute in (False, True):
        model = awake(replace(TOY, variant="hybrid")).train()
        model.recompute = recompute
        codes = torch.zeros(2, 2, 12, dtype=torch.long)
        training_loss(model, *features(2), codes, torch.Generator().manual_seed(0))["loss"].backward()
        grads.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) > 10
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_training_lowers_the_loss(variant: str) -> None:
    torch.manual_seed(0)
    model = MaskVAT(replace(TOY, variant=variant))
    semantic, sync = features(8)
    codes = torch.randint(0, 16, (8, 2, 1)).expand(8, 2, 20).contiguous()  # one code per row and level
    audio = torch.randn(8, 5, 8)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    losses, predicted = [], []
    for step in range(60):
        generator = torch.Generator().manual_seed(step)
        out = training_loss(model, semantic, sync, codes, generator, audio=audio)
        optimizer.zero_grad()
        out["loss"].backward()
        assert all(
            p.grad is not None for p in model.parameters()
        )  # or data-parallel training would wait for ever
        optimizer.step()
        losses.append(float(out["codes"]))
        predicted.append(float(out.get("regression", 0)))
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    if variant != "adaln":
        assert sum(predicted[-5:]) < 0.9 * sum(predicted[:5])


def test_the_prediction_losses_are_least_for_the_truth() -> None:
    audio = torch.nn.functional.layer_norm(torch.randn(3, 5, 8), (8,))
    exact = audio_prediction_losses(audio.repeat_interleave(4, 1), audio)
    assert exact["regression"] == pytest.approx(0, abs=1e-6)
    wrong = audio_prediction_losses(audio.roll(1, 0).repeat_interleave(4, 1), audio)
    assert wrong["regression"] > 0.5 and wrong["contrast"] > exact["contrast"] + 1


@pytest.mark.parametrize("blind", ["semantic", "sync"])
def test_a_model_may_look_at_one_stream_only(blind: str) -> None:
    model = awake(replace(TOY, **{f"{blind}_dim": 0}))
    semantic, sync = features(1)
    given_both = sample(model, semantic, sync, 20, [3], SamplingConfig(steps=2))
    seen = dict(semantic=semantic, sync=sync) | {blind: None}
    assert torch.equal(
        given_both, sample(model, seen["semantic"], seen["sync"], 20, [3], SamplingConfig(steps=2))
    )
    with pytest.raises(ValueError, match="needs"):
        sample(model, None, None, 20, [3])


def test_sizes_are_named_and_options_checked() -> None:
    assert sized("hybrid", "base").dim == 768 and sized("hybrid", "base", dim=384).dim == 384
    for wrong in (dict(variant="hybird", size="mini"), dict(variant="adaln", size="huge")):
        with pytest.raises(ValueError, match="choose one of"):
            sized(**wrong)
    with pytest.raises(ValueError, match=r"known: .*depth"):
        sized("adaln", "mini", layers=3)


@pytest.fixture(scope="module")
def generator() -> MaskVATGenerator:
    torch.manual_seed(0)
    codec = dict(
        encoder_dim=2, encoder_rates=[2, 4, 8, 8], latent_dim=8, decoder_dim=16, decoder_rates=[8, 8, 4, 2],
        n_codebooks=2, codebook_size=16, codebook_dim=4, quantizer_dropout=False, sample_rate=44_100,
    )  # fmt: skip
    recipe = Recipe(name="toy", window_s=0.5, overlap_s=0.1, semantic=View(8, 64, 64), sync=View(25, 64, 64))
    parts = (Codec(codec), SemanticEncoder.mini(), SyncEncoder.mini(), MaskVAT(TOY))
    return MaskVATGenerator(recipe, *parts, SamplingConfig(steps=2)).eval()


def test_frames_to_sound_has_exact_length_and_repeats(generator: MaskVATGenerator) -> None:
    frames = torch.randint(0, 256, (2, 13, 64, 64, 3), dtype=torch.uint8)
    sound = generator.generate_from_frames({"semantic": frames[:, ::3], "sync": frames}, [1, 2])
    assert sound.shape == (2, 1, 22_050) and sound.dtype == torch.float32
    assert sound.abs().max() <= 1
    again = generator.generate_from_frames(
        {"semantic": frames[[1, 0]][:, ::3], "sync": frames[[1, 0]]}, [2, 1]
    )
    assert torch.equal(sound, again[[1, 0]])


def test_a_recipe_of_two_channels_places_the_same_sound(generator: MaskVATGenerator) -> None:
    moving = torch.zeros(1, 13, 64, 64, 3, dtype=torch.uint8)
    for k in range(13):
        moving[:, k, 4 * k : 4 * k + 8, 4:12] = 200
    frames = {"semantic": moving[:, ::3], "sync": moving}
    batch, mono = generator.features(frames), generator.generate_from_frames(frames, [1])
    assert batch.place is None
    generator.recipe = replace(generator.recipe, channels=2)
    try:
        made = generator.generate_from_frames(frames, [1])
        mirrored = generator.generate(
            replace(batch, place=generator.place({"sync": moving.flip(3)})), seeds=[1]
        )
        alike = generator.generate(batch, seeds=[1])
    finally:
        generator.recipe = replace(generator.recipe, channels=1)
    torch.testing.assert_close(made.mean(1, keepdim=True), mono, atol=1e-6, rtol=0)
    assert made[:, 0].square().mean() > 2 * made[:, 1].square().mean()
    torch.testing.assert_close(mirrored.flip(1), made, atol=1e-4, rtol=0)
    # Features of a store have no places.
    assert torch.equal(alike, mono.expand(1, 2, -1))


def test_unknown_sampling_option_is_refused(generator: MaskVATGenerator) -> None:
    with pytest.raises(TypeError, match="stepz"):
        generator.generate(Batch(*features(1)), seeds=[1], stepz=3)


def test_a_batch_with_unequal_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="rows differ"):
        Batch(semantic=torch.zeros(2, 3, 4), sync=torch.zeros(3, 3, 4))


def test_frames_of_another_kind_are_refused(generator: MaskVATGenerator) -> None:
    with pytest.raises(ValueError, match="uint8 frames"):
        generator.features({"semantic": torch.zeros(1, 2, 64, 64, 3), "sync": torch.zeros(1, 5, 64, 64, 3)})
