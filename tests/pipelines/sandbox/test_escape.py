"""Hostile code where a decoder's bug would run it: every attempt fails in a child, and succeeds anywhere else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

import pytest

from pipelines import safe_path
from pipelines.sandbox import confinement, escape
from pipelines.sandbox.child import converse

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the measures are Linux's")

NEVER = {"changes a lent file through its memory", "writes to a lent file"}
"""Attempts that fail anywhere: the descriptor is for reading."""

NEEDS_ROOT = {
    "opens a lent file again, by its handle",
    "changes its root folder",
    "mounts a file system",
    "loads a program into the kernel",
    "handles page faults itself",
    "reads the kernel's log",
    "has capabilities",
    "measures the kernel",
}
"""Attempts that an ordinary user may fail at, with no confinement at all."""

IN_CHILD = (
    "import json\nfrom pipelines.sandbox import escape\nprint(json.dumps(escape.try_escapes().__dict__))"
)
FREE = """import json
from pipelines.sandbox import escape
with escape.victims() as them:
    print(json.dumps(escape.attempt_all(them)))"""


def as_user(script: str) -> str:
    """Output of a script that runs as a user who may read everything but owns nothing."""
    # Python may be installed where only root can read; the capability makes the attempts no harder.
    rights = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *rights]
    command = [*(user if os.getuid() == 0 else []), sys.executable, "-P", "-c", script]
    environment = {"PYTHONPATH": str(safe_path.ROOT), "AWS_SECRET_ACCESS_KEY": "secret"}
    done = subprocess.run(
        command, cwd="/", env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


needs_setpriv = pytest.mark.skipif(
    os.getuid() == 0 and shutil.which("setpriv") is None, reason="needs setpriv to become a user"
)


def without(*measures: str) -> set[str]:
    """Attempts that succeed in a child without these measures."""
    with escape.victims() as them:
        order = asdict(them) | {"without": measures}
        answer = converse(
            "tests.support.partly_confined", order, escape.MEMORY_MB, 60.0, fds=(them.source, them.output)
        )
    assert set(answer["missing"]) == set(measures)
    return set(answer["escaped"])


def prevented_by(measures: Sequence[str]) -> set[str]:
    return {name for name, (measure, _) in escape.ATTEMPTS.items() if measure in measures}


def test_nothing_escapes_from_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    result = escape.try_escapes()
    assert result.escaped == ()
    assert set(result.missing) <= {"namespaces"}  # which some containers forbid
    assert result.complete == (not result.missing)


@needs_setpriv
def test_nothing_escapes_from_the_child_of_a_user() -> None:
    result = json.loads(as_user(IN_CHILD))
    assert result["escaped"] == []
    assert set(result["missing"]) <= {"namespaces"}


def test_every_attempt_would_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise, that an attempt fails in a child would say nothing."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with escape.victims() as them:
        succeeded = set(escape.attempt_all(them))
    missed = set(escape.ATTEMPTS) - succeeded - NEVER
    assert not missed if os.getuid() == 0 else missed <= NEEDS_ROOT


@needs_setpriv
def test_every_attempt_would_succeed_for_a_user() -> None:
    succeeded = set(json.loads(as_user(FREE)))
    assert set(escape.ATTEMPTS) - succeeded - NEVER <= NEEDS_ROOT


def test_files_are_out_of_reach_by_either_wall() -> None:
    files = prevented_by(["files"])
    assert len(files) >= 15
    assert not without("system calls") & files  # Landlock alone
    assert not without("files") & files  # seccomp alone


def test_system_calls_are_stopped_by_the_filter_alone() -> None:
    escaped = without("namespaces", "privileges", "files", "memory")
    assert not escaped & prevented_by(["system calls"])
    escaped = without("namespaces", "privileges", "files", "memory", "system calls")
    missed = prevented_by(["files", "system calls", "memory", "privileges"]) - escaped
    assert not missed if os.getuid() == 0 else missed <= NEEDS_ROOT


def test_capabilities_are_gone_without_the_filter() -> None:
    assert "has capabilities" not in without("system calls")


def test_each_attempt_names_a_measure() -> None:
    assert {measure for measure, _ in escape.ATTEMPTS.values()} <= set(confinement.MEASURES)
    assert len(escape.ATTEMPTS) >= 50
