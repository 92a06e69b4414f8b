"""Start of children: by a thread that lives on, with an environment of their own."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from pipelines.sandbox import starter
from pipelines.sandbox.decoder import Sandbox
from tests.support.sandboxed import waiting_child


def test_a_child_outlives_the_thread_that_wanted_it(film: str) -> None:
    with Sandbox(threads=1) as sandbox:
        pids: list[int] = []
        thread = threading.Thread(target=lambda: pids.append(waiting_child(sandbox, film)))
        thread.start()
        thread.join()
        assert sandbox.probe(film).n_frames == 50
        assert [sandbox.pid] == pids


def test_the_environment_of_a_child_has_no_secrets(film: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with Sandbox(threads=1) as sandbox:
        environment = Path(f"/proc/{waiting_child(sandbox, film)}/environ").read_bytes()
    assert b"secret" not in environment
    assert b"PYTHONPATH=" in environment


def test_a_start_that_fails_is_an_error_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    with pytest.raises(FileNotFoundError):
        starter.start("pipelines.sandbox.decoder_child", stderr=subprocess.DEVNULL)
