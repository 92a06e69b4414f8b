"""Confinement: a child ends with its parent, keeps its limits, and refuses to run half confined if that is demanded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines import safe_path
from pipelines.sandbox import confinement
from pipelines.sandbox.child import ChildFailed, converse
from pipelines.sandbox.confinement import NotConfined
from pipelines.sandbox.decoder import Sandbox
from tests.support.sandboxed import waiting_child

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the measures are Linux's")

PARENT = """
import sys, threading, time
from pipelines.sandbox.decoder import Sandbox
sandbox = Sandbox(threads=1)
pool = threading.Thread(target=sandbox.probe, args=[sys.argv[1]])
pool.start()
pool.join()
print(sandbox.pid, flush=True)
time.sleep(600)
"""


def parent_of_a_child(film: str) -> tuple[subprocess.Popen[str], int]:
    """A process whose thread, which has ended, has made a decoder start; the decoder's id."""
    environment = {**os.environ, "PYTHONPATH": str(safe_path.ROOT)}
    parent = subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT, film], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def ended(pid: int, within_s: float = 10.0) -> bool:
    """True if the process is gone, or about to be collected, in time."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("stopped", [False, True])
def test_a_child_ends_with_its_parent(film: str, stopped: bool) -> None:
    parent, pid = parent_of_a_child(film)
    assert psutil.pid_exists(pid)
    if stopped:
        os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    assert ended(pid)


def test_a_demand_for_every_measure_is_met_or_refused(film: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(confinement.VARIABLE, "strict")
    order = {"without": ["files"]}
    with pytest.raises(NotConfined, match="files: left out by the test"):
        converse("tests.support.partly_confined", order, 1024, 60.0)
    monkeypatch.delenv(confinement.VARIABLE)
    with pytest.raises(ChildFailed, match="Crashed"):  # it runs, and misses what the order should hold
        converse("tests.support.partly_confined", order, 1024, 60.0)


def test_a_strict_sandbox_gives_each_file_a_child_of_its_own(
    film: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(Path(film).read_bytes())
    pids = []
    with Sandbox(threads=1) as sandbox:
        for uri in (film, film, str(other)):
            pids.append(waiting_child(sandbox, uri))
        assert len(set(pids)) == 1
        monkeypatch.setenv(confinement.VARIABLE, "strict")
        for uri in (film, film, str(other)):
            pids.append(waiting_child(sandbox, uri))
    assert pids[3] == pids[4] and len(set(pids)) == 3


def test_signs_of_life_do_not_last_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.sandbox import child

    monkeypatch.setattr(child, "_PATIENCE", 2)
    with pytest.raises(ChildFailed, match="too long in all"):
        converse("tests.support.beating_child", {}, 1024, 2.0)


def test_only_a_child_that_has_seen_no_film_may_refuse_to_run() -> None:
    """Otherwise a film that takes its child over could end the job."""
    lie = {"refused": "the sandbox is not complete on this machine"}
    for text in ("", "...", '"'):
        order = {"answer": lie, "text": text}
        try:
            assert converse("tests.support.lying_child", order, 1024, 60.0) == lie
        except ChildFailed as error:
            assert error.reason == "Crashed"


def test_an_answer_without_end_ends_the_child() -> None:
    began = time.monotonic()
    with pytest.raises(ChildFailed, match="Crashed"):
        converse("tests.support.lying_child", {"answer": {}, "endless": True}, 1024, 60.0)
    assert time.monotonic() - began < 30
