"""Generators named by a Python object: what counts as a reference, and what becomes of a wrong one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.toy_generators import NOISE, NoiseGenerator, reference
from v2a_models.checkpoint import load_generator
from v2a_models.checkpoint_files import CheckpointError
from v2a_models.object_reference import is_reference, load_model

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)


@given(st.lists(NAMES, min_size=1, max_size=3), st.lists(NAMES, min_size=1, max_size=2))
def test_a_module_and_a_name_are_a_reference(module: list[str], name: list[str]) -> None:
    assert is_reference(".".join(module) + ":" + ".".join(name))


@pytest.mark.parametrize(
    "model",
    [
        "mini",
        "",
        "models/mine",
        "/models/a:b",
        "./a:b",
        "models:/v2a/3",
        "models:/v2a@champion",
        "s3://bucket/key",
        "C:\\models",
        "a:b:c",
        "a.b",
        "a..b:c",
        "1a:b",
        "a:b()",
        "a: b",
        "a:b\n",
    ],
)
def test_paths_and_addresses_are_none(model: str) -> None:
    assert not is_reference(model)


def test_the_object_is_called_and_ready_to_generate() -> None:
    generator = load_model(NOISE)
    assert isinstance(generator, NoiseGenerator) and not generator.training


def test_any_other_name_is_a_checkpoint() -> None:
    with pytest.raises(CheckpointError, match="no model 'nobody'"):
        load_model("nobody")


def test_names_from_files_run_no_code() -> None:
    called = []
    wanted = reference(lambda: called.append(1) or NoiseGenerator())  # type: ignore[func-returns-value]
    with pytest.raises(CheckpointError, match="no model"):
        load_generator(wanted)
    assert not called
    load_model(wanted)
    assert called


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("no_such_module:Mine", "No module named 'no_such_module': install .* PYTHONPATH"),
        ("tests.support.toy_generators:Missing", "no attribute 'Missing'"),
        ("tests.support.toy_generators:SMALL_DAC", "'dict' object is not callable"),
        ("builtins:list", "returned list, not a v2a.Generator"),
    ],
)
def test_what_is_no_generator_is_refused_in_words(model: str, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        load_model(model)
