"""Costs: only what has a price, projected over what is dubbed and what is still to be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.reports.costs import Prices, costs, money

amounts = st.floats(0, 1e7)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "status": st.sampled_from(["dubbed", "skipped", "failed"]),
            "duration_s": st.none() | st.floats(1, 1e5),
            "core_seconds": st.none() | amounts,
            "gpu_seconds": st.none() | amounts,
        }
    ),
    max_size=8,
)


@given(rows, st.none() | st.floats(0, 100), st.none() | st.floats(0, 100))
def test_prices_of_what_was_made(table: list[dict[str, Any]], core: float | None, gpu: float | None) -> None:
    found = costs(table, Prices(core, gpu))
    assert found.core_s == pytest.approx(sum(row["core_seconds"] or 0 for row in table))
    if core is None and gpu is None:
        assert found.total is found.per_hour is found.archive is None and found.leaves_out == ""
        return
    assert found.total == pytest.approx((found.core_s * (core or 0) + found.gpu_s * (gpu or 0)) / 3600)
    dubbed = sum(row["duration_s"] or 0 for row in table if row["status"] == "dubbed")
    failed = sum(row["duration_s"] or 0 for row in table if row["status"] == "failed")
    if not dubbed:
        assert found.per_hour is found.archive is None
        return
    assert found.archive == pytest.approx(found.total * (1 + failed / dubbed))
    assert found.archive == pytest.approx(found.per_hour * (dubbed + failed) / 3600)


def test_what_has_no_price_is_named() -> None:
    table = [{"status": "dubbed", "duration_s": 10.0, "core_seconds": 5.0, "gpu_seconds": 1.0}]
    assert costs(table, Prices(gpu_hour=2.0)).leaves_out == "cores left out"
    assert costs(table, Prices(core_hour=2.0)).leaves_out == "GPUs left out"
    assert costs(table, Prices(1.0, 2.0)).leaves_out == ""
    assert costs(table[:0], Prices(1.0)).leaves_out == ""
    assert "price_gpu_hour" not in costs(table, Prices(core_hour=2.0)).figures()


def test_money() -> None:
    assert [money(v) for v in (0, 0.00345, 0.05, 1.5, 12_345.678)] == [
        "0.00",
        "0.0034",
        "0.05",
        "1.50",
        "12,345.68",
    ]
