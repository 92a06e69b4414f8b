"""The list of attempts, and their victims."""

from __future__ import annotations

from pathlib import Path

import psutil

from pipelines.sandbox import confinement
from pipelines.sandbox.escape.attempts import victims
from pipelines.sandbox.escape.self_test import ATTEMPTS


def test_each_attempt_names_a_measure() -> None:
    assert {measure for measure, _ in ATTEMPTS.values()} <= set(confinement.MEASURES)
    assert len(ATTEMPTS) >= 50


def test_victims_are_removed() -> None:
    with victims() as them:
        assert Path(them.original).exists() and psutil.pid_exists(them.process)
    assert not Path(them.folder).exists() and not psutil.pid_exists(them.process)
