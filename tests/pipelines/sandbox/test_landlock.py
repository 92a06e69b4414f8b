"""Landlock: what this kernel has is used, and a process that is restricted cannot open files."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipelines import safe_path
from pipelines.sandbox import landlock

SCRIPT = """
import os
from pipelines.sandbox.landlock import forbid_files_and_ports
kept = open("/etc/passwd", "rb")
print(forbid_files_and_ports())
print(len(kept.read(1)))
for path in ("/etc/passwd", "/", "/tmp/v2a-landlock"):
    try:
        os.open(path, os.O_RDONLY | (os.O_CREAT if path.startswith("/tmp") else 0))
        print("open")
    except PermissionError:
        print("refused")
"""


@pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")
def test_open_files_stay_and_no_other_can_be_opened() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=safe_path.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(landlock.version()), "1", "refused", "refused", "refused"]


def test_a_kernel_without_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    with pytest.raises(landlock.LandlockUnavailable, match="has no Landlock"):
        landlock.forbid_files_and_ports()
