"""Options are checked and parsed in one way in all verbs."""

from __future__ import annotations

import importlib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import cli
from jobs.common import checks, parser
from jobs.common.verb import WrongUsage
from jobs.synth import SynthConfig


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("clips", 0, "--clips must be at least 1, not 0"),
        ("seconds", float("nan"), "--seconds must be at least 1, not nan"),
        ("seconds", float("inf"), "--seconds must be at least 1, not inf"),
        ("num_workers", 0, "--num-workers must be at least 1, not 0"),
    ],
)
def test_a_value_below_its_bound_is_named_with_the_bound(field: str, value: float, message: str) -> None:
    config = SynthConfig("out", **{field: value})  # type: ignore[arg-type]
    with pytest.raises(WrongUsage, match=f"^{message}$"):
        checks.at_least(config, **{field: 1})


def test_values_at_the_bound_and_none_pass() -> None:
    checks.at_least(SynthConfig("out", clips=1, num_workers=None), clips=1, num_workers=1, seed=0)


def test_files_of_others_are_foreign_and_those_of_a_run_that_just_began_are_not(tmp_path: Path) -> None:
    (tmp_path / "_v2a" / "asked").mkdir(parents=True)
    (tmp_path / "_v2a" / "first").write_bytes(b"x")
    checks.check_not_foreign(str(tmp_path), "OUT")
    (tmp_path / "film.mp4").write_bytes(b"x")
    with pytest.raises(WrongUsage, match=r"film\.mp4; choose an empty folder"):
        checks.check_not_foreign(str(tmp_path), "OUT")


def test_named_values() -> None:
    assert checks.encoder_weights(("codec=/m/a=b.pth", "sync=x")) == {"codec": "/m/a=b.pth", "sync": "x"}
    assert checks.network_weights(()) == {}
    assert checks.model_settings(("depth=4", "ema=0.5", "loss=mae", "flag=true", "name=")) == {
        "depth": 4,
        "ema": 0.5,
        "loss": "mae",
        "flag": True,
        "name": "",
    }


@pytest.mark.parametrize(
    ("parse", "word", "message"),
    [
        (
            checks.encoder_weights,
            "codec",
            "--weights takes ROLE=FILE, such as codec=/models/dac.pth, not 'codec'",
        ),
        (checks.encoder_weights, "codec=", "--weights takes ROLE=FILE"),
        (checks.network_weights, "=a.pth", "--weights takes NETWORK=FILE, such as vggish="),
        (checks.model_settings, "depth", "--set takes NAME=VALUE, such as depth=4, not 'depth'"),
        (checks.model_settings, "a-b=4", "--set takes NAME=VALUE, such as depth=4, not 'a-b=4'"),
    ],
)
def test_other_words_are_refused_with_the_form(parse, word: str, message: str) -> None:
    with pytest.raises(WrongUsage, match=message):
        parse((word,))


def numbers(config: type) -> Iterator[tuple[str, type, int]]:
    """(name, int or float, length of a tuple or 0) of every option of a verb that takes a number."""
    for option in parser.options(config):
        kind = typing.get_args(option.kind)[0] if hasattr(option.kind, "__metadata__") else option.kind
        members = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
        for member in members:
            parts = typing.get_args(member) if typing.get_origin(member) is tuple else ()
            one = parts[0] if parts else member
            if one in (int, float):
                yield option.name, one, 2 if parts else 0


@pytest.mark.parametrize("verb", cli.VERBS)
def test_no_number_is_larger_than_its_column(verb: str) -> None:
    """Every number of every verb, also those that nobody has added yet."""
    config = getattr(importlib.import_module(cli.VERBS[verb].module), cli.VERBS[verb].config)
    values: dict[str, Any] = {o.name: "x" for o in parser.options(config) if o.required}
    values |= {name: kind(1) for name, kind, _ in numbers(config) if name in values}
    if "path" in values or "paths" in values or "files" in values or "models" in values:
        values |= {name: ("x",) for name in ("paths", "files", "models") if name in values}
    checks.check_values(parser.build(config, **values))
    for name, kind, length in numbers(config):
        wrong: list[Any] = [2**70, -(2**70)] + ([float("nan"), float("inf"), 1e300] if kind is float else [])
        for value in [*wrong, -1] if name == "seed" else wrong:
            whole = (value,) * length if length else value
            with pytest.raises(WrongUsage, match=f"^--{name.replace('_', '-')} must be"):
                checks.check_values(parser.build(config, **(values | {name: whole})))


def test_text_that_no_table_can_hold_is_refused() -> None:
    from jobs.dub.config import DubConfig

    with pytest.raises(WrongUsage, match="--prompt is not UTF-8"):
        checks.check_values(DubConfig("archive", "out", prompt="a \udcff"))
    checks.check_values(DubConfig("caf\udce9", "out", prompt="döng"))


@pytest.mark.parametrize("seed", [2**70, 2**63, -1])
@pytest.mark.parametrize("verb", ["dub", "redub", "synth", "train", "tune", "compare", "instruct"])
def test_a_seed_out_of_range_is_refused_before_anything_starts(
    verb: str, seed: int, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(tmp_path / "place")
    words = {
        "dub": [place, place], "redub": [place, "a.mp4", "--start", "0", "--end", "1"], "synth": [place],
        "train": ["maskvat", place, "--out", place], "tune": ["maskvat", place, "--out", place],
        "compare": ["mini", "--store", place, "--out", place], "instruct": [place, "--out", f"{place}.parquet"],
    }[verb]  # fmt: skip
    assert cli.main([verb, *words, "--seed", str(seed)]) == 2
    assert "--seed must be a whole number from 0 to 9223372036854775807" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
