"""Faults into `v2a dub` until it has had enough of them: `python tests/chaos.py --faults 200`.

A round dubs an archive on an S3 server, on a Ray cluster of two nodes, into a new output. While it runs, processes are
killed and requests fail; what and when follow from the seed. Then the same command runs again, undisturbed, until it
says that all is done. Every file must be there once, byte for byte as in a run that nobody disturbed, nothing
unfinished may have been visible at any moment, and nothing temporary may be left.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import servers
from samples import write_video

REPOSITORY = Path(__file__).resolve().parents[1]
BUCKET = "chaos"

COMMAND = """
import sys
import ray.cloudpickle, samples
ray.cloudpickle.register_pickle_by_value(samples)
from jobs import cli, dub
sys.exit(dub.run(cli.parse(dub.DubConfig, sys.argv[1:], "v2a dub"), load=samples.load_noise))
"""

MARKS = {"worker": "ray::Map", "actor": "MapWorker", "decoder": "sandbox_child"}
"""Processes by what their command lines hold."""

KILLS = ("driver", "worker", "actor", "decoder-segfault", "decoder-hang", "raylet", "mlflow")
STORMS = ("s3-errors", "s3-truncated", "s3-slow", "s3-gone")
OTHERS = ("disk-full",)


@dataclass
class Summary:
    """What a campaign did, and what it found."""

    injected: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    runs: int = 0
    compared: int = 0
    lost: list[str] = field(default_factory=list)
    """Files that are not there, or are others than in the undisturbed run."""
    torn: list[str] = field(default_factory=list)
    """Files that could be seen before they were whole."""
    left: list[str] = field(default_factory=list)
    """Temporary files, parts and uploads that nobody will end."""
    seconds: float = 0.0

    @property
    def bad(self) -> bool:
        return bool(self.lost or self.torn or self.left)

    def lines(self) -> list[str]:
        total = sum(self.injected.values())
        told = [f"{total} faults in {self.rounds} rounds, {self.runs} runs, {self.seconds:.0f} s"]
        told += [f"  {count:5d}  {name}" for name, count in sorted(self.injected.items())]
        told.append(f"files compared: {self.compared}; lost: {len(self.lost)}; torn: {len(self.torn)}; "
                    f"left over: {len(self.left)}")  # fmt: skip
        return told + self.lost + self.torn + self.left


class World:
    """Archive, cluster and servers, and the proxy through which S3 is spoken to."""

    def __init__(self, folder: Path, films: int, seed: int, mlflow: bool) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.stack = contextlib.ExitStack()
        self.storm = ""
        self.summary = Summary()
        self.films = films
        self.mlflow_port = servers.free_port() if mlflow else 0
        self.mlflow: contextlib.AbstractContextManager[str] | None = None

    def __enter__(self) -> World:
        self.log = self.stack.enter_context((self.folder / "log.txt").open("a"))
        upstream = self.stack.enter_context(servers.moto())
        self.proxy = self.stack.enter_context(servers.Proxy(upstream, self.fail))
        self.s3 = servers.client(upstream)
        self.s3.create_bucket(Bucket=BUCKET)
        for k in range(self.films):
            path = write_video(self.folder / "films" / f"reel {k}.mp4", 1.5 + k % 3, fps=8)
            self.s3.upload_file(str(path), BUCKET, f"films/reel {k}.mp4")
        # Nodes hand their environment down to workers.
        self.stack.callback(_restore, dict(os.environ))
        os.environ.update(servers.environment(self.proxy.port))
        os.environ.update(PYTHONPATH=f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}", OMP_NUM_THREADS="1")
        self.cluster = self.stack.enter_context(servers.RayCluster(2))
        self.start_mlflow()
        self.stack.callback(self.stop_mlflow)
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def start_mlflow(self) -> None:
        if self.mlflow_port:
            (self.folder / "mlflow").mkdir(exist_ok=True)
            self.mlflow = servers.mlflow(self.folder / "mlflow", self.mlflow_port)
            self.mlflow.__enter__()

    def stop_mlflow(self) -> None:
        """SIGKILL, as `servers.mlflow` ends it."""
        if self.mlflow is not None:
            self.mlflow.__exit__(None, None, None)
            self.mlflow = None

    def fail(self, method: str, path: str) -> Any:
        """What happens to a request; called with the proxy's lock held."""
        if not self.storm:
            return 0
        share = {"s3-gone": 1.0, "s3-slow": 0.1}.get(self.storm, 0.2)
        if self.rng.random() >= share or (self.storm == "s3-truncated" and method != "GET"):
            return 0
        self.summary.injected[self.storm] += 1
        return {"s3-gone": "gone", "s3-slow": "slow", "s3-truncated": "truncated"}.get(
            self.storm, self.rng.choice((500, 503))
        )

    # a run

    def start(self, archive: str, out: str) -> subprocess.Popen[str]:
        self.summary.runs += 1
        tracking = f"http://127.0.0.1:{self.mlflow_port}" if self.mlflow_port else "off"
        arguments = [archive, out, "--segment-s", "1.0", "--address", self.cluster.address]
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments, "--tracking-uri", tracking],
            cwd=self.folder, stdout=self.log, stderr=self.log, text=True, start_new_session=True,
        )  # fmt: skip

    def finish(self, archive: str, out: str) -> None:
        """Runs undisturbed until all is done."""
        for _ in range(4):
            if self.start(archive, out).wait(900) == 0:
                return
        said = (self.folder / "log.txt").read_text()[-2000:]
        self.summary.lost.append(f"{out}: does not come to an end:\n{said}")

    def strike(self, kind: str, driver: subprocess.Popen[str]) -> None:
        """One fault; counted if there was something to strike."""
        if kind == "driver":
            driver.kill()
        elif kind == "raylet":
            self.cluster.replace_node(self.rng.randrange(2))
        elif kind == "mlflow":
            if self.mlflow is None:
                return
            self.stop_mlflow()
            self.start_mlflow()
        elif kind in STORMS:
            self.storm = kind  # until the next fault, or the end of the run; every request counts
            if kind == "s3-gone":
                time.sleep(self.rng.uniform(0.5, 2.0))
                self.storm = ""
            return
        else:
            found = []
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if MARKS[kind.partition("-")[0]] in " ".join(process.cmdline()):
                        found.append(process)
            if not found:
                return
            victim = self.rng.choice(found)
            with contextlib.suppress(psutil.NoSuchProcess):
                if kind == "decoder-segfault":
                    victim.send_signal(signal.SIGSEGV)
                elif kind == "decoder-hang":
                    victim.suspend()
                    time.sleep(2.0)
                    victim.kill()
                else:
                    victim.kill()
        self.summary.injected[kind] += 1

    def objects(self, prefix: str) -> dict[str, str]:
        """ETags of what is visible below a prefix."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        return {
            item["Key"][len(prefix) + 1 :]: item["ETag"]
            for page in pages
            for item in page.get("Contents", ())
        }

    def dubbed(self, prefix: str) -> dict[str, str]:
        own = ("_v2a/", ".v2a-tmp-")
        return {key: tag for key, tag in self.objects(prefix).items() if not key.startswith(own)}

    @contextlib.contextmanager
    def watched(self, prefix: str, whole: dict[str, str]) -> Iterator[None]:
        """Looks at the output all the time: what can be seen there must be whole."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.3):
                seen = self.dubbed(prefix)
                torn = {key for key, tag in seen.items() if whole.get(key) != tag}
                self.summary.torn += [f"{prefix}/{key}" for key in torn]

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def round(self, kinds: Sequence[str], whole: dict[str, str]) -> None:
        """One output, disturbed by these faults in turn and then made complete."""
        self.summary.rounds += 1
        prefix = f"out-{self.summary.rounds}"
        archive, out = f"s3://{BUCKET}/films", f"s3://{BUCKET}/{prefix}"
        with self.watched(prefix, whole):
            driver = None
            for kind in kinds:
                if driver is None or driver.poll() is not None:
                    driver = self.start(archive, out)
                # Not before there is something to lose, and then at a random moment.
                until = time.monotonic() + 120
                while driver.poll() is None and not self.objects(prefix) and time.monotonic() < until:
                    time.sleep(0.05)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    driver.wait(self.rng.uniform(0.0, 4.0))
                self.storm = ""
                if driver.poll() is None:
                    self.strike(kind, driver)
            assert driver is not None
            driver.wait(900)
            self.storm = ""
            self.finish(archive, out)
        self.check(prefix, self.dubbed(prefix), whole)
        rows = pq.read_table(
            io.BytesIO(self.s3.get_object(Bucket=BUCKET, Key=f"{prefix}/_v2a/report.parquet")["Body"].read())
        )
        states = sorted((row["path"], row["status"]) for row in rows.to_pylist())
        if states != sorted((path, "dubbed") for path in whole):
            self.summary.lost.append(f"{prefix}: the report says {states}")
        self.summary.left += [
            f"{prefix}/{key}"
            for key in self.objects(prefix)
            if ".v2a-tmp-" in key or key.startswith("_v2a/parts/")
        ]
        uploads = self.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        self.summary.left += [f"upload of {upload['Key']}" for upload in uploads]

    def check(self, name: str, found: dict[str, str], whole: dict[str, str]) -> None:
        self.summary.compared += len(whole)
        self.summary.lost += [f"{name}/{key}" for key in whole if found.get(key) != whole[key]]
        self.summary.lost += [f"{name}/{key} is one too many" for key in found.keys() - whole.keys()]

    def full_disk(self) -> None:
        """The disk of the output is full half-way, and is given room."""
        place = self.folder / f"disk-{self.summary.rounds}"
        place.mkdir()
        size = sum(len(path.read_bytes()) for path in (self.folder / "films").iterdir())
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size // 2048}k", "tmpfs", str(place)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            print("disk-full is left out: it takes root to mount a small disk")
            return
        try:
            self.summary.rounds += 1
            films, out, whole = str(self.folder / "films"), place / "out", self.folder / "whole"
            # A file's id, and so its sound, follows from where it lies: another than on S3.
            self.finish(films, str(whole))
            self.summary.injected["disk-full"] += self.start(films, str(out)).wait(900) != 0
            subprocess.run(["mount", "-o", "remount,size=256m", str(place)], check=True)
            self.finish(films, str(out))
            self.check("disk-full", digests(out), digests(whole))
            self.summary.left += [str(path) for path in out.rglob(".v2a-tmp-*")]
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=False)


def digests(out: Path) -> dict[str, str]:
    """sha256 of every dubbed file of a local output."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and "_v2a" not in path.relative_to(out).parts
    }


def _restore(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def campaign(
    faults: int, seed: int, *, kinds: Sequence[str] = KILLS + STORMS + OTHERS, films: int = 5, per_round: int = 3,
    hours: float = 3.0,
) -> Summary:  # fmt: skip
    """Rounds until so many faults are injected, or the time is over."""
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="v2a-chaos-") as folder,
        World(Path(folder), films, seed, mlflow="mlflow" in kinds) as world,
    ):
        world.finish(f"s3://{BUCKET}/films", f"s3://{BUCKET}/whole")
        whole = world.dubbed("whole")
        assert len(whole) == films, world.summary.lost
        # Every kind in turn, in an order of the seed's, so that a short campaign has seen them all.
        order: list[str] = []
        while sum(world.summary.injected.values()) < faults and time.monotonic() - started < hours * 3600:
            chosen = []
            for _ in range(per_round):
                order = order or world.rng.sample(list(kinds), len(kinds))
                chosen.append(order.pop())
            if "disk-full" in chosen:
                world.full_disk()
            if rest := [kind for kind in chosen if kind != "disk-full"]:
                world.round(rest, whole)
        world.summary.seconds = time.monotonic() - started
        return world.summary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hours", type=float, default=3.0, help="end after so long, whatever was injected")
    given = parser.parse_args()
    summary = campaign(given.faults, given.seed, hours=given.hours)
    print("\n".join(summary.lines()))
    return 1 if summary.bad else 0


if __name__ == "__main__":
    sys.exit(main())
