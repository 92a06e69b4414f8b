"""Runs are recorded in MLflow, and a job never depends on it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.tracking import OFF, Tracker, resolve_uri


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real MLflow server with a sqlite database."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            if process.poll() is not None:
                pytest.fail((folder / "log.txt").read_text())
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2).close()
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail("the server did not start:\n" + (folder / "log.txt").read_text())
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def record(uri: str | None, out: Path, said: list[str]) -> Tracker:
    """One small run."""
    (out / "_v2a").mkdir(parents=True, exist_ok=True)
    (out / "_v2a" / "report.html").write_text("<p>all done</p>")
    tracker = Tracker(uri, "v2a/dub", out=str(out), say=said.append)
    tracker.start("dub 1", {"seed": 7, "address": None, "archive": "films"}, {"v2a.version": "0"})
    tracker.metrics({"files_dubbed": 3, "x_realtime": 2.5})
    tracker.artifacts([str(out / "_v2a" / "report.html"), str(out / "no such file")])
    tracker.finish()
    return tracker


def check(uri: str, tracker: Tracker, scratch: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    assert tracker.run_id is not None
    run = client.get_run(tracker.run_id)
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.name == "v2a/dub"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "7", "address": "", "archive": "films"}
    assert run.data.metrics == {"files_dubbed": 3.0, "x_realtime": 2.5}
    assert run.data.tags["v2a.version"] == "0"
    scratch.mkdir(exist_ok=True)
    kept = client.download_artifacts(tracker.run_id, "report.html", str(scratch))
    assert Path(kept).read_text() == "<p>all done</p>"


def test_a_run_on_a_server(server: str, tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):  # the second finds the experiment there
        tracker = record(server, tmp_path / "out", said)
        check(server, tracker, tmp_path / "scratch")
    assert said == []


def test_a_run_beside_the_output(tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "an out"
    uri = resolve_uri(str(out), None)
    assert uri is not None
    tracker = record(uri, out, said)
    assert said == []
    check(uri, tracker, tmp_path / "scratch")
    assert (out / "_v2a" / "mlflow.db").exists()
    assert list((out / "_v2a" / "mlartifacts").rglob("report.html"))


def test_a_server_that_is_away_is_mentioned_once(tmp_path: Path) -> None:
    said: list[str] = []
    address = f"http://127.0.0.1:{free_port()}"
    tracker = record(address, tmp_path / "out", said)
    assert len(said) == 1
    assert address in said[0]
    assert "goes on" in said[0]
    assert tracker.run_id is None


def test_a_server_that_never_answers_does_not_hold_the_job(tmp_path: Path) -> None:
    said: list[str] = []
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://user:secret@127.0.0.1:{silent.getsockname()[1]}"
        tracker = Tracker(address, "v2a/dub", out=str(tmp_path), say=said.append)
        tracker.start("dub", {}, {})
        tracker.finish(wait_s=0.1)
    assert len(said) == 1
    assert "secret" not in said[0]


def test_where_runs_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_uri(str(tmp_path), None) == f"sqlite:///{tmp_path}/_v2a/mlflow.db"
    assert resolve_uri("s3://bucket/out", None) is None
    assert resolve_uri(str(tmp_path), "http://server") == "http://server"
    assert resolve_uri(str(tmp_path), OFF) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert resolve_uri(str(tmp_path), None) == "http://elsewhere"
    assert resolve_uri(str(tmp_path), "http://server") == "http://server"


def test_switched_off(tmp_path: Path) -> None:
    said: list[str] = []
    tracker = record(None, tmp_path / "out", said)
    assert said == []
    assert tracker.run_id is None
