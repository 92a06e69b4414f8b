"""Counting floating-point operations."""

import torch

from tests.support.toy_task import quadratic, some_batch
from v2a_models.training import flops, optim


def test_operations_of_both_passes_are_counted() -> None:
    task = quadratic()
    with flops.counting_flops() as counter:
        optim.backward(task, [some_batch(1, n=16)], [1])
    forward = 2 * 16 * (4 * 8 + 8 * 1)
    # Back: every weight's gradient, and that of the second layer's input.
    assert counter.get_total_flops() == forward + forward + 2 * 16 * 8
    peak, source = flops.peak_flops(torch.device("cpu"), "float32")
    assert peak > 1e8 and "float32" in source
