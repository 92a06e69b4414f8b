"""The user's demand on the sandbox: as much of it as this machine has, or all of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from pipelines.sandbox import confinement
from pipelines.sandbox.child import ChildFailed
from pipelines.sandbox.confinement import NotConfined
from pipelines.sandbox.escape import self_test


@contextlib.contextmanager
def demanded(level: str) -> Iterator[None]:
    """Within the block, children of this process, and of Ray's workers that it starts, meet the demand `level`.

    level: "auto" for what the environment says (V2A_SANDBOX), or "strict". Raises NotConfined if this machine cannot
    meet a demand for all measures; other machines of a cluster check it themselves.
    """
    before = os.environ.get(confinement.VARIABLE)
    if before not in (None, "", "auto", "strict"):
        raise NotConfined(f"{confinement.VARIABLE} is {before!r}; set it to auto or strict, or unset it")
    if level != "strict" and not confinement.is_strict():
        yield
        return
    os.environ[confinement.VARIABLE] = "strict"
    try:
        _check()
        yield
    finally:
        if before is None:
            del os.environ[confinement.VARIABLE]
        else:
            os.environ[confinement.VARIABLE] = before


def _check() -> None:
    """Raise NotConfined unless every measure holds on this machine, by trying."""
    try:
        result = self_test.try_escapes()
    except ChildFailed as error:
        raise NotConfined(
            f"the sandbox cannot be tried on this machine: {error}; see `v2a doctor`"
        ) from error
    if result.escaped:
        raise NotConfined(
            f"a child escapes from the sandbox on this machine ({result.escaped[0]}): see `v2a doctor --escapes`"
        )
