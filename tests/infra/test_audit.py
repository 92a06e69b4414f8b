"""The audit of `make lint`: what it does with what pip-audit says, and where it cannot be done."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / ".ci" / "audit.py"
CI = {"CI": "true"}


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOLE = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.0"], "description": "bad"}
GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "1", "vulns": [HOLE]}
UNKNOWN = {"name": "private", "skip_reason": "not there"}


def answering(answer: str) -> tuple[str, ...]:
    """An auditor that says `answer`, whatever it is asked."""
    return (sys.executable, "-c", f"print({answer!r})")


def of(*packages: dict) -> tuple[str, ...]:
    return answering(json.dumps({"dependencies": packages}))


def test_findings_fail_and_ignored_ones_do_not(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main([], {}, of(GOOD, BAD)) == 1
    said = capsys.readouterr().out
    assert "bad 1: PYSEC-1, fixed by 2.0" in said and "2 audited, 1 vulnerabilities" in said
    audit.IGNORED["CVE-2026-1"] = "not called"
    assert audit.main([], CI, of(GOOD, BAD)) == 0
    said = capsys.readouterr().out
    assert "not called" in said and "NOT DONE" not in said


@pytest.mark.parametrize(
    "auditor",
    [
        ("no-such-program",),
        ("true",),
        ("false",),
        answering("{}"),
        answering("a page of a proxy"),
        of(),
        of(UNKNOWN),
        of(GOOD, UNKNOWN),
    ],
)
def test_an_audit_that_cannot_be_done_fails_in_ci(
    audit: ModuleType, auditor: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """No tool, one that says nothing, a mirror without vulnerabilities, a package of which the index knows nothing."""
    assert audit.main(["requirements.lock"], CI, auditor) == 1
    assert "AUDIT NOT DONE" in capsys.readouterr().out
    assert audit.main(["requirements.lock"], {}, auditor) == 0
    assert "AUDIT NOT DONE" in capsys.readouterr().out
    assert audit.main(["requirements.lock"], CI | {"V2A_AUDIT": "offline"}, auditor) == 0
    assert "AUDIT NOT DONE: V2A_AUDIT=offline" in capsys.readouterr().out
    assert audit.main(["requirements.lock"], CI | {"V2A_AUDIT": "off"}, auditor) == 2


def test_what_is_asked_of_pip_audit(tmp_path: Path) -> None:
    """pip-audit refuses a lock file without hashes, and that is no audit."""
    lock = tmp_path / "some.lock"
    lock.write_text("jinja2==3.1.6\n")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(lock)], capture_output=True, text=True, check=False, env={"CI": "1"}
    )
    assert done.returncode == 1 and "AUDIT NOT DONE" in done.stdout, done.stderr


def test_ci_says_that_it_audits_nothing() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    [at] = [number for number, line in enumerate(lines) if line == 'export V2A_AUDIT="${V2A_AUDIT-offline}"']
    assert lines[at - 1].startswith("#") and lines[at - 2].startswith("#")
    [asked] = re.findall(r"audit\.py (.+)", (ROOT / "Makefile").read_text())
    locks = {path.name for path in ROOT.glob("requirements*.lock")}
    assert set(asked.split()) == {
        name for name in locks if "image" not in name
    }  # whose packages are in the others
