"""Names that a package hands on, imported when they are first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def hand_on(package: str, **modules: str) -> Callable[[str], Any]:
    """A module-level `__getattr__` (PEP 562) that takes each name from the given submodule of `package`.

    Keeps `v2a --help` quick: a verb's help needs its config and nothing else of it.
    """

    def __getattr__(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return __getattr__
