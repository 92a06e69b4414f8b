"""Verbs of the `v2a` command line: a module for each small one, a package for each big one."""

import os
import sys

# The rules are those of `pipelines.safe_path`, which cannot be imported before they hold.
_ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
# `python -m jobs.dub` searches the current folder first, which may be an archive. Python looks for the module of -m
# while this runs. A source tree that is not installed is itself the current folder.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and os.path.realpath(sys.path[0]) != _ROOT:
    del sys.path[0]
# An empty entry of `PYTHONPATH` (`:/models`) is the current folder, which nobody has named. Workers and libraries
# inherit what is left.
_ENTRIES = os.environ.get("PYTHONPATH", "").split(os.pathsep)
_NAMED = [folder for folder in _ENTRIES if folder]
if os.environ.get("PYTHONPATH") and len(_NAMED) < len(_ENTRIES):
    _HERE = os.path.realpath(os.curdir)
    if _HERE != _ROOT and _HERE not in map(os.path.realpath, _NAMED):
        # The first may be the folder of a script. Python's own come last, and may be the current one.
        _FIRST = 0 if sys.flags.safe_path or sys.argv[:1] == ["-m"] else 1
        for _k in reversed(range(_FIRST, min(_FIRST + len(_ENTRIES), len(sys.path)))):
            if os.path.realpath(sys.path[_k]) == _HERE:
                del sys.path[_k]
    os.environ["PYTHONPATH"] = os.pathsep.join(_NAMED)
# The packages beside this one are ours; `PYTHONPATH` may hold others of their names.
if any(
    os.path.isdir(os.path.join(folder, name)) and os.path.realpath(folder) != _ROOT
    for folder in sys.path
    for name in ("pipelines", "v2a_models")
):
    sys.path.insert(0, _ROOT)
