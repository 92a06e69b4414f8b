"""The training loop: stops, goes on, and ends where an undisturbed run ends."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from v2a_models.training import Diverged, FitConfig, fit, learning_rate

QUIET = dict(log=lambda text: None)


class Stop(Exception):
    pass


def step_loss_for(model: nn.Module, stop_at: int | None = None):  # type: ignore[no-untyped-def]
    def step_loss(step: int, rng: np.random.Generator) -> dict[str, Tensor]:
        if step == stop_at:
            raise Stop
        x = torch.from_numpy(rng.standard_normal((16, 4), np.float32))
        return dict(loss=((model(x) - x.sum(1, keepdim=True)) ** 2).mean())

    return step_loss


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 1)


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    config = FitConfig(steps=40, learning_rate=0.05, warmup=5, save_every_s=0, log_every=10)
    whole = linear()
    fit("m", whole, step_loss_for(whole), config, tmp_path / "whole", **QUIET)
    broken = linear()
    with pytest.raises(Stop):
        fit("m", broken, step_loss_for(broken, stop_at=23), config, tmp_path / "broken", **QUIET)
    resumed = linear()
    rows = fit("m", resumed, step_loss_for(resumed), config, tmp_path / "broken", **QUIET)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_a_finished_run_returns_its_weights_at_once(tmp_path: Path) -> None:
    config = FitConfig(steps=5)
    first = linear()
    fit("m", first, step_loss_for(first), config, tmp_path, **QUIET)
    second = linear()
    fit("m", second, step_loss_for(second, stop_at=0), config, tmp_path, **QUIET)
    assert torch.equal(first.weight, second.weight)  # type: ignore[arg-type]


def test_nan_stops_the_run_and_says_where(tmp_path: Path) -> None:
    model = linear()
    with pytest.raises(Diverged, match="step 0"):
        fit("m", model, lambda step, rng: dict(loss=model(torch.full((1, 4), torch.nan)).sum()), FitConfig(steps=3),
            tmp_path, **QUIET)  # fmt: skip


def test_schedule_rises_then_falls() -> None:
    rates = [learning_rate(p / 100, 1.0, 0.1) for p in range(101)]
    top = rates.index(max(rates))
    assert 5 <= top <= 15 and rates[0] < 0.1 and rates[-1] == pytest.approx(0.05)
    assert all(a >= b for a, b in zip(rates[top:], rates[top + 1 :], strict=False))
