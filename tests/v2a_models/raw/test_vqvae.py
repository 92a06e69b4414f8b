"""The 3D VQ-VAE and its decoder to sound."""

from __future__ import annotations

import pytest
import torch

from v2a_models.raw.vqvae import Quantiser, VQVAEConfig, VQVAESound

SHAPE = (6, 18, 16)


def model(**options: object) -> VQVAESound:
    torch.manual_seed(0)
    config = VQVAEConfig(width=4, codebook_size=16, code_dim=4, hidden=(8,), **options)  # type: ignore[arg-type]
    return VQVAESound(config, SHAPE, loss="mse", channels=2, samples=50)


def film(rows: int = 2) -> torch.Tensor:
    """Bars that wander: something to be learnt."""
    t, h, w = SHAPE
    frames = torch.zeros(rows, t, h, w, 3, dtype=torch.uint8)
    for row in range(rows):
        for k in range(t):
            frames[row, k, :, (3 * row + 2 * k) % w] = 255
    return frames


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_codes_are_the_nearest_and_gradients_pass_straight_on() -> None:
    quantiser = Quantiser(VQVAEConfig(codebook_size=8, code_dim=3)).eval()
    quantiser.codes.copy_(torch.randn(8, 3, generator=seeded()))
    x = torch.randn(20, 3, generator=seeded(1), requires_grad=True)
    quantised, commitment, perplexity = quantiser(x)
    nearest = (x[:, None] - quantiser.codes).square().sum(-1).argmin(1)
    assert torch.allclose(quantised, quantiser.codes[nearest], atol=1e-6)
    assert float(commitment) == pytest.approx(float((x - quantised).square().mean()), rel=1e-5)
    share = torch.bincount(nearest, minlength=8) / 20
    assert float(perplexity) == pytest.approx(
        float(torch.exp(-torch.special.xlogy(share, share).sum())), rel=1e-4
    )
    quantised.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.ones_like(x))


def test_dead_codes_are_put_onto_what_there_is() -> None:
    quantiser = Quantiser(VQVAEConfig(codebook_size=16, code_dim=2)).train()
    generator = seeded()
    near = torch.randn(256, 2, generator=generator) * 0.1
    quantiser(near, generator)
    far = near + 10  # all that was learnt is far from everything now
    for _ in range(150):
        _, _, perplexity = quantiser(far, generator)
    assert float(perplexity) > 8
    assert (quantiser.codes.mean(0) - 10).abs().max() < 0.5


def test_only_training_moves_the_codebook() -> None:
    made = model()
    made.vqvae.train()(film(), seeded())
    before = made.vqvae.quantiser.codes.clone()
    made.vqvae.eval()(film(), seeded())
    made.eval().generate(film())
    assert torch.equal(made.vqvae.quantiser.codes, before)


def test_frames_are_rebuilt_better_and_better() -> None:
    made = model()
    task = made.task().train()
    optimizer = torch.optim.Adam(task.parameters(), 3e-3)
    losses = []
    for step in range(60):
        losses.append(task(film(), seeded(step)))
        optimizer.zero_grad()
        losses[-1]["loss"].backward()
        optimizer.step()
    assert float(losses[-1]["rebuilt"]) < 0.5 * float(losses[0]["rebuilt"])
    assert float(losses[-1]["perplexity"]) > 4
    quantised, _, _ = made.vqvae.eval().encode(film())
    assert quantised.shape == (2, 4, 2, 5, 4), "every fourth frame, row and column, the last of them repeated"
    assert made.vqvae.rebuild(quantised, film()).shape == (2, 3, *SHAPE)


def test_the_second_stage_leaves_the_first_as_it_is() -> None:
    made = model(stage=2)
    made.vqvae.quantiser.codes.normal_(generator=seeded())
    before = {name: tensor.clone() for name, tensor in made.vqvae.state_dict().items()}
    task = made.task().train()
    assert {name.split(".")[0] for name, _ in task.named_parameters()} == {"decoder"}
    sound = (torch.rand(2, 2, 50, generator=seeded()) * 20_000 - 10_000).short()
    optimizer = torch.optim.Adam(task.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        losses.append(task(film(), sound)["loss"])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert float(losses[-1]) < 0.2 * float(losses[0]), "two windows can be learnt by heart"
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.vqvae.state_dict().items())
    assert made.eval().generate(film()).shape == (2, 2, 50)
