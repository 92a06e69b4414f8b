"""The training loop: stops, goes on, and ends where an undisturbed run ends."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from v2a_models.training import optim
from v2a_models.training.loop import Diverged, FitConfig, fit, learning_rate

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


# what the workers of `v2a train` are made of


def quadratic() -> nn.Module:
    """A task (batch, seed) -> losses."""

    class Task(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.units = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 1)])

        def forward(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
            made = self.units[1](torch.tanh(self.units[0](batch["x"])))
            loss = ((made - batch["x"].sum(1, keepdim=True)) ** 2).mean()
            return dict(loss=loss, part=loss / 2)

    return Task()


def some_batch(seed: int, n: int = 16) -> dict[str, Tensor]:
    return {"x": torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))}


def test_the_schedule_counts_in_steps() -> None:
    schedule = optim.Schedule(steps=100, peak=2.0, warmup=10)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2) and rates[9] == rates[10] == 2.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert schedule.rate(100) == pytest.approx(0.1) == schedule.rate(200)
    assert optim.Schedule(5, 1.0, 0).rate(0) == 1.0


def test_only_matrices_decay() -> None:
    task = quadratic()
    decays = {p: g["weight_decay"] for g in optim.adamw(task, 1e-3, 0.1).param_groups for p in g["params"]}
    assert {name: decays[p] for name, p in task.named_parameters()} == {
        "units.0.weight": 0.1, "units.0.bias": 0.0, "units.1.weight": 0.1, "units.1.bias": 0.0,
    }  # fmt: skip


def test_two_pieces_make_the_gradient_of_the_whole() -> None:
    batch = some_batch(1)
    halves = [{"x": batch["x"][:8]}, {"x": batch["x"][8:]}]
    whole, pieces = quadratic(), quadratic()
    losses = optim.backward(whole, [batch], [1])
    summed = optim.backward(pieces, halves, [1, 2])
    for name in ("loss", "part"):
        assert torch.allclose(losses[name], summed[name])
    for a, b in zip(whole.parameters(), pieces.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None and torch.allclose(a.grad, b.grad, atol=1e-6)


def test_long_gradients_are_shortened() -> None:
    task = quadratic()
    optim.backward(task, [some_batch(1)], [1])
    before = optim.clip(task, 0.01)
    assert before > 0.01
    assert optim.clip(task, 1e9) == pytest.approx(0.01, rel=1e-3)


def test_the_average_follows_the_weights_and_swaps_in_and_out() -> None:
    task = quadratic()
    average = optim.Average(task, 0.9)
    weight = task.get_parameter("units.0.weight")
    first = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1.0)
    average.update(1000)
    with average.in_place():
        assert torch.allclose(weight, first + 0.1, atol=1e-6)
    assert torch.allclose(weight, first + 1.0)
    other = optim.Average(quadratic(), 0.9)
    other.load(average.state())
    assert torch.equal(other.kept["units.0.weight"], average.kept["units.0.weight"])


def train_some(task: nn.Module, steps: range, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """Weights, optimiser and average after these steps."""
    optimizer, average = optim.adamw(task, 0.01, 0.1), optim.Average(task, 0.9)
    if state is not None:
        state = copy.deepcopy(state)  # the optimiser goes on in these very tensors
        optim.restore(task, optimizer, state)
        average.load(state["ema"])
    for step in steps:
        optimizer.zero_grad()
        optim.backward(task, [some_batch(step)], [step])
        optim.clip(task, 1.0)
        optimizer.step()
        average.update(step)
    return optim.gather(task, optimizer) | dict(ema=average.state())


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    for part in ("model", "ema"):
        for name, tensor in a[part].items():
            assert torch.allclose(tensor, b[part][name], atol=1e-6), name


def test_restored_training_goes_on_as_if_undisturbed(tmp_path: Path) -> None:
    whole = train_some(quadratic(), range(8))
    torch.save(train_some(quadratic(), range(5)), tmp_path / "state")
    state = torch.load(tmp_path / "state", weights_only=True)
    same(whole, train_some(quadratic(), range(5, 8), state))


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    store = torch.distributed.FileStore(str(tmp_path / "meet"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_a_sharded_model_trains_alike_and_its_state_fits_a_whole_one(one_process: None) -> None:
    mesh = torch.distributed.init_device_mesh("cpu", (1,))
    half = train_some(optim.shard(quadratic(), "float32", mesh), range(5))
    same(half, train_some(quadratic(), range(5)))
    whole = train_some(quadratic(), range(8))
    same(whole, train_some(quadratic(), range(5, 8), half))
    same(whole, train_some(optim.shard(quadratic(), "float32", mesh), range(5, 8), half))


def sharded_process(rank: int, folder: str) -> None:
    store = torch.distributed.FileStore(f"{folder}/meet", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    half = train_some(optim.shard(quadratic(), "float32", mesh), range(5))
    if rank == 0:
        torch.save(half, f"{folder}/state")
    torch.distributed.barrier()
    state = torch.load(f"{folder}/state", weights_only=True)
    done = train_some(optim.shard(quadratic(), "float32", mesh), range(5, 8), state)
    if rank == 0:
        torch.save(done, f"{folder}/done")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_share_a_model(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(sharded_process, (str(tmp_path),), nprocs=2)
    same(torch.load(tmp_path / "done", weights_only=True), train_some(quadratic(), range(8)))


def test_operations_are_counted_with_the_way_back() -> None:
    task = quadratic()
    with optim.counting_flops() as counter:
        optim.backward(task, [some_batch(1, n=16)], [1])
    forward = 2 * 16 * (4 * 8 + 8 * 1)
    # Back: every weight's gradient, and that of the second layer's input.
    assert counter.get_total_flops() == forward + forward + 2 * 16 * 8
    peak, source = optim.peak_flops(torch.device("cpu"), "float32")
    assert peak > 1e8 and "float32" in source
