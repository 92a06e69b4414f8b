"""The resumable loop: stopped runs go on to the same weights, also where an earlier version began them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from v2a_models.training.loop import Diverged, FitConfig, fit

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


def numbered(model: nn.Module, state: dict[str, Any]) -> dict[str, Any]:
    """State in the layout of earlier versions: AdamW's own state dict, and all of the model's state averaged."""
    matrices = [name for name, p in model.named_parameters() if p.ndim > 1]
    names = matrices + [name for name, p in model.named_parameters() if p.ndim <= 1]
    group = {
        k: v for k, v in state["optimizer"]["param_groups"][0].items() if k not in ("params", "initial_lr")
    }
    n = len(matrices)
    optimizer = dict(
        state={names.index(name): moments for name, moments in state["optimizer"]["state"].items()},
        param_groups=[
            group | dict(params=list(range(n)), weight_decay=0.01),
            group | dict(params=list(range(n, len(names))), weight_decay=0.0),
        ],
    )
    return dict(
        model=state["model"], optimizer=optimizer, ema=dict(state["model"]) | state["ema"], extra={},
        step=state["step"], spent=1.0,
    )  # fmt: skip


def test_a_run_that_an_earlier_version_began_goes_on(tmp_path: Path) -> None:
    config = FitConfig(steps=40, learning_rate=0.05, warmup=5, save_every_s=0, log_every=10)
    whole, broken, resumed = linear(), linear(), linear()
    fit("m", whole, step_loss_for(whole), config, tmp_path / "whole", **QUIET)
    with pytest.raises(Stop):
        fit("m", broken, step_loss_for(broken, stop_at=23), config, tmp_path, **QUIET)
    file = tmp_path / "m.state.pt"
    torch.save(numbered(broken, torch.load(file, weights_only=True)), file)
    rows = fit("m", resumed, step_loss_for(resumed), config, tmp_path, **QUIET)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
