"""Hostile code where a decoder's bug would run it: every attempt fails in a child, and succeeds anywhere else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from pipelines import safe_path
from pipelines.sandbox.escape import self_test
from tests.support.partly_confined import NEEDS_ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the measures are Linux's")

NEVER = {"changes a lent file through its memory", "writes to a lent file"}
"""Attempts that fail anywhere: the descriptor is for reading."""

IN_CHILD = """import json
from pipelines.sandbox.escape import self_test
print(json.dumps(self_test.try_escapes().__dict__))"""
FREE = """import json
from pipelines.sandbox.escape import self_test
with self_test.victims() as them:
    print(json.dumps(self_test.attempt_all(them)))"""


def as_user(script: str) -> str:
    """Output of a script that runs as a user who may read everything but owns nothing."""
    # Python may be installed where only root can read; the capability makes the attempts no harder.
    rights = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *rights]
    return alone(script, *(user if os.getuid() == 0 else []))


def alone(script: str, *prefix: str) -> str:
    """Output of a script in a process of one thread: an attempt to fork from one of many threads may never return."""
    command = [*prefix, sys.executable, "-P", "-c", script]
    environment = {"PYTHONPATH": str(safe_path.ROOT), "AWS_SECRET_ACCESS_KEY": "secret"}
    done = subprocess.run(
        command, cwd="/", env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


needs_setpriv = pytest.mark.skipif(
    os.getuid() == 0 and shutil.which("setpriv") is None, reason="needs setpriv to become a user"
)


def test_nothing_escapes_from_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    result = self_test.try_escapes()
    assert result.escaped == ()
    assert set(result.missing) <= {"namespaces"}  # which some containers forbid
    assert result.complete == (not result.missing)


@needs_setpriv
def test_nothing_escapes_from_the_child_of_a_user() -> None:
    result = json.loads(as_user(IN_CHILD))
    assert result["escaped"] == []
    assert set(result["missing"]) <= {"namespaces"}


def test_every_attempt_would_succeed() -> None:
    """Otherwise, that an attempt fails in a child would say nothing."""
    missed = set(self_test.ATTEMPTS) - set(json.loads(alone(FREE))) - NEVER
    assert not missed if os.getuid() == 0 else missed <= NEEDS_ROOT


@needs_setpriv
def test_every_attempt_would_succeed_for_a_user() -> None:
    succeeded = set(json.loads(as_user(FREE)))
    assert set(self_test.ATTEMPTS) - succeeded - NEVER <= NEEDS_ROOT
