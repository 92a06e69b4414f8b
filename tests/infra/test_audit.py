"""The audit of `make lint`: what it does with what pip-audit says, and without a network."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "audit.py"


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOLE = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.0"], "description": "bad"}


def test_findings_fail_and_ignored_ones_do_not(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    packages = [
        {"name": "good", "version": "1", "vulns": []},
        {"name": "bad", "version": "1", "vulns": [HOLE]},
        {"name": "private", "skip_reason": "not there"},
    ]
    assert audit.tell(packages) == 1
    said = capsys.readouterr().out
    assert "bad 1: PYSEC-1, fixed by 2.0" in said and "2 audited, 1 vulnerabilities" in said
    audit.IGNORED["CVE-2026-1"] = "not called"
    assert audit.tell(packages) == 0
    assert "not called" in capsys.readouterr().out


@pytest.mark.parametrize("tool", ["no-such-program", "true", "false"])
def test_what_cannot_be_audited_fails_nothing(tool: str) -> None:
    """No tool, a tool that says nothing, one that fails: as without a network."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), tool, "requirements.lock"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "not audited" in done.stdout, done.stderr
