"""Ray's processes: in a terminal they leave it alone, and so are not stopped by it; the death of one is told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import ray.exceptions

from jobs.common import ray_processes, ray_session
from jobs.common.verb import Stopped, WrongUsage, run_verb
from pipelines import scratch, storage
from pipelines.media.errors import DecoderNotStarted
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
def test_a_killed_driver_leaves_no_process_and_the_next_no_file() -> None:
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
    while left and time.monotonic() < until:
        time.sleep(0.1)
        left = [process for process in family if alive(process)]
    assert not left
    scratch.sweep()
    assert not session.exists()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket that stands for a raylet."""
    monkeypatch.setattr(ray_processes, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(ray_processes, "_logs", lambda: "/logs")
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        monkeypatch.setattr(ray_processes, "_places", lambda: {"the raylet": (host, port, os.getpid())})
        yield server


def test_the_death_of_a_process_of_ray_ends_the_job_with_two_lines(
    place: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    def body(console: object) -> int:
        with ray_processes.guarded():
            place.close()
            threading.Event().wait(60)  # a lock, as in Ray's queues
            return 0

    assert run_verb("dub", "v2a dub A B", body) == 1
    first, second, *resume = capfd.readouterr().err.strip().splitlines()
    assert first == "v2a dub: the raylet has died, and the job with it"
    assert "out of memory" in second and "/logs" in second
    assert resume == ["To resume, run:", "  v2a dub A B"]
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL


def test_an_error_that_the_death_causes_is_told_as_that(place: socket.socket) -> None:
    with pytest.raises(Stopped, match="the raylet has died"), ray_processes.guarded():
        place.close()
        raise ray.exceptions.LocalRayletDiedError


def test_a_process_of_a_cluster_has_time_to_come_back(place: socket.socket) -> None:
    host, port = place.getsockname()
    with ray_processes.guarded() as watch:
        watch.places = {"GCS": (host, port, 0)}
        place.close()
        assert watch.lost() == "" and threading.Event().wait(0.5) is False
        with socket.create_server((host, port)):
            assert watch.lost() == ""


def test_other_errors_stay_what_they_are(place: socket.socket) -> None:
    with pytest.raises(KeyError), ray_processes.guarded():
        raise KeyError("mine")
    with pytest.raises(Stopped, match="a worker was lost: WorkerCrashedError"), ray_processes.guarded():
        raise ray.exceptions.WorkerCrashedError
    with ray_processes.guarded():
        pass


@pytest.mark.parametrize(
    ("cause", "kind", "words"),
    [
        (DecoderNotStarted("killed"), Stopped, "failed to start, several times in a row: killed\n"),
        (storage.StorageNotFound("nothing there"), storage.StorageNotFound, "nothing there"),
    ],
)
def test_the_error_of_a_task_is_found_behind_rays(
    cause: Exception, kind: type[Exception], words: str
) -> None:
    error = ray.exceptions.RayTaskError("f", "a long traceback", cause).as_instanceof_cause()
    with pytest.raises(kind, match=words) as raised, ray_processes.ray_errors():
        raise error
    assert "traceback" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
def test_the_death_of_rays_own_processes_is_told(victim: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", JOB, victim], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert ended.returncode == 1, ended.stderr
    assert "has died, and " in ended.stderr and victim.split("_")[0].lower() in ended.stderr.lower()
    assert "To resume, run:\n  v2a dub A B" in ended.stderr and "Traceback" not in ended.stderr


JOB = """
import sys, threading, time
import psutil, ray, ray.data
from jobs.common.ray_session import session
from jobs.common.verb import run_verb

def kill():
    for process in psutil.Process().children(recursive=True):
        if process.name().startswith(sys.argv[1]):
            process.kill()

def slow(batch):
    time.sleep(0.2)
    return batch

def body(console):
    with session(1):
        threading.Timer(2.0, kill).start()
        for _ in ray.data.range(1000, override_num_blocks=1000).map_batches(slow, batch_size=1).iter_rows():
            pass

sys.exit(run_verb("dub", "v2a dub A B", body))
"""
"""A job whose Ray loses one of its own processes."""


def test_ray_without_a_folder_for_its_files_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/nowhere")
    with pytest.raises(WrongUsage, match="set RAY_TMPDIR"), ray_session._own_folder():
        pass
