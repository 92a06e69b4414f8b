"""VATT Audio: masking distributions, the bidirectional decoder, its loss and its sampler."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from v2a_models.vatt.audio import SIZES, AudioConfig, Condition, VATTAudio, alibi, sized
from v2a_models.vatt.losses import divergence, smoothed_cross_entropy, training_loss
from v2a_models.vatt.masking import DISTRIBUTIONS, Masking, truncated_normal
from v2a_models.vatt.sampling import PAPER, sample, stacked

TINY = AudioConfig(
    n_codebooks=3,
    codebook_size=16,
    condition_dim=12,
    sync_dim=5,
    dim=32,
    separate=1,
    shared=1,
    heads=4,
    dropout=0.0,
)
FAST = dataclasses.replace(PAPER, steps=4, guidance=2.0, choice_temperature=2.0)


def model(**sizes: object) -> VATTAudio:
    torch.manual_seed(0)
    net = VATTAudio(dataclasses.replace(TINY, **sizes)).eval()  # type: ignore[arg-type]
    for modulation in net.modulations:  # they begin at zero, as if nothing were said
        torch.nn.init.normal_(modulation.weight, std=0.3)  # type: ignore[arg-type]
    return net


KINDS = pytest.mark.parametrize(
    "kind", [dict(join="prefix"), dict(join="cross"), dict(modulated=2)], ids=["prefix", "cross", "modulated"]
)


def condition(net: VATTAudio, rows: int, n: int = 4, length: int = 9, seed: int = 0) -> Condition:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(rows, n, net.config.condition_dim, generator=generator)
    sync = torch.randn(rows, 5, 5, generator=generator) if net.config.sync_dim else None
    return net.condition(tokens, torch.ones(rows, n, dtype=torch.bool), sync, length)


# masking


@given(st.sampled_from(DISTRIBUTIONS), st.floats(0, 1, exclude_max=True), st.floats(0, 1))
def test_every_distribution_stays_within_its_bounds(name: str, u: float, progress: float) -> None:
    share = Masking(name).fraction(u, progress)
    assert (0 if name == "arccos" else 0.5) <= share <= 1


@given(st.floats(0.3, 1.2), st.floats(0.05, 1), st.floats(0, 0.999), st.floats(0, 0.999))
def test_quantiles_of_the_truncated_normal_rise(mean: float, sigma: float, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert truncated_normal(low, mean, sigma, 0.5, 1) <= truncated_normal(high, mean, sigma, 0.5, 1) + 1e-9


def test_truncated_normal_has_the_mean_that_theory_gives() -> None:
    shares = [Masking().fraction((k + 0.5) / 4000) for k in range(4000)]
    assert sum(shares) / len(shares) == pytest.approx(0.75, abs=1e-3)  # bounds lie evenly around the mean
    mean, sigma, a, b = 0.55, 0.25, -0.2, 1.8
    density = lambda x: math.exp(-x * x / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    below = lambda x: (1 + math.erf(x / math.sqrt(2))) / 2  # noqa: E731
    expected = mean + sigma * (density(a) - density(b)) / (below(b) - below(a))
    shares = [truncated_normal((k + 0.5) / 4000, mean, sigma, 0.5, 1) for k in range(4000)]
    assert sum(shares) / len(shares) == pytest.approx(expected, abs=1e-3)


def test_the_moving_mean_moves() -> None:
    early, late = (Masking("moving").fraction(0.5, progress) for progress in (0.0, 1.0))
    assert early < Masking().fraction(0.5) < late


def test_a_wrong_distribution_lists_the_choices() -> None:
    with pytest.raises(ValueError, match="gaussian, uniform, arccos, moving"):
        Masking("gauss")


# the network


@given(st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 6), st.integers(1, 9))
def test_alibi_goes_both_ways_and_not_between_the_modalities(heads: int, n: int, frames: int) -> None:
    bias = alibi(heads, n, frames)
    assert bias.shape == (heads, n + frames, n + frames)
    assert torch.equal(bias, bias.transpose(1, 2))
    assert not bias[:, :n, n:].any() and not bias.diagonal(dim1=1, dim2=2).any()
    if frames > 2:
        assert torch.allclose(bias[:, n, n + 2], 2 * bias[:, n, n + 1])
    if n > 1:
        assert (bias[:, 0, 1] < 0).all()


@KINDS
@pytest.mark.parametrize("length", [1, 9, 40])
def test_logits_of_every_codebook_for_any_length(kind: dict[str, Any], length: int) -> None:
    net = model(**kind)
    codes = torch.full((2, 3, length), net.mask_id)
    assert net(codes, condition(net, 2, length=length)).shape == (2, 3, length, 16)


@KINDS
def test_padding_of_the_condition_changes_nothing(kind: dict[str, Any]) -> None:
    net = model(**kind)
    codes = torch.randint(0, 17, (2, 3, 9))
    one = condition(net, 2)
    noise = torch.randn(2, 3, net.config.dim)
    padded = Condition(
        torch.cat([one.tokens, noise], 1),
        torch.cat([one.valid, torch.zeros(2, 3, dtype=torch.bool)], 1),
        one.timing,
        one.modulations,
    )
    assert torch.allclose(net(codes, one), net(codes, padded), atol=1e-5)


@KINDS
def test_sees_the_condition_and_both_directions(kind: dict[str, Any]) -> None:
    net = model(**kind)
    codes = torch.randint(0, 16, (1, 3, 9))
    one = condition(net, 1)
    usual = net(codes, one)
    assert not torch.allclose(usual, net(codes, condition(net, 1, seed=1)))
    for at, seen in ((0, 8), (8, 0)):  # a changed code is heard at the other end, before and after
        other = codes.clone()
        other[:, :, at] = (other[:, :, at] + 1) % 16
        assert not torch.allclose(usual[:, :, seen], net(other, one)[:, :, seen])


def test_modalities_have_their_own_feed_forward_only_in_the_first_layers() -> None:
    net = VATTAudio(dataclasses.replace(TINY, separate=2, shared=3))
    assert [layer.other is not None for layer in net.layers] == [True, True, False, False, False]


def test_sync_features_are_asked_for() -> None:
    net = model()
    with pytest.raises(ValueError, match="sync features"):
        net.condition(torch.zeros(1, 2, 12), torch.ones(1, 2, dtype=torch.bool), None, 9)


def test_sizes_are_the_papers_and_wrong_ones_list_the_choices() -> None:
    large = sized("large")
    assert (large.dim, large.separate, large.shared, large.heads, large.dropout) == (1024, 12, 12, 16, 0.1)
    with pytest.raises(ValueError, match=next(iter(SIZES))):
        sized("huge")
    with pytest.raises(ValueError, match="condition_dim"):
        sized("mini", width=3)


# training


def test_cross_entropy_counts_hidden_codes_only_and_smooths() -> None:
    logits = torch.randn(2, 3, 5, 16)
    codes = torch.randint(0, 16, (2, 3, 5))
    hidden = torch.rand(2, 3, 5) < 0.5
    hidden[0, 0, 0] = True
    loss, plain, per_codebook = smoothed_cross_entropy(logits, codes, hidden)
    other = logits.clone()
    other[~hidden] = 100 * torch.randn_like(other[~hidden])
    assert torch.equal(loss, smoothed_cross_entropy(other, codes, hidden)[0])
    log = logits.log_softmax(-1)
    true = -log.gather(-1, codes[..., None])[..., 0][hidden].mean()
    even = -log.mean(-1)[hidden].mean()
    assert float(plain) == pytest.approx(float(true), rel=1e-5)
    assert float(loss) == pytest.approx(float(0.9 * true + 0.1 * even), rel=1e-5)
    counts = hidden.sum((0, 2)).float()
    assert float((per_codebook * counts).sum() / counts.sum()) == pytest.approx(float(true), rel=1e-5)


@KINDS
def test_learns_codes_that_follow_from_the_condition_and_gives_them_back(kind: dict[str, Any]) -> None:
    net = model(**kind).train()
    tokens = torch.stack([torch.full((2, 12), -1.0), torch.linspace(-1, 1, 12).expand(2, 12)]).repeat(4, 1, 1)
    tokens = tokens + 0.01 * torch.randn(8, 2, 12)
    codes = torch.tensor([3, 9]).repeat(4)[:, None, None].expand(8, 3, 8).contiguous()
    valid, sync = torch.ones(8, 2, dtype=torch.bool), torch.randn(8, 4, 5)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(80):
        losses = training_loss(net, tokens, valid, sync, codes, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert all(p.grad is not None for p in net.parameters())
    net.eval()
    made = sample(net, net.condition(tokens, valid, sync, 8), 8, list(range(8)), FAST)
    assert (made == codes).float().mean() > 0.9


def test_a_teacher_is_learnt_from_where_the_codes_say_nothing() -> None:
    """The codes are random; the teacher wants a code that the condition names, and that of dropped rows is not told."""
    net, told = model().train(), list[torch.Tensor]()
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(4, 1, 12, generator=generator).repeat(2, 1, 1)
    valid, sync = torch.ones(8, 1, dtype=torch.bool), torch.zeros(8, 4, 5)
    wanted = torch.tensor([3, 5, 8, 13] * 2)

    def teacher(masked: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        assert masked.shape == (8, 3, 8) and bool((masked == net.mask_id).any())
        told.append(keep)
        best = torch.where(keep, wanted, 0)
        return 9.0 * torch.nn.functional.one_hot(best, 16).float()[:, None, None].expand(8, 3, 8, 16)

    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(60):
        noise = torch.Generator().manual_seed(step)
        codes = torch.randint(16, (8, 3, 8), generator=noise)
        losses = training_loss(net, tokens, valid, sync, codes, noise, drop=0.2, teacher=teacher)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert any(not bool(keep.all()) for keep in told)
    net.eval()
    hidden = torch.full((8, 3, 8), net.mask_id)
    shown = net.condition(tokens, valid, sync, 8)
    assert torch.equal(net(hidden, shown).argmax(-1), wanted[:, None, None].expand(8, 3, 8))
    assert bool((net(hidden, net.null_condition(shown)).argmax(-1) == 0).all())


def test_divergence_is_zero_for_the_same_and_counts_masked_codes_only() -> None:
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    hidden = torch.zeros(2, 3, 4, dtype=torch.bool)
    hidden[:, :, :2] = True
    assert float(divergence(logits, logits, hidden)) == pytest.approx(0, abs=1e-6)
    other = logits.clone()
    other[:, :, 2:] += torch.arange(5.0)
    assert float(divergence(logits, other, hidden)) == pytest.approx(0, abs=1e-6)
    p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
    shape = (1, 1, 1, 2)
    found = divergence(p.log().view(shape), q.log().view(shape), torch.ones(1, 1, 1, dtype=torch.bool))
    assert float(found) == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-5)


# sampling


@KINDS
def test_a_row_depends_on_its_own_condition_and_seed_only(kind: dict[str, Any]) -> None:
    net = model(**kind)
    one = condition(net, 3)
    together = sample(net, one, 9, [7, 8, 9], FAST)
    second = Condition(
        *(part[1:2] for part in one[:3]),  # type: ignore[index]
        modulations=tuple(part[1:2] for part in one.modulations),
    )
    alone = sample(net, second, 9, [8], FAST)
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together, sample(net, one, 9, [7, 5, 9], FAST))


def test_known_codes_stay() -> None:
    net = model()
    known = torch.randint(0, 16, (2, 3, 9))
    mask = torch.rand(2, 3, 9) < 0.5
    made = sample(net, condition(net, 2), 9, [1, 2], FAST, known, mask)
    assert torch.equal(made[mask], known[mask])
    assert int(made.min()) >= 0 and int(made.max()) < 16


def test_a_negative_condition_is_moved_away_from() -> None:
    net = model()
    one, other = condition(net, 2), condition(net, 2, n=6, seed=3)
    usual = sample(net, one, 9, [1, 2], FAST)
    assert not torch.equal(usual, sample(net, one, 9, [1, 2], FAST, negative=other))
    # Away from itself there is nothing to move along: the same as no guidance.
    plain = sample(net, one, 9, [1, 2], dataclasses.replace(FAST, guidance=1.0))
    assert torch.equal(plain, sample(net, one, 9, [1, 2], FAST, negative=one))


def test_guidance_in_the_first_steps_only() -> None:
    net = model()
    one = condition(net, 2)

    def made(**how: float) -> torch.Tensor:
        return sample(net, one, 9, [1, 2], dataclasses.replace(FAST, guidance=4.0, **how))

    assert torch.equal(made(guided=0.0), sample(net, one, 9, [1, 2], dataclasses.replace(FAST, guidance=1.0)))
    assert not torch.equal(made(guided=0.25), made(guided=0.0))
    assert not torch.equal(made(guided=0.25), made(guided=1.0))


def test_rows_must_match() -> None:
    net = model()
    with pytest.raises(ValueError, match="3 seeds"):
        sample(net, condition(net, 2), 9, [1, 2, 3], FAST)
    both = stacked(condition(net, 2), condition(net, 2, n=6))
    assert both.tokens.shape[:2] == (4, 6) and both.valid[:2].sum() == 8
