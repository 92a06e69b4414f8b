"""Requests to the sandbox, for its tests."""

from __future__ import annotations

from pipelines.media.video import View
from pipelines.sandbox.decoder import Sandbox

VIEWS = [View(25, 48, 32), View(8, 40, 24)]


def waiting_child(sandbox: Sandbox, uri: str) -> int:
    """A child that is alive and idle."""
    sandbox.probe(uri)
    assert sandbox.pid is not None
    return sandbox.pid
