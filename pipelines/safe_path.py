"""Import safety: Python must import nothing from the folder it is started in, which may be an untrusted archive.

A file `av.py` beside the films must never run. Three kinds of processes could import it:

- The driver. The script `v2a` does not search the current folder. `python -m jobs.dub` does, until the first line of
  `jobs/__init__.py` runs; only `python -P -m jobs.dub` never does.
- Ray's workers, which Ray gives the driver's current folder (see `jobs.common.ray_session`).
- Children that v2a or libraries start; `PYTHONSAFEPATH` has the effect of `-P` for command lines that are not ours.

All of them find v2a's packages in `ROOT` first, so that no folder named `pipelines` replaces them. `PYTHONPATH` is the
user's decision and stays. So does the working directory of `ray job submit`: Ray puts it on `PYTHONPATH` before any of
our code runs, which brings a source tree to a cluster where v2a is not installed. It is for code, not for films.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
"""Folder of v2a's packages: a source tree or site-packages."""


def start(
    module: str, *arguments: object, stderr: IO[bytes] | int, pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a child that runs one of our modules, with pipes to its standard input and output."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=ROOT,
        env=environment(),
        pass_fds=pass_fds,
        start_new_session=True,  # Ctrl-C goes to the parent only, which then ends the child
    )


def environment() -> dict[str, str]:
    """Environment of a child: this process's, with `ROOT` first on the path, few threads and little memory kept."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    few = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    ours = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"}
    return {**os.environ, **few, **ours}
