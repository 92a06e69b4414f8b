"""A process beside the job that says why it ended, where Ray leaves no time for that."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from jobs.common import ray_witness

TEXT = "v2a dub: WHAT has died"


@pytest.fixture
def raylet() -> Iterator[subprocess.Popen[bytes]]:
    """A process that can be killed."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def started(places: dict[str, Any]) -> subprocess.Popen[bytes]:
    """A witness; its standard input stands for the job's life."""
    arguments = [sys.executable, "-I", "-S", ray_witness.__file__, json.dumps(places), TEXT]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_process_that_died_before_the_job_is_named(raylet: subprocess.Popen[bytes]) -> None:
    witness = started({"the raylet": ["127.0.0.1", 1, raylet.pid]})
    raylet.kill()
    raylet.wait()
    assert witness.communicate()[1].decode().strip() == "v2a dub: the raylet has died"


def test_a_process_of_a_cluster_is_known_by_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = ["127.0.0.1", server.getsockname()[1], 0]
        assert started({"the raylet": there}).communicate()[1] == b"", "it is alive"
    assert b"the raylet has died" in started({"the raylet": there}).communicate()[1]


def test_nothing_is_said_about_a_job_that_ends_by_itself(raylet: subprocess.Popen[bytes]) -> None:
    witness = started({"the raylet": ["127.0.0.1", 1, raylet.pid]})
    raylet.kill()
    raylet.wait()
    assert witness.communicate(ray_witness.OVER)[1] == b""
    assert witness.returncode == 0


def test_a_child_of_the_job_that_lives_on_does_not_hold_its_end_up(raylet: subprocess.Popen[bytes]) -> None:
    witness = started({"the raylet": ["127.0.0.1", 1, raylet.pid]})
    assert witness.stdin is not None
    # The child of a fork has the pipe too.
    with subprocess.Popen(["sleep", "600"], stdout=witness.stdin) as child:
        witness.stdin.write(ray_witness.OVER)
        witness.stdin.close()
        raylet.kill()
        try:
            assert witness.wait(timeout=60) == 0
        finally:
            child.kill()
