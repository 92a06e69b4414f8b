"""Faults into `v2a dub` until it has had enough of them: `python tests/chaos.py --faults 200`.

A round dubs an archive on an S3 server, on a Ray cluster of two nodes, into a new output. While it runs, processes are
killed and requests fail, one fault soon after the other; what and when follow from the seed. Then the same command runs
again, undisturbed, until it says that all is done. Every file must be there once, byte for byte as in a run that nobody
disturbed, nothing unfinished may have been visible at any moment, and nothing temporary may be left.

Some faults take a folder instead of the S3 server, and a round of their own: a disk that is full, films that end or
stop every decoder that opens them. `--kinds` chooses, `--keep FOLDER` keeps the log of every run.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import random
import shutil
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
import sys, time
import ray.cloudpickle, samples
ray.cloudpickle.register_pickle_by_value(samples)
from jobs import cli, dub

class Slow(samples.NoiseGenerator):
    # Gives faults something to strike, and takes no processor time.
    def generate_from_frames(self, frames, seeds):
        time.sleep(0.4)
        return super().generate_from_frames(frames, seeds)

sys.exit(dub.run(cli.parse(dub.DubConfig, sys.argv[1:], "v2a dub"), load=lambda name: Slow()))
"""

MARKS = {"worker": "ray::", "actor": "MapWorker", "decoder": "sandbox_child", "memory": "ray::"}
"""Processes by what their command lines hold; workers that wait for work apart."""

KILLS = (
    "driver",
    "worker",
    "actor",
    "decoder-segfault",
    "decoder-hang",
    "memory",
    "raylet",
    "mlflow",
    "s3-server",
)
STORMS = ("s3-errors", "s3-truncated", "s3-slow", "s3-gone")
DISK = ("disk-full",)
FILMS = ("film-segfault", "film-hang")
KINDS = KILLS + STORMS + DISK + FILMS
OFTEN = {**dict.fromkeys(KILLS, 6), **dict.fromkeys(STORMS, 5), "raylet": 3, "mlflow": 3, "disk-full": 1}
"""How often a kind comes in turn. `FILMS` come once, together: to wait for a decoder that hangs takes two minutes."""

RUNS = 6
"""Undisturbed runs at most until all must be done: one is enough, if nothing is left over from a fault."""


@dataclass
class Summary:
    """What a campaign did, and what it found."""

    injected: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    """Requests that failed while a kind of S3 fault went on: each of those counts as one fault."""
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
    busy_s: float = 0.0
    """Processor seconds of all that was started: what the campaign takes on cores of its own."""

    @property
    def bad(self) -> bool:
        return bool(self.lost or self.torn or self.left)

    def lines(self) -> list[str]:
        total = sum(self.injected.values())
        told = [f"{total} faults in {self.rounds} rounds, {self.runs} runs, {self.seconds:.0f} s, "
                f"{self.busy_s:.0f} processor seconds"]  # fmt: skip
        told += [
            f"  {count:5d}  {name}" + (f" ({self.requests[name]} requests)" if self.requests[name] else "")
            for name, count in sorted(self.injected.items())
        ]
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
        self.starting: threading.Thread | None = None
        self.kept: dict[str, dict[str, str]] = {}
        """Digests of undisturbed runs into folders."""

    def __enter__(self) -> World:
        self.log = self.stack.enter_context((self.folder / "log.txt").open("a"))
        upstream = self.stack.enter_context(servers.moto())
        self.proxy = self.stack.enter_context(servers.Proxy(upstream, self.fail))
        self.relay = self.stack.enter_context(servers.Relay(self.proxy.port))
        self.s3 = servers.client(upstream)
        self.s3.create_bucket(Bucket=BUCKET)
        for k in range(self.films):
            path = write_video(self.folder / "films" / f"reel {k}.mp4", 1.5 + k % 3, fps=8)
            self.s3.upload_file(str(path), BUCKET, f"films/reel {k}.mp4")
        # Nodes hand their environment down to workers.
        self.stack.callback(_restore, dict(os.environ))
        os.environ.update(servers.environment(self.relay.port))
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

    def restart_mlflow(self) -> None:
        """Kills the server, and starts another while the run goes on."""
        if self.starting is not None:
            self.starting.join()
        self.stop_mlflow()
        self.starting = threading.Thread(target=self.start_mlflow, daemon=True)
        self.starting.start()

    def fail(self, method: str, path: str) -> Any:
        """What happens to a request; called with the proxy's lock held."""
        storm = self.storm
        if not storm:
            return 0
        share = {"s3-gone": 1.0, "s3-slow": 0.3}.get(storm, 0.3)
        if self.rng.random() >= share or (storm == "s3-truncated" and method != "GET"):
            return 0
        self.summary.requests[storm] += 1
        return {"s3-gone": "gone", "s3-slow": "slow", "s3-truncated": "truncated"}.get(
            storm, self.rng.choice((500, 503))
        )

    # a run

    def busy_s(self) -> float:
        """Processor seconds so far of this process and all below it, those that have ended included."""
        total = sum(os.times()[:4])
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
        return total

    def note(self, text: str) -> None:
        """Into the log, between what the runs say."""
        self.log.write(f"== {time.strftime('%H:%M:%S')} {text}\n")
        self.log.flush()

    def start(self, archive: str, out: str) -> subprocess.Popen[str]:
        self.summary.runs += 1
        self.note(f"run {self.summary.runs} into {out}")
        tracking = f"http://127.0.0.1:{self.mlflow_port}" if self.mlflow_port else "off"
        arguments = [archive, out, "--segment-s", "1.0", "--address", self.cluster.address]
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments, "--tracking-uri", tracking],
            cwd=self.folder, stdout=self.log, stderr=self.log, text=True, start_new_session=True,
        )  # fmt: skip

    def run(self, archive: str, out: str) -> int:
        """The exit code of an undisturbed run; of one that does not end, 124."""
        driver = self.start(archive, out)
        try:
            code = driver.wait(600)
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.wait()
            code = 124
        self.note(f"run {self.summary.runs} ended with {code}")
        return code

    def finish(self, archive: str, out: str) -> None:
        """Runs undisturbed until all is done."""
        codes: list[int] = []
        while len(codes) < RUNS:
            codes.append(self.run(archive, out))
            if codes[-1] == 0:
                return
            time.sleep(2.0)  # a cluster notices a lost node in its own time
        said = (self.folder / "log.txt").read_text()[-2000:]
        self.summary.lost.append(f"{out}: does not come to an end, exit codes {codes}:\n{said}")

    def strike(self, kind: str, driver: subprocess.Popen[str]) -> bool:
        """One fault; whether there was something to strike."""
        if kind == "driver":
            driver.kill()
            driver.wait()
        elif kind == "raylet":
            self.cluster.replace_node(self.rng.randrange(2))
        elif kind == "mlflow":
            self.restart_mlflow()
        elif kind == "s3-server":
            self.relay.kill()
            time.sleep(self.rng.uniform(0.2, 1.5))
            self.relay.start()
        elif kind in STORMS:
            before, self.storm = self.summary.requests[kind], kind
            time.sleep(self.rng.uniform(0.5, 2.5))
            self.storm = ""
            return self.summary.requests[kind] > before
        else:
            found = self.processes(MARKS[kind.partition("-")[0]])
            if not found:
                return False
            victim = self.rng.choice(found)
            try:
                if kind == "decoder-segfault":
                    victim.send_signal(signal.SIGSEGV)
                elif kind == "decoder-hang":
                    victim.suspend()
                    time.sleep(2.0)
                    victim.kill()
                elif kind == "memory":
                    # Not a byte more than it has, for a while: allocations fail in whatever it does.
                    free = victim.rlimit(psutil.RLIMIT_AS)
                    victim.rlimit(psutil.RLIMIT_AS, (victim.memory_info().vms, free[1]))
                    time.sleep(2.0)
                    with contextlib.suppress(psutil.NoSuchProcess):
                        victim.rlimit(psutil.RLIMIT_AS, free)
                else:
                    victim.kill()
            except psutil.NoSuchProcess:
                return False
        return True

    def await_target(self, kind: str, driver: subprocess.Popen[str]) -> None:
        """Waits for what is to be struck; a driver is struck before there is an actor as well as after that."""
        mark = MARKS.get(kind.partition("-")[0], "")
        if kind == "driver" and self.rng.random() < 0.7:
            mark = MARKS["actor"]
        until = time.monotonic() + 60
        while mark and driver.poll() is None and not self.processes(mark) and time.monotonic() < until:
            time.sleep(0.2)

    def processes(self, mark: str) -> list[psutil.Process]:
        """Those that this campaign has started, by what stands in their command lines."""
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                line = " ".join(process.cmdline())
                if mark in line and "ray::IDLE" not in line and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

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

    def round(self, kinds: Sequence[str], whole: dict[str, str]) -> list[str]:
        """One output, disturbed by these faults in turn and then made complete; the faults for which there was no
        time left, because all was done."""
        self.summary.rounds += 1
        prefix = f"out-{self.summary.rounds}"
        archive, out = f"s3://{BUCKET}/films", f"s3://{BUCKET}/{prefix}"
        left, runs, misses = list(kinds), 0, 0
        with self.watched(prefix, whole):
            driver = self.start(archive, out)
            while left and runs < 4 * len(kinds) and misses < 2 * len(kinds):
                if driver.poll() is not None:
                    self.note(f"run {self.summary.runs} ended with {driver.returncode}")
                    if driver.returncode == 0:
                        break
                    driver, runs = self.start(archive, out), runs + 1
                # Not before there is something to lose, and then at a random moment.
                until = time.monotonic() + 120
                while driver.poll() is None and not self.objects(prefix) and time.monotonic() < until:
                    time.sleep(0.1)
                self.await_target(left[0], driver)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    driver.wait(self.rng.uniform(0.0, 1.5))
                if driver.poll() is None:
                    kind = left.pop(0)
                    struck = self.strike(kind, driver)
                    self.note(f"{kind}{'' if struck else ': nothing to strike'}")
                    self.summary.injected[kind] += struck
                    if not struck:
                        left.append(kind)
                        misses += 1
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(600)
            driver.kill()
            self.finish(archive, out)
        self.check(prefix, self.dubbed(prefix), whole)
        try:
            report = self.s3.get_object(Bucket=BUCKET, Key=f"{prefix}/_v2a/report.parquet")["Body"].read()
            rows = pq.read_table(io.BytesIO(report)).to_pylist()
        except self.s3.exceptions.NoSuchKey:
            rows = []
        states = sorted((row["path"], row["status"]) for row in rows)
        if states != sorted((path, "dubbed") for path in whole):
            self.summary.lost.append(f"{prefix}: the report says {states}")
        self.summary.left += [
            f"{prefix}/{key}"
            for key in self.objects(prefix)
            if ".v2a-tmp-" in key or key.startswith("_v2a/parts/")
        ]
        uploads = self.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        self.summary.left += [f"upload of {upload['Key']}" for upload in uploads]
        return left

    def check(self, name: str, found: dict[str, str], whole: dict[str, str]) -> None:
        self.summary.compared += len(whole)
        self.summary.lost += [f"{name}/{key}" for key in whole if found.get(key) != whole[key]]
        self.summary.lost += [f"{name}/{key} is one too many" for key in found.keys() - whole.keys()]

    def undisturbed(self, films: str) -> dict[str, str]:
        """What a folder becomes if nobody disturbs it. A file's id, and so its sound, follows from where and when it
        was written: they are others than on S3."""
        if films not in self.kept:
            whole = self.folder / f"whole-{films}"
            self.finish(str(self.folder / films), str(whole))
            self.kept[films] = digests(whole)
        return self.kept[films]

    def full_disk(self) -> None:
        """The disk of the output is full half-way, and is given room."""
        whole = self.undisturbed("films")
        self.summary.rounds += 1
        place = self.folder / f"disk-{self.summary.rounds}"
        place.mkdir()
        size = sum(path.stat().st_size for path in (self.folder / "films").iterdir())
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size // 2048}k", "tmpfs", str(place)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            print("disk-full is left out: it takes root to mount a small disk")
            return
        try:
            films, out = str(self.folder / "films"), place / "out"
            self.summary.injected["disk-full"] += self.run(films, str(out)) != 0
            early = digests(out)
            self.summary.torn += [f"{out}/{name}" for name, tag in early.items() if whole.get(name) != tag]
            subprocess.run(["mount", "-o", "remount,size=256m", str(place)], check=True)
            self.finish(films, str(out))
            self.check("disk-full", digests(out), whole)
            self.summary.left += [str(path) for path in out.rglob(".v2a-tmp-*")]
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=False)

    def bad_films(self, kinds: Sequence[str]) -> None:
        """Films that end, or stop, every decoder that opens them; then they do so no more."""
        films = self.folder / "bad films"
        for name in (*kinds, "good"):
            write_video(films / f"{name}.mp4", 20.0, fps=25, size=(480, 360))
        whole = self.undisturbed("bad films")
        self.summary.rounds += 1
        out = self.folder / f"bad-{self.summary.rounds}"
        over = threading.Event()
        struck: Counter[str] = Counter()

        def hunt() -> None:
            stopped: set[int] = set()
            children: list[psutil.Process] = []
            looked = 0.0
            while not over.wait(0.005):
                if time.monotonic() - looked > 0.5:
                    children, looked = self.processes(MARKS["decoder"]), time.monotonic()
                for child in children:
                    for kind in kinds:
                        if child.pid not in stopped and _has_open(child.pid, str(films / f"{kind}.mp4")):
                            stopped.add(child.pid)
                            with contextlib.suppress(ProcessLookupError):
                                os.kill(
                                    child.pid, signal.SIGSEGV if kind == "film-segfault" else signal.SIGSTOP
                                )
                                struck[kind] += 1

        thread = threading.Thread(target=hunt, daemon=True)
        thread.start()
        self.run(str(films), str(out))
        over.set()
        thread.join()
        self.summary.injected += struck
        rows = pq.read_table(out / "_v2a" / "report.parquet").to_pylist()
        states = {row["path"]: (row["status"], row["error_class"]) for row in rows}
        classes = {"film-segfault": "DecoderCrashed", "film-hang": "DecoderTimeout"}
        expected = {f"{kind}.mp4": ("failed", classes[kind]) for kind in kinds if struck[kind]}
        expected["good.mp4"] = ("dubbed", "")
        self.note(f"films that stop decoders: {states}, {dict(struck)}")
        for name, state in expected.items():
            if states.get(name) != state:
                self.summary.lost.append(f"{out.name}/{name}: the report says {states.get(name)}")
        self.finish(str(films), str(out))
        self.check("bad films", digests(out), whole)


def _has_open(pid: int, path: str) -> bool:
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(entry.path) == path:
                    return True
    return False


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
    faults: int, seed: int, *, kinds: Sequence[str] = KINDS, films: int = 8, per_round: int = 10, hours: float = 3.0,
    keep: Path | None = None,
) -> Summary:  # fmt: skip
    """Rounds until so many faults are injected, or the time is over."""
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="v2a-chaos-") as folder,
        World(Path(folder), films, seed, mlflow="mlflow" in kinds) as world,
    ):
        summary = world.summary
        try:
            world.finish(f"s3://{BUCKET}/films", f"s3://{BUCKET}/whole")
            whole = world.dubbed("whole")
            assert len(whole) == films, summary.lost
            if bad := [kind for kind in FILMS if kind in kinds]:
                world.bad_films(bad)
            # Every kind in turn, in an order of the seed's, so that a short campaign has seen them all.
            turns = [kind for kind in kinds if kind not in FILMS]
            order: list[str] = []
            while turns and sum(summary.injected.values()) < faults:
                if time.monotonic() - started > hours * 3600:
                    break
                if not order:
                    more = [kind for kind in turns for _ in range(OFTEN[kind] - 1)]
                    # Taken from the end.
                    order = world.rng.sample(more, len(more)) + world.rng.sample(turns, len(turns))
                chosen = [order.pop() for _ in range(min(per_round, len(order)))]
                for _ in range(chosen.count("disk-full")):
                    world.full_disk()
                if rest := [kind for kind in chosen if kind != "disk-full"]:
                    order += world.round(rest, whole)
                summary.seconds = time.monotonic() - started
                print(
                    f"{sum(summary.injected.values())} faults in {summary.seconds:.0f} s, "
                    f"{len(summary.lost)} lost", file=sys.stderr, flush=True,
                )  # fmt: skip
        finally:
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(folder) / "log.txt", keep / f"log-{seed}.txt")
        summary.seconds, summary.busy_s = time.monotonic() - started, world.busy_s()
        return summary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--films", type=int, default=8)
    parser.add_argument("--per-round", type=int, default=10, help="faults into one output")
    parser.add_argument("--hours", type=float, default=3.0, help="end after so long, whatever was injected")
    parser.add_argument("--keep", type=Path, help="folder for the log of all runs")
    given = parser.parse_args()
    summary = campaign(
        given.faults, given.seed, kinds=given.kinds, films=given.films, per_round=given.per_round,
        hours=given.hours, keep=given.keep,
    )  # fmt: skip
    print("\n".join(summary.lines()))
    return 1 if summary.bad else 0


if __name__ == "__main__":
    sys.exit(main())
