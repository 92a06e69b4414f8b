"""Targets of the campaign of faults: archive, cluster and servers; and the way each kind of fault is done."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from tests.chaos.kinds import STORMS, TORN, Summary
from tests.support import REPOSITORY, servers
from tests.support.toy_generators import SlowGenerator, reference, write_video

BUCKET = "chaos"

MARKS = {"worker": "ray::", "actor": "MapWorker", "decoder": "decoder_child", "memory": "ray::"}
"""Processes by what their command lines hold."""

NOT_WORKERS = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Workers that wait for work, and processes of a node with which it dies: that is a fault of its own."""

RECORDS = {
    "torn-part": ("_v2a/parts/", ".npz"),
    "torn-row": ("_v2a/rows/", ".json"),
    "torn-config": ("_v2a/config", ".json"),
}
"""Records that are torn: how their names begin and end."""

RUNS = 6
"""Undisturbed runs at most until all must be done: one is enough, if nothing is left over from a fault."""


class World:
    """Archive, cluster and servers, and the proxy through which S3 is spoken to."""

    def __init__(self, folder: Path, films: int, seed: int, mlflow: bool, summary: Summary) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.stack = contextlib.ExitStack()
        self.storm = ""
        self.summary = summary
        self.films = films
        self.driver: subprocess.Popen[str] | None = None
        """The run that was started last."""
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
        os.environ.update(PYTHONPATH=str(REPOSITORY), OMP_NUM_THREADS="1")
        self.cluster = self.stack.enter_context(servers.RayCluster(2))
        self.start_mlflow()
        self.stack.callback(self.stop_mlflow)
        self.stack.callback(self.stop_driver)
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

    def stop_driver(self) -> None:
        """SIGKILL, for a campaign that is stopped during a run."""
        if self.driver is not None and self.driver.poll() is None:
            self.driver.kill()
            self.driver.wait()

    def restart_mlflow(self) -> None:
        """Kills the server, and starts another while the run goes on."""
        if self.starting is not None:
            self.starting.join()
        self.stop_mlflow()
        self.starting = threading.Thread(target=self.start_mlflow, daemon=True)
        self.starting.start()

    def fail(self, method: str, path: str) -> Any:
        """Answer to a request during a storm; called with the proxy's lock held."""
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
        if dead := self.cluster.mend():
            self.note(f"{dead} nodes had died and were replaced")
        self.note(f"run {self.summary.runs} into {out}")
        tracking = f"http://127.0.0.1:{self.mlflow_port}" if self.mlflow_port else "off"
        arguments = [archive, out, "--segment-s", "1.0", "--address", self.cluster.address]
        arguments += ["--model", reference(SlowGenerator)]
        self.driver = subprocess.Popen(
            [sys.executable, "-m", "jobs.dub", *arguments, "--tracking-uri", tracking],
            cwd=self.folder, stdout=self.log, stderr=self.log, text=True, start_new_session=True,
        )  # fmt: skip
        return self.driver

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

    def strike(self, kind: str, driver: subprocess.Popen[str], prefix: str) -> bool:
        """One fault into the run that writes to `prefix`; whether there was something to strike."""
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
        elif kind == "source-gone":
            self.hide_a_source()
        elif kind in TORN:
            return self.tear(kind, prefix)
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

    def hide_a_source(self) -> None:
        """Removes a film from the archive, and puts it back before the next run."""
        key = f"films/reel {self.rng.randrange(self.films)}.mp4"
        film = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        self.s3.delete_object(Bucket=BUCKET, Key=key)
        time.sleep(self.rng.uniform(0.5, 2.5))
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=film)

    def records(self, kind: str, prefix: str) -> list[str]:
        """Records of a run that this kind of fault can tear."""
        folder, suffix = RECORDS[kind]
        keys = self.objects(prefix)
        return sorted(key for key in keys if key.startswith(folder) and key.endswith(suffix))

    def tear(self, kind: str, prefix: str) -> bool:
        """Truncates a record of the run; whether there was one."""
        keys = self.records(kind, prefix)
        if not keys:
            return False
        key = f"{prefix}/{self.rng.choice(keys)}"
        try:
            record = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return False
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=record[: self.rng.randrange(len(record))])
        return True

    def await_target(self, kind: str, driver: subprocess.Popen[str], prefix: str) -> None:
        """Waits for what is to be struck; a driver is struck before there is an actor as well as after that."""
        mark = MARKS.get(kind.partition("-")[0], "")
        if kind == "driver" and self.rng.random() < 0.7:
            mark = MARKS["actor"]
        until = time.monotonic() + 60
        while mark and driver.poll() is None and not self.processes(mark) and time.monotonic() < until:
            time.sleep(0.2)
        while kind in TORN and driver.poll() is None and time.monotonic() < until:
            if kind not in RECORDS or self.records(kind, prefix):
                return
            time.sleep(0.1)

    def processes(self, mark: str) -> list[psutil.Process]:
        """Processes that this campaign has started, found by their command lines."""
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                line = " ".join(process.cmdline())
                if (
                    mark in line
                    and not line.startswith(NOT_WORKERS)
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
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
                self.await_target(left[0], driver, prefix)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    driver.wait(self.rng.uniform(0.0, 1.5))
                if driver.poll() is None:
                    kind = left.pop(0)
                    struck = self.strike(kind, driver, prefix)
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
            if ".v2a-tmp-" in key or (key.startswith("_v2a/parts/") and ".broken" not in key)
        ]
        uploads = self.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        self.summary.left += [f"upload of {upload['Key']}" for upload in uploads]
        return left

    def check(self, name: str, found: dict[str, str], whole: dict[str, str]) -> None:
        self.summary.compared += len(whole)
        self.summary.lost += [f"{name}/{key}" for key in whole if found.get(key) != whole[key]]
        self.summary.lost += [f"{name}/{key} is one too many" for key in found.keys() - whole.keys()]

    def undisturbed(self, films: str) -> dict[str, str]:
        """Digests of the outputs of an undisturbed run over a folder. A file's id, and so its sound, follows from
        where and when it was written: both differ from those on S3."""
        if films not in self.kept:
            whole = self.folder / f"whole-{films}"
            self.finish(str(self.folder / films), str(whole))
            self.kept[films] = digests(whole)
        return self.kept[films]


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
