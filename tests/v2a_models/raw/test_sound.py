"""Samples as classes, losses as published, drawing from a distribution."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from v2a_models.raw import sound

floats = st.floats(-1, 1, width=32)


@given(floats)
def test_a_class_stands_for_a_sample_of_that_class(value: float) -> None:
    classes = sound.mu_law(torch.tensor(value))
    said = sound.mu_law_inverse(classes)
    assert sound.mu_law(said) == classes
    assert sound.mu_law(sound.on_grid(said)) == classes, "a file of 16 bits moves it to another class"
    # Half a step of the scale at this level: fine near silence, coarse near full scale.
    level = max(abs(value), abs(float(said)))
    assert abs(float(said) - value) <= (1 + 255 * level) / 255 * math.log(256) / 255 + 1e-6


def test_all_classes_are_distinct_and_in_order() -> None:
    levels = sound.mu_law_inverse(torch.arange(256))
    assert (levels.diff() > 0).all() and levels[0] == -1 and levels[-1] == 1


@given(floats)
def test_what_a_file_keeps_is_kept_unchanged(value: float) -> None:
    once = sound.on_grid(torch.tensor(value))
    assert sound.on_grid(once) == once
    assert sound.to_float((once * 32767).round().short()) == once


def test_drawing_follows_the_distribution_and_the_uniform_number() -> None:
    logits = torch.full((3, 256), -50.0)
    logits[:, 10], logits[:, 200] = math.log(0.25), math.log(0.75)
    drawn = sound.mu_law(sound.draw(logits, torch.tensor([0.1, 0.24, 0.26]), 1.0))
    assert drawn.tolist() == [10, 10, 200]
    assert (sound.mu_law(sound.draw(logits, torch.zeros(3), 0)) == 200).all()
    ends = sound.draw(torch.zeros(2, 256), torch.tensor([1e-7, 1 - 1e-7]), 1.0)
    assert sound.mu_law(ends).tolist() == [0, 255]


def test_the_expected_sample_is_the_mean_of_the_distribution() -> None:
    logits = torch.full((256,), -50.0)
    logits[sound.mu_law(torch.tensor([-0.5, 0.5]))] = 0.0
    assert float(sound.expected(logits)) == pytest.approx(0.0, abs=0.02)


def test_the_published_cross_entropy_is_no_proper_loss() -> None:
    """This explains the negative values of Table I and the resting position of 0.6 in Fig. 11."""
    true = torch.tensor([[-0.5, -0.2]])
    assert float(sound.signed_cross_entropy(true, true)) < 0
    apart = torch.tensor([[-1.0, 1.0]])
    assert sound.signed_cross_entropy(apart, true) < sound.signed_cross_entropy(true, true)
    # All channels moved together change nothing.
    assert torch.allclose(
        sound.signed_cross_entropy(true + 0.6, true), sound.signed_cross_entropy(true, true), atol=1e-6
    )
    predicted = torch.zeros(1, 2, requires_grad=True)
    sound.signed_cross_entropy(predicted, torch.tensor([[0.3, 0.3]])).sum().backward()
    assert predicted.grad is not None and predicted.grad.abs().max() < 1e-7, "mono teaches nothing"


def test_moments_that_do_not_count_do_not_count() -> None:
    predicted, true = torch.zeros(2, 4, 2), torch.zeros(2, 4, 2)
    true[:, 0] = 1
    all_of_it = sound.prediction_losses("mse", predicted, true)
    rest = sound.prediction_losses("mse", predicted, true, torch.tensor([0.0, 1, 1, 1]))
    assert float(all_of_it["loss"]) == pytest.approx(0.25) and float(rest["loss"]) == 0


@pytest.mark.parametrize(
    ("loss", "channels", "says"), [("l1", 2, "choose"), ("signed-cross-entropy", 1, "stereo")]
)
def test_losses_that_cannot_be_had(loss: str, channels: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        sound.check_loss(loss, sound.LOSSES, channels)
