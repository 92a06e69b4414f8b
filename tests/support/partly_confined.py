"""A child that tries to escape after some measures of its confinement were left out.

The order names them (`without`). It shows which wall holds when another has fallen.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from pipelines.sandbox import child, confinement
from pipelines.sandbox.escape import self_test
from pipelines.sandbox.escape.attempts import MEMORY_MB

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

_STEPS = {
    "memory": "_limit",
    "namespaces": "_enter_namespaces",
    "privileges": "_drop_privileges",
    "files": "_forbid_files",
    "system calls": "_forbid_calls",
}


def escapes_without(*measures: str) -> set[str]:
    """Attempts that succeed in a child without these measures."""
    with self_test.victims() as them:
        order = asdict(them) | {"without": measures}
        answer = child.converse(
            "tests.support.partly_confined", order, MEMORY_MB, 60.0, fds=(them.source, them.output)
        )
    assert set(answer["missing"]) == set(measures)
    return set(answer["escaped"])


def prevented_by(measures: Sequence[str]) -> set[str]:
    return {name for name, (measure, _) in self_test.ATTEMPTS.items() if measure in measures}


class _Once:
    """The order that was read already."""

    def __init__(self, line: bytes) -> None:
        self.buffer = self
        self._line = line

    def readline(self) -> bytes:
        return self._line


def main() -> None:
    """Read the order, leave the named measures out and serve it."""
    line = sys.stdin.buffer.readline()
    for measure in json.loads(line)["without"]:
        setattr(confinement, _STEPS[measure], lambda *_: "left out by the test")
    sys.stdin = _Once(line)  # type: ignore[assignment]
    child.serve(self_test.answer, self_test.load_codecs)


if __name__ == "__main__":
    main()
