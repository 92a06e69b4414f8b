"""A job in a terminal: what it starts leaves the terminal alone, and so is not stopped by it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.support import REPOSITORY
from tests.support.terminal import reaching_program, run_in_terminal
from tests.support.toy_generators import write_video

IN_A_WORKER = """
import subprocess, sys
import ray
from jobs.common import ray_session

@ray.remote
def start(program):
    return subprocess.run([program]).returncode

with ray_session.session(1):
    sys.exit(ray.get(start.remote(sys.argv[1])))
"""


@pytest.mark.timeout(700)
def test_a_film_is_dubbed_in_a_terminal_where_ffmpeg_is_installed(tmp_path: Path) -> None:
    """The library that finds cuts tries ffmpeg when it is imported."""
    ffmpeg, reached = reaching_program(tmp_path / "bin", "ffmpeg")
    write_video(tmp_path / "archive" / "film.mp4", 2.0)
    command = [sys.executable, "-m", "jobs.dub", str(tmp_path / "archive"), str(tmp_path / "out")]
    command += ["--tracking-uri", "off", "--num-workers", "2"]
    path = f"{ffmpeg.parent}{os.pathsep}{os.environ['PATH']}"
    code, shown = run_in_terminal(command, 500, REPOSITORY, {"PATH": path})
    assert code == 0, shown[-2000:]
    [row] = pq.read_table(tmp_path / "out" / "_v2a" / "report.parquet").to_pylist()
    assert row["status"] == "dubbed"
    assert not reached.exists(), reached.read_text()


@pytest.mark.timeout(400)
def test_a_program_that_a_worker_starts_finds_no_terminal(tmp_path: Path) -> None:
    program, log = reaching_program(tmp_path, "reaches")
    code, shown = run_in_terminal([sys.executable, "-c", IN_A_WORKER, str(program)], 200, REPOSITORY)
    assert (code, log.read_text()) == (0, "ended\n"), shown


DRIVER = """
import sys, time
from jobs.common import ray_session
with ray_session.session(1):
    import ray
    ray.get(ray.remote(lambda: 1).remote())
    print(ray._private.worker._global_node.get_session_dir_path(), flush=True)
    time.sleep(600)
"""


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_killed_driver_leaves_no_process_and_no_file() -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    driver = subprocess.Popen(
        [sys.executable, "-P", "-c", DRIVER], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert driver.stdout is not None
    session = Path(driver.stdout.readline().strip())
    family = psutil.Process(driver.pid).children(recursive=True)
    assert session.exists() and any("raylet" in process.name() for process in family)
    driver.kill()
    driver.wait()
    left, until = family, time.monotonic() + 30
    while (left or session.exists()) and time.monotonic() < until:
        time.sleep(0.1)
        left = [process for process in family if alive(process)]
    assert not left and not session.exists()
