"""`make bench`: runs the benchmarks of benchmarks/README.md, one process each, and shows what they print.

Without names all but those that need a GPU (`generation full`, `generation vatt`); with names those that begin so:
`python -m benchmarks decode "longform cost"`.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = (
    "decode --profile",
    "sandbox_cost",
    "extract",
    "dub_speed --minutes 4 --files 4",
    "generation mini",
    "generation growth",
    "mini_quality",
    "selection --only cost",
    "scoring",
    "raw_sampling wavenet --threads 2",
    "raw_sampling context",
    "scaling",
    "listing",
    "longform joins --minutes 8",
    "longform cost --minutes 20",
    "longform speed",
    "longform workers",
    "longform memory",
    "longform mux",
    "mux_speed",
)


def main() -> int:
    names = sys.argv[1:]
    unknown = [name for name in names if not any(command.startswith(name) for command in COMMANDS)]
    if unknown:
        print(f"unknown benchmarks {unknown}; choose from {list(COMMANDS)}", file=sys.stderr)
        return 2
    failed = []
    for command in COMMANDS:
        if names and not command.startswith(tuple(names)):
            continue
        started = time.monotonic()
        print(f"== {command}", flush=True)
        module, *options = shlex.split(command)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{module}", *options], cwd=Path(__file__).parent.parent
        )
        print(f"== {command} took {time.monotonic() - started:.0f} s\n", flush=True)
        failed += [command] if done.returncode else []
    if failed:
        print(f"failed: {failed}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
