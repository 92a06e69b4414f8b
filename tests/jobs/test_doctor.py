"""`v2a doctor`: it reports what holds, and what does not."""

from __future__ import annotations

import json
import sys

import pytest

from jobs import cli, doctor
from pipelines.sandbox.confinement import MEASURES
from pipelines.sandbox.escape import self_test

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the measures are Linux's")

FILES = "reads a file by its name"


def found(escaped: tuple[str, ...] = (), **missing: str) -> self_test.SelfTest:
    return self_test.SelfTest(escaped, missing)


def test_it_lists_every_measure_and_attempt(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--escapes"]) == 0
    text = capsys.readouterr().out
    for words in (*MEASURES, *self_test.ATTEMPTS, "FFmpeg", "Landlock", "The sandbox is"):
        assert words in text
    assert "SUCCEEDED" not in text


def test_it_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["sandbox"]["measures"]) == set(MEASURES)
    assert facts["sandbox"]["level"] in ("full", "partial")
    assert not any(each["succeeded"] for each in facts["sandbox"]["escapes"].values())


@pytest.mark.parametrize(
    ("result", "level", "code"),
    [
        (found(), "full", 0),
        (found(namespaces="no"), "partial", 0),
        (found((FILES,), files="no"), "partial", 0),
        (found((FILES,)), "broken", 1),
        (found((FILES,), namespaces="no"), "broken", 1),
    ],
)
def test_what_holds_and_what_does_not(
    result: self_test.SelfTest,
    level: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(self_test, "try_escapes", lambda: result)
    assert cli.main(["doctor", "--escapes"]) == code
    text = capsys.readouterr().out
    assert f"The sandbox is {level}" in text
    assert ("SUCCEEDED" in text) == bool(result.escaped)


def test_the_machine_is_described() -> None:
    facts = doctor.machine()
    assert all(facts.values()) and {"v2a", "system", "cores", "memory", "FFmpeg", "GPUs"} <= set(facts)
