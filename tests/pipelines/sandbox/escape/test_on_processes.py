"""Network, processes and kernel are out of a child's reach by the filter of system calls alone."""

from __future__ import annotations

import os
import sys

import pytest

from tests.support.partly_confined import NEEDS_ROOT, escapes_without, prevented_by

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the measures are Linux's")


def test_system_calls_are_stopped_by_the_filter_alone() -> None:
    escaped = escapes_without("namespaces", "privileges", "files", "memory")
    assert not escaped & prevented_by(["system calls"])
    escaped = escapes_without("namespaces", "privileges", "files", "memory", "system calls")
    missed = prevented_by(["files", "system calls", "memory", "privileges"]) - escaped
    assert not missed if os.getuid() == 0 else missed <= NEEDS_ROOT


def test_capabilities_are_gone_without_the_filter() -> None:
    assert "has capabilities" not in escapes_without("system calls")
