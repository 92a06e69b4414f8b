"""A Ray cluster as `ray start` makes it: head and worker as processes of their own, a token, jobs over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.support import REPOSITORY
from tests.support.servers import free_port

TOKEN = "a-token-for-tests-only-0123456789"
BIN = Path(sys.executable).parent
CLUSTER = Path(sys.prefix, "cluster")
"""Packages that a head needs to take jobs (requirements-cluster.lock)."""


class TwoNodes:
    """Head and worker on this machine, one core each; `extra` is added to their environment.

    They are ended by their process ids: `ray stop` would end everybody's.
    """

    def __init__(self, extra: Mapping[str, str] | None = None, cpus: int = 1) -> None:
        assert CLUSTER.is_dir(), f"{CLUSTER} is missing: make setup installs it"
        # Sockets lie below it, and their paths may not be long.
        self.folder = Path(tempfile.mkdtemp(prefix="v2a-ray-"))
        self.port, self.dashboard_port = free_port(), free_port()
        self.cpus = cpus
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "AWS_"))},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_JOB_STOP_WAIT_TIME_S": "150",  # as in the image
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{CLUSTER}",
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            **(extra or {}),
        }
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        """Address of the cluster for drivers on this machine."""
        return f"127.0.0.1:{self.port}"

    @property
    def dashboard(self) -> str:
        """Address of the dashboard, for `ray job submit`."""
        return f"http://127.0.0.1:{self.dashboard_port}"

    def __enter__(self) -> TwoNodes:
        try:
            head = ["--head", f"--port={self.port}", f"--temp-dir={self.folder / 'ray'}"]
            head += ["--dashboard-host=127.0.0.1", f"--dashboard-port={self.dashboard_port}"]
            self._start_and_wait("head", self._answers, *head, f"--ray-client-server-port={free_port()}")
            # A folder of its own, as on a machine of its own: a node unpacks a job's working directory anew, over the
            # one that the other node's processes are just importing from.
            own = ["--address", self.address, f"--temp-dir={self.folder / 'two'}"]
            self._start_and_wait("worker", lambda: len(self.alive()) == 2, *own)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("worker", "head"):
            if name in self.nodes:
                self.kill(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name: str, *options: str) -> None:
        """`ray start --block` with these options."""
        command = [
            str(BIN / "ray"),
            "start",
            "--block",
            "--disable-usage-stats",
            "--node-ip-address=127.0.0.1",
        ]
        command += [f"--num-cpus={self.cpus}", f"--object-store-memory={256 << 20}"]
        # Ports that a raylet is told it need not wait for: it waits 15 s, and a busy machine takes longer.
        for port in (
            "dashboard-agent-listen-port",
            "dashboard-agent-grpc-port",
            "runtime-env-agent-port",
            "metrics-export-port",
        ):
            command.append(f"--{port}={free_port()}")
        command += options
        with (self.folder / f"{name}.log").open("wb") as log:
            self.nodes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env=self.environment, cwd=self.folder, start_new_session=True
            )

    def kill(self, name: str) -> None:
        """SIGKILL for a node and all that it started, as when a machine is gone."""
        node = self.nodes.pop(name)
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(node.pid).children(recursive=True)
            node.kill()
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        node.wait(20)

    def request(self, path: str, token: str = TOKEN, data: bytes | None = None) -> Any:
        """The dashboard's answer (to a POST with `data`), decoded. Raises urllib's errors."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        asked = urllib.request.Request(self.dashboard + path, data, headers)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return json.loads(answer.read())

    def alive(self) -> list[dict[str, Any]]:
        found = self.request("/nodes?view=summary")["data"]["summary"]
        return [node for node in found if node["raylet"].get("state") == "ALIVE"]

    def _answers(self) -> bool:
        try:
            return bool(self.request("/api/version"))
        except OSError:
            return False

    def _start_and_wait(self, name: str, ready: Callable[[], bool], *options: str) -> None:
        """Ray gives itself 30 s to start, which a busy machine exceeds: three tries."""
        for _ in range(3):
            self.start(name, *options)
            until = time.monotonic() + 120
            while self.nodes[name].poll() is None and time.monotonic() < until:
                with contextlib.suppress(OSError):  # the dashboard is busy
                    if ready():
                        return
                time.sleep(0.3)
            self.kill(name)
        raise AssertionError("Ray did not start:\n" + (self.folder / f"{name}.log").read_text())

    def submit(self, *entrypoint: str, working_dir: Path = REPOSITORY, options: tuple[str, ...] = ()) -> Any:
        """`ray job submit --working-dir . -- ENTRYPOINT`, to its end."""
        command = [
            str(BIN / "ray"),
            "job",
            "submit",
            "--address",
            self.dashboard,
            "--working-dir",
            ".",
            *options,
        ]
        return subprocess.run(
            [*command, "--", *entrypoint], cwd=working_dir, env=self.environment, capture_output=True, text=True,
            timeout=400, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
