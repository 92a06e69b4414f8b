"""What a Ray worker process keeps between tasks."""

from __future__ import annotations

import atexit

from pipelines.sandbox.decoder import Sandbox

_sandboxes: dict[int, Sandbox] = {}


def shared_sandbox(threads: int = 1) -> Sandbox:
    """The decoding child of this process, for decoders of so many threads; ended with the process.

    As many tasks decode at once as there are cores, and each thread more costs a fifth of the decoding.
    """
    if threads not in _sandboxes:
        _sandboxes[threads] = Sandbox(threads=threads)
        atexit.register(_sandboxes[threads].close)
    return _sandboxes[threads]
