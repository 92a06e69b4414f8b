"""Cost of the sandbox: of confining a child, and of decoding within it.

    python -m benchmarks.sandbox_cost [--children 40] [--rounds 5]

Children that are confined and children that are not take turns, and so do decoders of a minute of 360p H.264 (that of
`benchmarks.decode`) and copies of its packets. Exit code 1 if confining a child costs more than 5 ms (median), or
decoding in a confined child reaches less than 0.98 of what it reaches in a child that is not confined.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from benchmarks.decode import STRETCH_S, VIEWS, make_film
from pipelines import safe_path
from pipelines.sandbox import starter
from pipelines.sandbox.decoder import Sandbox

MOST_MS, LEAST_SPEED = 5.0, 0.98

CONFINED = """
import json, os, sys, time
from pipelines.sandbox import child, confinement, decoder_child
child.load_decoders()
started = time.perf_counter()
missing = confinement.confine(os.getppid(), confinement.Limits(2048)) if sys.argv[1] == "confined" else {}
print(json.dumps([1000 * (time.perf_counter() - started), missing]), flush=True)
sys.stdin.read(1)
"""

FREE_DECODER = """
import sys
from pipelines.sandbox import decoder_child
decoder_child.confine = lambda *_: {}
decoder_child.main()
"""


def child(kind: str) -> tuple[float, float, float]:
    """Milliseconds of the confinement, from start to answer, and from the end of input to the end of the process."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", CONFINED, kind],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=safe_path.ROOT, env=safe_path.environment(),
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    milliseconds, missing = json.loads(process.stdout.readline())
    if missing:
        print(f"measures missing on this machine: {missing}", file=sys.stderr)
    answered = time.perf_counter()
    process.stdin.close()
    process.wait()
    return milliseconds, 1000 * (answered - started), 1000 * (time.perf_counter() - answered)


@contextmanager
def unconfined() -> Iterator[None]:
    """Within the block, decoders start without confinement."""
    start = starter.start

    def free(module: str, *arguments: object, **options: object) -> subprocess.Popen[bytes]:
        popen = subprocess.Popen

        def replaced(command: list[str], **more: object) -> subprocess.Popen[bytes]:
            at = command.index("-m")
            return popen([*command[:at], "-c", FREE_DECODER, *command[at + 2 :]], **more)  # type: ignore[call-overload,no-any-return]

        with mock.patch.object(subprocess, "Popen", replaced):
            return start(module, *arguments, **options)  # type: ignore[arg-type]

    with mock.patch.object(starter, "start", free):
        yield


def decode_s(sandbox: Sandbox, film: str, seconds: float) -> float:
    """Seconds to decode the film in stretches."""
    ends_s = [STRETCH_S * k for k in range(1, int(seconds / STRETCH_S) + 1)]
    started = time.perf_counter()
    for _ in sandbox.iter_views(film, VIEWS, 0.0, ends_s):
        pass
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--children", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    times: dict[str, list[tuple[float, float, float]]] = {"confined": [], "free": []}
    for _ in range(options.children):
        for kind in times:
            times[kind].append(child(kind))
    medians = {
        kind: [statistics.median(each) for each in zip(*rows, strict=True)] for kind, rows in times.items()
    }
    cost_ms = medians["confined"][0]
    print(f"confining a child: {cost_ms:.2f} ms (median of {options.children}), at most {MOST_MS:g} ms")
    for kind, (_, start_ms, end_ms) in medians.items():
        print(f"  {kind}: {start_ms:.1f} ms from start to first answer, {end_ms:.1f} ms to end")

    with tempfile.TemporaryDirectory() as folder, Sandbox(threads=1) as confined, Sandbox(threads=1) as free:
        film = str(make_film(Path(folder, "film.mp4")))
        confined.probe(film)
        with unconfined():
            free.probe(film)
        assert free.pid is not None and confined.pid is not None
        inside = os.readlink(f"/proc/{free.pid}/ns/user") == os.readlink("/proc/self/ns/user")
        assert inside, "the decoder that should be free is not"
        ratios = []
        for k in range(2 * options.rounds):
            order = [(confined, "confined"), (free, "free")][:: 1 if k % 2 else -1]
            spent = {name: decode_s(sandbox, film, 60.0) for sandbox, name in order}
            ratios.append(spent["free"] / spent["confined"])
    speed = statistics.median(ratios)
    print(
        f"decoding when confined: {speed:.3f} of the speed without (median of {len(ratios)}), at least {LEAST_SPEED}"
    )
    return 0 if cost_ms <= MOST_MS and speed >= LEAST_SPEED else 1


if __name__ == "__main__":
    sys.exit(main())
