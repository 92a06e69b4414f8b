"""Layers of the flow transformer: what each does to a sequence whose result is known."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from v2a_models.mmaudio.layers import (
    HeadProjection,
    TimeConv,
    feed_forward_width,
    modulated,
    rotated,
    rotation_table,
)


def test_widths_are_the_published_ones() -> None:
    assert [feed_forward_width(dim) for dim in (448, 896, 128)] == [1280, 2560, 512]


def test_a_convolution_keeps_the_length_and_mixes_neighbours_only() -> None:
    conv = TimeConv(2, 3, 7)
    x = torch.zeros(1, 20, 2)
    silence = conv(x)
    x[0, 10] = 1
    moved = (conv(x) != silence).any(-1)[0]
    assert moved.tolist() == [7 <= k <= 13 for k in range(20)]


def test_queries_keys_and_values_are_interleaved_by_channel() -> None:
    heads = HeadProjection(8, 2)
    torch.nn.init.zeros_(heads.qkv.weight)
    with torch.no_grad():
        heads.qkv.bias.copy_(torch.arange(24.0))
    q, k, v = heads(torch.zeros(1, 1, 8), None)
    assert v[0, :, 0].tolist() == [[2, 5, 8, 11], [14, 17, 20, 23]]
    whole = torch.tensor([12.0, 15, 18, 21])
    assert torch.allclose(q[0, 1, 0], whole / whole.square().mean().sqrt())
    assert not torch.allclose(q, k)


@given(st.floats(0, 500), st.floats(0, 500), st.floats(0, 100))
def test_products_of_rotated_vectors_depend_on_their_distance(a: float, b: float, shift: float) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 64).unbind(0)

    def product(first: float, second: float) -> float:
        one, other = (
            rotated(v[None], rotation_table(torch.tensor([at]), 64)) for v, at in ((x, first), (y, second))
        )
        return float((one * other).sum())

    assert math.isclose(product(a, b), product(a + shift, b + shift), abs_tol=2e-2)
    assert math.isclose(product(a, a), float(x @ y), abs_tol=1e-4)


def test_modulation_shifts_after_it_scales() -> None:
    x = torch.randn(2, 5, 16)
    y = modulated(x, torch.full((2, 1, 16), 3.0), torch.full((2, 1, 16), 1.0))
    assert torch.allclose(y.mean(-1), torch.tensor(3.0), atol=1e-5)
    assert torch.allclose(y.std(-1, unbiased=False), torch.tensor(2.0), atol=1e-3)
