"""Import safety: Python must import nothing from the folder it is started in, which may be an untrusted archive.

A file `av.py` beside the films must never run. Three kinds of processes could import it:

- The driver. The script `v2a` does not search the current folder. `python -m jobs.dub` does, until the first line of
  `jobs/__init__.py` runs; only `python -P -m jobs.dub` never does.
- Ray's workers, which Ray gives the driver's current folder (see `jobs.common.ray_session`).
- Children that v2a (`pipelines.sandbox.starter`) or libraries start; `PYTHONSAFEPATH` has the effect of `-P` for those
  whose command line is not ours.

All of them find v2a's packages in `ROOT` first, so that no folder named `pipelines` replaces them. `PYTHONPATH` is the
user's decision and stays. So does the working directory of `ray job submit`: Ray puts it on `PYTHONPATH` before any of
our code runs, which brings a source tree to a cluster where v2a is not installed. It is for code, not for films.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""Folder of v2a's packages: a source tree or site-packages."""

PASSED = ("LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "V2A_SANDBOX")
"""Environment variables that children inherit, with those that begin with LC_. Credentials are not among them."""

_FEW = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"} | {
    "JE_ARROW_MALLOC_CONF": "background_thread:false"
}
"""Few threads and little memory kept. A child must have one thread until it is confined."""


def environment() -> dict[str, str]:
    """Environment of a child: `PASSED`, with `ROOT` first on the path of modules."""
    passed = {name: value for name, value in os.environ.items() if name in PASSED or name.startswith("LC_")}
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    ours = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"}
    return {**passed, **_FEW, **ours}
