"""Euler steps along flows whose end is known, and guidance."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from v2a_models.mmaudio.sampling import euler, guided, times_of


@given(st.integers(1, 40))
def test_a_constant_flow_is_followed_to_its_end(steps: int) -> None:
    noise, velocity = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    seen = []

    def flow(x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        seen.append(times.tolist())
        return velocity

    assert torch.allclose(euler(flow, noise, steps), noise + velocity, atol=1e-5)
    assert seen == [[float(t)] * 2 for t in times_of(steps)[:-1]] and seen[0] == [0.0, 0.0]


def network(x: torch.Tensor, times: torch.Tensor, condition: Any) -> torch.Tensor:
    return condition * torch.ones_like(x)


@pytest.mark.parametrize(("guidance", "velocity"), [(4.5, 4.5 * 2 - 3.5 * 1), (1.0, 2.0), (0.5, 2.0)])
def test_guidance_leads_away_from_the_empty_condition(guidance: float, velocity: float) -> None:
    given_, empty = (torch.tensor(value) for value in (2.0, 1.0))
    flow = guided(network, given_, empty, guidance)  # type: ignore[arg-type]
    assert flow(torch.zeros(1, 2, 2), torch.zeros(1)).unique().tolist() == [velocity]
