"""Parts of a training step: AdamW groups, accumulation, clipping, and sharding."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.toy_task import quadratic, some_batch
from v2a_models.training import optim


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
