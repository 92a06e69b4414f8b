"""Floating-point operations: how many a training step takes, and how many a device can do per second."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

PEAKS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "A10G": 70.0,
    "A10": 125.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
    "T4": 65.0,
    "V100": 125.0,
}
"""Makers' dense bfloat16 (float16 on older GPUs) tensor rates in TFLOP/s, by a part of the name; first match counts."""


def peak_flops(device: torch.device, precision: str) -> tuple[float, str]:
    """Peak floating-point operations per second of the device, and the source of that figure.

    The makers' table where it lists the GPU; otherwise measured by multiplying two matrices.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        rate = next((rate for part, rate in PEAKS.items() if part.lower() in name.lower()), None)
        if rate is not None:
            return rate * 1e12, f"{name}, maker's figure for bfloat16"
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    n = 4096 if device.type == "cuda" else 768
    a = torch.ones(n, n, device=device, dtype=dtype)
    best = math.inf
    for _ in range(5):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best, f"{device.type}, matrices of {n} multiplied in {precision}"


def counting_flops() -> Any:
    """Context manager that counts the floating-point operations run inside it (`get_total_flops`)."""
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    aten: Any = torch.ops.aten

    def forward(query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
        return sdpa_flop_count(query, key, value)

    def backwards(grad: Any, query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
        return sdpa_backward_flop_count(grad, query, key, value)

    # The counter knows the GPUs' attention kernels only.
    return FlopCounterMode(
        display=False,
        custom_mapping={
            aten._scaled_dot_product_flash_attention_for_cpu: forward,
            aten._scaled_dot_product_flash_attention_for_cpu_backward: backwards,
        },
    )
