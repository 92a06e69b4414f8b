"""The learner: schedule and average by their formulas, and a restored one trains on like an undisturbed one."""

import dataclasses
import io
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tests.support.toy_task import quadratic, some_batch
from v2a_models.training import optim
from v2a_models.training.learner import Learner


@dataclass(frozen=True)
class Settings:
    steps: int = 20
    learning_rate: float = 0.05
    warmup: int = 4
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    ema: float = 0.8
    seed: int = 0


def train(learner: Learner, until: int) -> list[tuple[float, float]]:
    """Losses and learning rates of the steps up to step number `until`."""
    rows = []
    while learner.step < until:
        losses, _ = learner.gradients([some_batch(learner.step)])
        learner.apply(16)
        rows.append((float(losses["loss"]), learner.rate))
    return rows


def saved(learner: Learner) -> dict[str, Any]:
    """State as a checkpoint file gives it back."""
    file = io.BytesIO()
    torch.save(learner.state(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)  # type: ignore[no-any-return]


def equal(a: Learner, b: Learner) -> bool:
    """True for the same weights and averages, bit for bit."""
    x, y = a.state(), b.state()
    return all(torch.equal(x[part][name], y[part][name]) for part in ("model", "ema") for name in x[part])


def expected_rate(step: int, settings: Settings) -> float:
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / (settings.steps - settings.warmup)
    return settings.learning_rate * (0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)


def test_the_schedule_follows_its_formula() -> None:
    settings = Settings()
    rates = [rate for _, rate in train(Learner(quadratic(), settings), settings.steps)]
    assert rates == pytest.approx([expected_rate(step, settings) for step in range(settings.steps)])
    assert rates[3] == rates[4] == settings.learning_rate


def test_the_schedule_stays_at_its_end_and_may_have_no_warm_up() -> None:
    fraction = optim.warmup_cosine(100, 10)
    assert fraction(100) == pytest.approx(0.05) == fraction(200)
    assert optim.warmup_cosine(5, 0)(0) == 1.0


def test_the_average_follows_its_formula() -> None:
    settings = Settings()
    learner = Learner(quadratic(), settings)
    weight = learner.module.get_parameter("units.0.weight")
    average = weight.detach().clone()
    for step in range(12):
        train(learner, step + 1)
        decay = min(settings.ema, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight.detach()
        assert torch.allclose(learner.average.state()["units.0.weight"], average, atol=1e-6)
    last = weight.detach().clone()
    with learner.averaged():
        assert torch.allclose(weight, average, atol=1e-6) and not torch.allclose(weight, last)
    assert torch.equal(weight, last)


def test_decay_0_keeps_no_average() -> None:
    learner = Learner(quadratic(), Settings(ema=0.0))
    train(learner, 3)
    assert learner.average.state() == {}
    before = learner.module.get_parameter("units.0.weight").detach().clone()
    with learner.averaged():
        assert torch.equal(learner.module.get_parameter("units.0.weight"), before)


def test_frozen_weights_are_neither_averaged_nor_kept() -> None:
    task = quadratic()
    task.get_parameter("units.0.weight").requires_grad_(False)
    learner = Learner(task, Settings())
    train(learner, 3)
    state = learner.state()
    assert "units.0.weight" not in state["ema"] and "units.0.weight" not in state["model"]
    optim.fill(quadratic_with_frozen(), optim.finished_weights(state))


def quadratic_with_frozen() -> Any:
    task = quadratic()
    task.get_parameter("units.0.weight").requires_grad_(False)
    return task


def test_a_restored_learner_trains_on_as_if_undisturbed() -> None:
    whole, begun, resumed = (Learner(quadratic(), Settings()) for _ in range(3))
    rows = train(whole, 12)
    train(begun, 7)
    begun.log({"train/loss": 1.0})
    resumed.restore(saved(begun))
    assert resumed.history == [{"train/loss": 1.0, "step": 7}] and resumed.consumed == 7 * 16
    assert train(resumed, 12) == rows[7:]
    assert equal(whole, resumed)


def test_a_state_of_an_earlier_version_is_restored() -> None:
    """The earlier optimiser kept the rate of the last step, and no initial rate."""
    whole, begun, resumed = (Learner(quadratic(), Settings()) for _ in range(3))
    train(whole, 12)
    rows = train(begun, 7)
    state = saved(begun)
    for group in state["optimizer"]["param_groups"]:
        del group["initial_lr"]
        group["lr"] = rows[-1][1]
    resumed.restore(state)
    train(resumed, 12)
    assert equal(whole, resumed)


def test_more_steps_may_be_asked_for_later() -> None:
    begun, longer = Learner(quadratic(), Settings()), dataclasses.replace(Settings(), steps=60)
    train(begun, 10)
    resumed = Learner(quadratic(), longer)
    resumed.restore(saved(begun))
    assert train(resumed, 11)[0][1] == pytest.approx(expected_rate(10, longer))


def test_validation_weighs_batches_by_their_windows() -> None:
    learner = Learner(quadratic(), Settings())
    first, second = some_batch(1), some_batch(2)

    def double(totals: torch.Tensor) -> None:
        totals *= 2

    with learner.averaged():
        one, two = learner.validate([(first, 1.0)]), learner.validate([(second, 1.0)])
        both = learner.validate([(first, 3.0), (second, 1.0)], add_up=double)
    assert both == pytest.approx({name: (3 * one[name] + two[name]) / 4 for name in one})
