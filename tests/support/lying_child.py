"""A child that says what its order holds, as one that a film has taken over may do."""

from __future__ import annotations

import sys
from typing import IO, Any

from pipelines.sandbox.child import serve


def _say(order: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    sys.stdout.write(order.get("text", ""))
    sys.stdout.flush()
    while order.get("endless"):
        sys.stdout.write("x" * 10_000)
    return dict(order["answer"])


if __name__ == "__main__":
    serve(_say)
