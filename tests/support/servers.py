"""Servers that tests talk to over HTTP: an S3 server as a process, and a proxy that disturbs what goes to it."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "S3RVER",
    "AWS_SECRET_ACCESS_KEY": "S3RVER",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def environment(port: int) -> dict[str, str]:
    """Environment variables that make a process use the S3 server at this port."""
    return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", **CREDENTIALS}


def client(port: int) -> Any:
    """A boto3 client of the S3 server at this port."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )


@contextlib.contextmanager
def running(command: Sequence[str], port: int, **options: Any) -> Iterator[None]:
    """A server process that answers on `port` for the length of the block."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        until = time.monotonic() + 90
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < until, f"{command[0]} did not start"
                time.sleep(0.2)
        yield
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


@contextlib.contextmanager
def moto() -> Iterator[int]:
    """moto's S3 server; its port."""
    port = free_port()
    with running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        yield port


@contextlib.contextmanager
def mlflow(folder: Path, port: int | None = None) -> Iterator[str]:
    """A real MLflow server, its database and artifacts in `folder`; its address."""
    port = port or free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    # Without its runners of jobs, eight processes that a tracking server needs for nothing.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log.txt").open("ab") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, start_new_session=True, env=environment
        )
    try:
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2).close()
                break
            except OSError:
                said = (folder / "log.txt").read_text()
                assert server.poll() is None and time.monotonic() < until, f"MLflow did not start:\n{said}"
                time.sleep(0.3)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server, fails some of them, and counts.

    `fail` is asked for every request (method, path) and gives 0, an HTTP status to answer with, or what else is to go
    wrong: "slow" (a second late), "truncated" (half of what was announced) or "gone" (no answer at all).
    """

    daemon_threads = True

    def __init__(self, upstream: int, fail: Any = lambda method, path: 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.fail = upstream, fail
        self.failed = 0
        self.sent: dict[str, int] = {}
        """Bytes of answers to GET by path, without the query."""
        self.lock = threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def __enter__(self) -> Proxy:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            status = self.server.fail(self.command, self.path)
            self.server.failed += bool(status)
        if status == "gone":
            self.close_connection = True
            return
        if status == "slow":
            time.sleep(1.0)
        elif isinstance(status, int) and status:
            code = {503: "SlowDown", 500: "InternalError"}[status]
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>on purpose</Message></Error>".encode()
            self._answer(status, [("Content-Type", "application/xml")], text)
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        upstream.request(self.command, self.path, body, dict(self.headers))
        answer = upstream.getresponse()
        data = answer.read()
        if self.command == "GET":
            with self.server.lock:
                place = self.path.split("?")[0]
                self.server.sent[place] = self.server.sent.get(place, 0) + len(data)
        kept = [
            (k, v) for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection")
        ]
        upstream.close()
        if status == "truncated" and self.command == "GET" and len(data) > 1:
            self._answer(answer.status, kept, data, len(data) // 2)
            self.close_connection = True
            return
        self._answer(answer.status, kept, data)

    def _answer(
        self, status: int, headers: list[tuple[str, str]], data: bytes, sent: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):  # who asked was killed
                self.wfile.write(data[:sent])

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def log_message(self, *_: Any) -> None:
        pass


RELAY = """
import asyncio, sys

async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()

async def serve(reader, writer):
    try:
        there, back = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    except OSError:
        writer.close()
        return
    await asyncio.gather(copy(reader, back), copy(there, writer))

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""


class Relay:
    """A process that stands for a server: it can be killed and started again, and what is kept behind it stays."""

    def __init__(self, upstream: int) -> None:
        self.port, self.upstream = free_port(), upstream
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-S", "-c", RELAY, str(self.port), str(self.upstream)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            assert self.process.poll() is None and time.monotonic() < until, "the relay did not start"
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL: connections break off wherever they are."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Relay:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class RayCluster:
    """A real Ray cluster of several raylets on this machine: a head without cores, and nodes that can be killed."""

    def __init__(self, nodes: int, cpus: int = 1) -> None:
        from ray.cluster_utils import Cluster

        self.cpus, store = cpus, {"object_store_memory": 256 << 20}
        # A node of one core would end every worker that waits for a second, and start another for the next task.
        keep = {"_system_config": {"num_workers_soft_limit": 3}}
        # The head's own core is for the controller's bookkeeping only: workers live on the nodes.
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **store, **keep})
        self.nodes = [self.cluster.add_node(num_cpus=cpus, **store) for _ in range(nodes)]

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.shutdown()

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def kill_node(self, number: int) -> None:
        """SIGKILL for all of its processes, as when a machine is gone."""
        self.cluster.remove_node(self.nodes[number], allow_graceful=False)

    def mend(self) -> int:
        """Another node for every one that died by itself, as whoever runs a cluster gives it; how many."""
        dead = [k for k, node in enumerate(self.nodes) if node.dead_processes()]
        for number in dead:
            self.replace_node(number)
        return len(dead)

    def replace_node(self, number: int) -> None:
        """Kills a node, and gives the cluster another."""
        self.kill_node(number)
        self.nodes[number] = self.cluster.add_node(num_cpus=self.cpus, object_store_memory=256 << 20)
