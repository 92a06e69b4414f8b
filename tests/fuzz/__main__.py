"""Damaged and hostile files through a whole dub, as many as one likes: `python -m tests.fuzz --inputs 5000`.

Every input is a function of the seed and its number (`tests.fuzz.corpus`); half of the films are damaged anywhere, half
in their structure (`tests.fuzz.structured`). It must end as one row of the report:
dubbed, skipped or failed, with a reason; nothing may come out of the stages, the original must stay as it is, and no
temporary file and no process may be left (`tests.fuzz.line`). Anything else is a violation, whose file is kept in
--keep. An HTTP server and a file that playlists name watch whether anything is read through them.
"""

from __future__ import annotations

import argparse
import http.server
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from pipelines.sandbox.decoder import Sandbox
from tests.fuzz.corpus import corpus, made
from tests.fuzz.line import WAYS, Line


@dataclass
class Tally:
    """Observations of a campaign."""

    seed: int = 0
    first: int = 0
    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """Number of inputs by status and error class."""
    violations: list[str] = field(default_factory=list)
    """Inputs that did not end as they must, and where their files are kept. Must stay empty."""
    fetched: list[str] = field(default_factory=list)
    """Requests that the HTTP server saw. Must stay empty."""
    seconds: float = 0.0
    slowest: tuple[float, str] = (0.0, "none")
    memory_mb: dict[str, float] = field(default_factory=dict)
    """Largest resident memory by process."""
    growth_mb: float = 0.0
    """Memory of the parent after the first fiftieth of the inputs, against the end."""

    @property
    def clean(self) -> bool:
        return not (self.violations or self.fetched)

    def lines(self) -> list[str]:
        statuses = Counter[str]()
        for outcome, count in self.outcomes.items():
            statuses[outcome.split(" ")[0]] += count
        memory = ", ".join(f"{name} {mb:.0f} MB" for name, mb in self.memory_mb.items())
        return [
            f"{self.inputs} inputs (seed {self.seed}, from number {self.first}) in {self.seconds:.0f} s",
            *(f"  {count:6d}  {status}" for status, count in statuses.most_common()),
            "by error class:",
            *(f"  {count:6d}  {outcome}" for outcome, count in self.outcomes.most_common()),
            f"slowest: {self.slowest[0]:.1f} s, {self.slowest[1]}",
            f"largest memory: {memory}; the parent grew by {self.growth_mb:.0f} MB",
            f"violations: {len(self.violations)}; requests over the network: {len(self.fetched)}",
            *(f"  {text}" for text in [*self.violations, *self.fetched]),
        ]

    def weigh(self, sandbox: Sandbox) -> None:
        """Note the memory of this process, its decoder, and the largest of its children that have ended."""
        now = {
            "parent": psutil.Process().memory_info().rss / 2**20,
            "ended children": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10,
        }
        if sandbox.pid is not None:
            now["decoder"] = psutil.Process(sandbox.pid).memory_info().rss / 2**20
        for name, mb in now.items():
            self.memory_mb[name] = max(mb, self.memory_mb.get(name, 0.0))


class Watch(http.server.ThreadingHTTPServer):
    """An HTTP server that nobody may ask."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        seen = self.seen

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.path)
                self.send_error(404)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/stolen.ts"


def campaign(
    inputs: int, seed: int, keep: Path, first: int = 0, minutes: float = 0.0, structured: float = 0.5
) -> Tally:
    """Runs the inputs numbered from `first` on, for at most so many minutes; 0 for as long as it takes."""
    tally, started = Tally(seed, first), time.monotonic()
    early_mb = 0.0
    with tempfile.TemporaryDirectory() as scratch, Watch() as server:
        secret = Path(scratch, "secret")
        secret.write_bytes(b"what nobody may read\n" * 50)
        (Path(scratch) / "seeds").mkdir()
        seeds = corpus(Path(scratch) / "seeds", server.url, str(secret))
        with Sandbox(memory_mb=1024, timeout_s=20, threads=1, retries=0) as sandbox:
            line = Line(Path(scratch), sandbox)
            for number in range(first, first + inputs):
                if minutes and time.monotonic() - started > 60 * minutes:
                    break
                name, data = made(number, seeds, seed, structured)
                begun = time.monotonic()
                try:
                    # So that every kind of file goes every way.
                    tally.outcomes[
                        str(line.dub(name, data, (number + number // len(seeds)) % len(WAYS)))
                    ] += 1
                except Exception as error:  # the thing that is looked for
                    keep.mkdir(parents=True, exist_ok=True)
                    kept = keep / f"{seed}-{number}-{name}"
                    kept.write_bytes(data)
                    tally.violations.append(
                        f"seed {seed}, input {number}: {type(error).__name__}: {error}; {kept}"
                    )
                tally.slowest = max(tally.slowest, (time.monotonic() - begun, f"input {number} ({name})"))
                tally.inputs += 1
                tally.weigh(sandbox)
                if tally.inputs == max(1, inputs // 50):
                    early_mb = psutil.Process().memory_info().rss / 2**20
        server.shutdown()
        tally.fetched = server.seen
    tally.growth_mb = psutil.Process().memory_info().rss / 2**20 - early_mb
    tally.seconds = time.monotonic() - started
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="stop after so many minutes; 0 for no limit"
    )
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first input, to go on or to look again"
    )
    parser.add_argument(
        "--keep", type=Path, default=Path("out/fuzz"), help="folder for the files of violations"
    )
    parser.add_argument(
        "--structured", type=float, default=0.5, help="fraction of the films whose structure is edited"
    )
    given = parser.parse_args()
    tally = campaign(given.inputs, given.seed, given.keep, given.first, given.minutes, given.structured)
    print("\n".join(tally.lines()))
    if tally.inputs < given.inputs:
        rest = given.inputs - tally.inputs
        print(f"to go on: --seed {given.seed} --first {given.first + tally.inputs} --inputs {rest}")
    return 0 if tally.clean else 1


if __name__ == "__main__":
    sys.exit(main())
