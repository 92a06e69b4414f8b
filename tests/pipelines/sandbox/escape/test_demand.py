"""A demand on the sandbox is met, or the command does not start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jobs import cli
from pipelines.sandbox import confinement
from pipelines.sandbox.confinement import NotConfined
from pipelines.sandbox.escape import self_test
from pipelines.sandbox.escape.demand import demanded
from tests.support.toy_generators import write_video

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the measures are Linux's")

ESCAPED = self_test.SelfTest(("reads a file by its name",), {})


def test_strict_refuses_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "a.mp4", 0.5)

    def refused() -> self_test.SelfTest:
        raise NotConfined(confinement.refusal({"namespaces": "forbidden"}))

    monkeypatch.setattr(self_test, "try_escapes", refused)
    assert cli.main(["scan", str(tmp_path), "--sandbox", "strict"]) == 2
    message = capsys.readouterr().err
    assert "namespaces: forbidden" in message and "v2a doctor" in message
    monkeypatch.setattr(self_test, "try_escapes", lambda: ESCAPED)
    assert cli.main(["scan", str(tmp_path), "--sandbox", "strict"]) == 2
    assert cli.main(["scan", str(tmp_path)]) == 0


def test_strict_is_demanded_of_children_and_no_longer_afterwards() -> None:
    if not self_test.try_escapes().complete:
        pytest.skip("this machine lacks a measure")
    assert not confinement.is_strict()
    with demanded("strict"):
        assert confinement.is_strict()
    assert not confinement.is_strict()


def test_the_environment_may_demand_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(self_test, "try_escapes", lambda: ESCAPED)
    monkeypatch.setenv(confinement.VARIABLE, "strict")
    assert cli.main(["scan", str(tmp_path)]) == 2
    monkeypatch.setenv(confinement.VARIABLE, "strickt")
    assert cli.main(["scan", str(tmp_path)]) == 2
    assert "strickt" in capsys.readouterr().err
