"""Randomness per row."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from v2a_models.seeds import RowNoise, window_seed


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=5))
def test_a_rows_noise_is_its_own(seeds: list[int]) -> None:
    together = RowNoise(seeds).gumbel(3, 4)
    for row, seed in enumerate(seeds):
        assert torch.equal(together[row], RowNoise([seed]).gumbel(3, 4)[0])
    assert torch.isfinite(together).all()


def test_window_seeds_differ_in_every_part_of_the_name() -> None:
    names = [(0, "a", 0, 0), (1, "a", 0, 0), (0, "b", 0, 0), (0, "a", 1, 0), (0, "a", 0, 1)]
    seeds = [window_seed(*name) for name in names]
    assert len(set(seeds)) == len(names)
    assert window_seed(0, "a", 0) == seeds[0]
    assert all(0 <= seed < 2**63 for seed in seeds)
