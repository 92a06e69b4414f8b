"""Recipes from files hold what a model can have, whoever wrote them."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest

from v2a_models.checkpoint_files import BUNDLED
from v2a_models.recipe import Recipe

USUAL: dict[str, Any] = json.loads((BUNDLED / "mini" / "config.json").read_text())["recipe"]

ODD: dict[str, dict[str, Any]] = {
    "texts for numbers": {"overlap_s": "x"},
    "endless": {"window_s": math.inf},
    "no number": {"window_s": math.nan},
    "windows without a sample": {"window_s": 1e-9, "overlap_s": 0},
    "windows that never advance": {"overlap_s": 4 - 1e-12},
    "parts of a sample": {"hop": 0.5},
    "parts of a pixel": {"semantic": USUAL["semantic"] | {"width": 1.5}},
    "frames of gigabytes": {"sync": USUAL["sync"] | {"width": 1 << 14, "height": 1 << 14}},
    "another fit": {"sync": USUAL["sync"] | {"fit": "stretch"}},
    "a list for a text": {"name": ["mini"]},
    "numbers for encoders": {"encoders": [1]},
    "a number for a view": {"semantic": 3},
}


@pytest.mark.parametrize("case", ODD)
def test_values_that_no_model_has_are_refused(case: str) -> None:
    assert Recipe.from_dict(copy.deepcopy(USUAL)).to_dict() == {**USUAL, "encoders": tuple(USUAL["encoders"])}
    with pytest.raises(ValueError):
        Recipe.from_dict(copy.deepcopy(USUAL) | ODD[case])


@pytest.mark.parametrize("values", [None, [], "mini", 3])
def test_what_is_no_object_is_refused(values: Any) -> None:
    with pytest.raises(ValueError):
        Recipe.from_dict(values)
