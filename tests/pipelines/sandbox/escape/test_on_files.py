"""Files are out of a child's reach behind two walls: Landlock, and the filter of system calls."""

from __future__ import annotations

import sys

import pytest

from tests.support.partly_confined import escapes_without, prevented_by

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the measures are Linux's")


def test_files_are_out_of_reach_by_either_wall() -> None:
    files = prevented_by(["files"])
    assert len(files) >= 15
    assert not escapes_without("system calls") & files  # Landlock alone
    assert not escapes_without("files") & files  # seccomp alone
