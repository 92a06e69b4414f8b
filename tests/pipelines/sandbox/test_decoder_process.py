"""The start of the decoding process: tried again with pauses, and no fault of any file."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs import cli
from pipelines.archive import scan
from pipelines.dub import decode
from pipelines.media.errors import DecodeFailed, DecoderNotStarted
from pipelines.sandbox import decoder_process
from pipelines.sandbox.decoder import Sandbox
from pipelines.sandbox.decoder_process import DecoderProcess
from pipelines.sandbox.lent_files import NEXT
from pipelines.sandbox.pipe import send
from pipelines.storage import stat_file
from tests.support.dub_stages import make_job, plan
from tests.support.toy_generators import write_video


class Starts:
    """Starts of decoders, of which the first `deaths` are killed, as by the kernel for want of memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, deaths: int, error: Exception | None = None) -> None:
        self.n, self.deaths, self.error, self.start = 0, deaths, error, decoder_process.start_decoder
        monkeypatch.setattr(decoder_process, "start_decoder", self)
        monkeypatch.setattr(decoder_process, "START_PAUSE_S", 0.01)

    def __call__(self, *arguments: Any) -> subprocess.Popen[bytes]:
        self.n += 1
        if self.n <= self.deaths and self.error is not None:
            raise self.error
        child = self.start(*arguments)
        if self.n <= self.deaths:
            os.kill(child.pid, signal.SIGKILL)
        return child


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for name in ("a.mp4", "b.mp4"):
        write_video(folder / name, 0.5)
    return folder


@pytest.mark.parametrize("error", [None, OSError(12, "Cannot allocate memory")])
def test_a_decoder_that_is_killed_at_its_start_is_started_again(
    films: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    pauses: list[float] = []
    starts = Starts(monkeypatch, decoder_process.START_TRIES - 1, error)
    monkeypatch.setattr(decoder_process, "START_PAUSE_S", 1.0)
    monkeypatch.setattr("tenacity.nap.time.sleep", pauses.append)
    with Sandbox() as sandbox:
        assert sandbox.probe(str(films / "a.mp4")).duration_s == pytest.approx(0.5, abs=0.05)
    assert starts.n == decoder_process.START_TRIES >= 3
    assert [s for s in pauses if s >= 1] == [1, 2, 4, 8][: starts.n - 1], (
        "each pause is twice as long as the one before"
    )


def test_a_scan_ends_with_the_fix_if_no_decoder_starts(
    films: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Starts(monkeypatch, 1000)
    monkeypatch.setattr(
        "jobs.scan._ray_is_running", lambda: False
    )  # of other tests: its workers would start others
    assert cli.main(["scan", str(films), "--num-workers", "1"]) == 1
    first, second = capsys.readouterr().err.strip().splitlines()
    assert first == (
        "v2a scan: the decoding process failed to start, several times in a row: ended by SIGKILL"
    )
    assert "memory" in second and "/dev/shm" in second and "run the command again" in second


def test_it_is_no_fault_of_the_file(films: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with Sandbox() as sandbox:
        video = scan.scan_file(stat_file(str(films / "a.mp4")), sandbox)
    starts, job = Starts(monkeypatch, 1000), make_job(tmp_path)
    with Sandbox() as sandbox:
        for work in (
            lambda: scan.scan_file(stat_file(str(films / "a.mp4")), sandbox),
            lambda: decode.decode_task(plan(job, video)[0], job, sandbox),
        ):
            starts.n = 0
            with pytest.raises(DecoderNotStarted):
                work()
            assert starts.n == decoder_process.START_TRIES


def test_the_error_survives_its_way_from_a_worker() -> None:
    error = DecoderNotStarted("ended by SIGKILL")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_closed_sandbox_starts_nothing(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts, sandbox = Starts(monkeypatch, 0), Sandbox()
    sandbox.close()
    with pytest.raises(RuntimeError, match="closed"):
        sandbox.probe(str(films / "a.mp4"))
    assert starts.n == 0


def test_a_child_that_reads_no_request_times_out() -> None:
    process = DecoderProcess(1024)
    process.child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.PIPE
    )
    process.control, theirs = socket.socketpair()
    with theirs, pytest.raises(DecodeFailed, match="DecoderTimeout"), process.listening("decode", 1.0):
        for _ in range(100_000):
            send(process.control, NEXT)
    assert process.pid is None
