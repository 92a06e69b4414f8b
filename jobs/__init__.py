"""Verbs of the `v2a` command line: a module for each small one, a package for each big one."""

import os
import sys

# The rules are those of `pipelines.safe_path`, which cannot be imported before they hold.
_ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
# `python -m jobs.dub` searches the current folder first, which may be an archive. Python looks for the module of -m
# while this runs. A source tree that is not installed is itself the current folder.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and os.path.realpath(sys.path[0]) != _ROOT:
    del sys.path[0]
# The packages beside this one are ours; `PYTHONPATH` may hold others of their names.
if any(
    os.path.isdir(os.path.join(folder, name)) and os.path.realpath(folder) != _ROOT
    for folder in sys.path
    for name in ("pipelines", "v2a_models")
):
    sys.path.insert(0, _ROOT)
