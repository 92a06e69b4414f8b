"""Settings of an extraction that two runs must share."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pipelines.extract.job import ExtractJob
from v2a_models.recipe import Recipe

JOB = ExtractJob("store", Recipe("mini"), {"codec": "mini"})


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": Recipe("mini", window_s=2.0)},
        {"precision": "bfloat16"},
        {"batch_size": 2},
        {"silence_dbfs": -50.0},
        {"static_below": 1.0},
    ],
)
def test_what_decides_the_rows_is_identity(change: dict[str, Any]) -> None:
    assert dataclasses.replace(JOB, **change).identity() != JOB.identity()


@pytest.mark.parametrize("change", [{"store": "s3://b/k"}, {"device": "cuda"}, {"rows_per_file": 9}])
def test_where_and_how_fast_is_not(change: dict[str, Any]) -> None:
    assert dataclasses.replace(JOB, **change).identity() == JOB.identity()
