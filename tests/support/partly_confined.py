"""A child that tries to escape after some measures of its confinement were left out.

The order names them (`without`). It shows which wall holds when another has fallen.
"""

from __future__ import annotations

import json
import sys

from pipelines.sandbox import child, confinement, escape

_STEPS = {
    "memory": "_limit",
    "namespaces": "_enter_namespaces",
    "privileges": "_drop_privileges",
    "files": "_forbid_files",
    "system calls": "_forbid_calls",
}


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
    child.serve(escape._answer, escape._load)


if __name__ == "__main__":
    main()
