"""A child that shows signs of life and never answers."""

from __future__ import annotations

import time
from typing import IO, Any

from pipelines.sandbox.child import Beat, serve


def _beat_on(order: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    beat = Beat()
    while True:
        beat()
        time.sleep(0.1)


if __name__ == "__main__":
    serve(_beat_on)
