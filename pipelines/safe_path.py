"""Import safety: Python must import nothing from the folder it is started in, which may be an untrusted archive.

A file `av.py` beside the films must never run. Three kinds of processes could import it:

- The driver. The script `v2a` does not search the current folder. `python -m jobs.dub` does, until the first line of
  `jobs/__init__.py` runs; only `python -P -m jobs.dub` never does.
- Ray's workers, which Ray gives the driver's current folder (see `jobs.common.ray_session`).
  A Ray that somebody else has started gives it to them all the same: `check_worker` sees to it.
- Children that v2a (`pipelines.sandbox.starter`) or libraries start; `PYTHONSAFEPATH` has the effect of `-P` for those
  whose command line is not ours.

All of them find v2a's packages in `ROOT` first, so that no folder named `pipelines` replaces them. `PYTHONPATH` is the
user's decision and stays, but for empty entries, which stand for the current folder. So does the working directory of
`ray job submit`: Ray puts it on `PYTHONPATH` before any of our code runs, which brings a source tree to a cluster where
v2a is not installed. It is for code, not for films.
"""

from __future__ import annotations

import os
import sys
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


def check_worker() -> None:
    """Let modules of the current folder come after all others in a worker of Ray, unless `PYTHONPATH` names it.

    It stays on the path: in a Ray that v2a has not started, the user's own code may come from there.
    """
    main = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    if os.path.basename(main) == "default_worker.py":
        named = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
        trusted = [str(ROOT), sys.prefix, sys.base_prefix, *named]
        sys.path[:] = current_folder_last(sys.path, os.getcwd(), trusted)


def current_folder_last(path: list[str], here: str, trusted: list[str]) -> list[str]:
    """The module search path with the folder `here` at its end, unless it is one of `trusted`, or lies in one."""
    place = os.path.realpath(here)
    if any(os.path.join(place, "").startswith(os.path.join(os.path.realpath(t), "")) for t in trusted):
        return path
    return sorted(path, key=lambda folder: os.path.realpath(folder) == place)
