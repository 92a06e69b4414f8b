"""Options are checked and parsed in one way in all verbs."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.common import checks
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
