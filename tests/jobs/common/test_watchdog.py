"""Notices of a job when no result has come for some time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from jobs import dub
from jobs.common import watchdog
from jobs.common.watchdog import Watchdog, notice
from tests.support.toy_generators import NOISE, write_video

PYTHON = os.path.realpath(sys.executable)


@contextlib.contextmanager
def worker(title: str) -> Iterator[psutil.Process]:
    """A process that this one started, with the title that Ray gives a worker."""
    child = subprocess.Popen([title, "-c", "import time; time.sleep(60)"], executable=PYTHON)
    try:
        process = psutil.Process(child.pid)
        wait_until(lambda: process.cmdline()[:1] == [title])
        yield process
    finally:
        child.kill()
        child.wait()


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_it_names_what_is_at_work_and_what_was_stopped() -> None:
    with (
        worker("ray::MapBatches(decode)") as stopped,
        worker("ray::MapBatches(decode)"),
        worker("ray::MapWorker(MapBatches(Dubber)).submit"),
        worker("ray::MapWorker(MapBatches(Streamer))"),
        worker("ray::IDLE"),
        worker("something else") as program,
    ):
        for process in (stopped, program):
            process.send_signal(signal.SIGSTOP)
            wait_until(lambda process=process: process.status() == psutil.STATUS_STOPPED)  # type: ignore[misc]
        said = list[str]()
        with Watchdog(said.append, 0.1):
            wait_until(lambda: bool(said))
    first = said[0].splitlines()
    assert "No result for" in first[0] and "continues" in first[0]
    assert first[1] == "  Running: Dubber (1 process), decode (1 process)."
    assert f"decode (process {stopped.pid})" in first[2] and f"(process {program.pid})" in first[2]
    fix = first[3].split("kill -CONT ")[1].split()
    assert sorted(map(int, fix)) == sorted([stopped.pid, program.pid])


def test_a_process_that_ended_meanwhile_is_left_out() -> None:
    with worker("ray::MapBatches(decode)") as gone:
        pass
    assert "No stage is running" in notice(120, [gone])
    assert notice(120, []).startswith("No result for 2 minutes.")


def test_it_is_quiet_while_results_come() -> None:
    said = list[str]()
    with Watchdog(said.append, 5.0) as dog:
        for _ in range(60):
            time.sleep(0.1)
            dog.reset()
    assert not said


def test_it_speaks_once_an_interval_until_the_job_ends() -> None:
    said, began = list[float](), time.monotonic()
    with Watchdog(lambda text: said.append(time.monotonic() - began), 0.5):
        wait_until(lambda: len(said) == 3)
    assert all(at >= 0.5 * number for number, at in enumerate(said, 1))
    time.sleep(0.7)
    assert len(said) <= 4  # one may have been due at the very end


@pytest.mark.usefixtures("ray_session")
def test_a_dub_says_it_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watchdog, "EVERY_S", 0.1)
    results, reset = list[float](), Watchdog.reset
    monkeypatch.setattr(Watchdog, "reset", lambda dog: (results.append(time.monotonic()), reset(dog))[1])
    write_video(tmp_path / "archive" / "film.mp4", 2.0)
    config = dub.DubConfig(str(tmp_path / "archive"), str(tmp_path / "out"), model=NOISE, tracking_uri="off")
    assert dub.run(config) == 0
    assert len(results) > 2  # more than those of its start
    shown = capsys.readouterr().out
    assert "No result for 0 minutes. The job continues" in shown
    assert "Running: " in shown
