"""`make bench`: runs every benchmark, one process each, and shows what they print."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

SCRIPTS = (
    "decode",
    "extract",
    "dub_speed",
    "generation",
    "mini_quality",
    "selection",
    "scoring",
    "raw_sampling",
)


def main() -> int:
    names = sys.argv[1:] or SCRIPTS
    unknown = sorted(set(names) - set(SCRIPTS))
    if unknown:
        print(f"unknown benchmarks {unknown}; choose from {list(SCRIPTS)}", file=sys.stderr)
        return 2
    failed = []
    for name in names:
        started = time.monotonic()
        print(f"== {name}", flush=True)
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=Path(__file__).parent.parent)
        print(f"== {name} took {time.monotonic() - started:.0f} s\n", flush=True)
        failed += [name] if done.returncode else []
    if failed:
        print(f"failed: {failed}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
