"""A tiny training task, and batches for it."""

import torch
from torch import Tensor, nn


def quadratic() -> nn.Module:
    """A task (batch, seed) -> losses."""

    class Task(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.units = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 1)])

        def forward(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
            guess = self.units[1](torch.tanh(self.units[0](batch["x"])))
            loss = ((guess - batch["x"].sum(1, keepdim=True)) ** 2).mean()
            return dict(loss=loss, part=loss / 2)

    return Task()


def some_batch(seed: int, n: int = 16) -> dict[str, Tensor]:
    return {"x": torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))}
