"""Modules that libraries load when they are first used. A confined process can load nothing, so they come before."""

from __future__ import annotations

import importlib
import pkgutil

import av

_STANDARD = (
    "encodings.idna",
    "encodings.latin_1",
    "encodings.unicode_escape",
    "encodings.utf_8_sig",
    "linecache",
)
"""Modules of Python that errors and texts need."""

_PROGRAMS = {"av.__main__", "av.datasets"}
"""Modules of PyAV that are no part of the library."""


def load_decoders() -> None:
    """Load all of PyAV: which of its modules a film needs shows only when it is read."""
    names = {module.name for module in pkgutil.walk_packages(av.__path__, "av.")}
    for name in (*sorted(names - _PROGRAMS), *_STANDARD):
        importlib.import_module(name)
