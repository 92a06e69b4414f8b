"""Lazy exports of a package: names imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def hand_on(package: str, **modules: str) -> Callable[[str], Any]:
    """A module-level `__getattr__` (PEP 562) that takes each name from the given submodule of `package`.

    Keeps help quick: it needs only the config of a verb.
    """

    def __getattr__(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return __getattr__
