"""Runs are recorded in MLflow, and a job never depends on it."""

from __future__ import annotations

import os
import socket
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.common.tracking import OFF, Tracker, default_uri, resolve_uri
from tests.support import servers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real MLflow server with a sqlite database."""
    with servers.mlflow(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


def record(uri: str | None, out: Path, said: list[str]) -> Tracker:
    """One small run."""
    (out / "_v2a").mkdir(parents=True, exist_ok=True)
    (out / "_v2a" / "report.html").write_text("<p>all done</p>")
    tracker = Tracker(uri, "v2a/dub", out=str(out), notify=said.append)
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
    address = f"http://127.0.0.1:{servers.free_port()}"
    tracker = record(address, tmp_path / "out", said)
    assert len(said) == 1
    assert address in said[0]
    assert "continues" in said[0]
    assert tracker.run_id is None


def test_a_server_that_never_answers_does_not_hold_the_job(tmp_path: Path) -> None:
    said: list[str] = []
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://user:secret@127.0.0.1:{silent.getsockname()[1]}"
        tracker = Tracker(address, "v2a/dub", out=str(tmp_path), notify=said.append)
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


def test_a_job_and_its_run_name_each_other(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    handed = '{"runtime_env": {}, "metadata": {"job_submission_id": "raysubmit_1", "owner": "me"}}'
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", handed)
    said: list[str] = []
    tracker = record(server, tmp_path / "out", said)
    assert tracker.run_id is not None
    run = MlflowClient(tracking_uri=server).get_run(tracker.run_id)
    assert run.data.tags["ray.job_id"] == "raysubmit_1"
    page = f"{server}/#/experiments/{run.info.experiment_id}/runs/{tracker.run_id}"
    assert said == [f"MLflow run {tracker.run_id} of Ray job raysubmit_1: {page}"]
    # A job that goes on with the run of an earlier one takes its place.
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", handed.replace("raysubmit_1", "raysubmit_2"))
    again = Tracker(server, "v2a/dub", out=str(tmp_path), notify=said.append)
    again.start("dub 2", {}, {}, run_id=tracker.run_id)
    again.finish()
    assert MlflowClient(tracking_uri=server).get_run(tracker.run_id).data.tags["ray.job_id"] == "raysubmit_2"
    assert tracker.run_id in said[1]


def test_no_password_is_kept_in_a_run_or_said(
    server: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from mlflow.tracking import MlflowClient

    guarded = server.replace("http://", "http://user:hunter2@")
    said: list[str] = []
    tracker = Tracker(guarded, "v2a/dub", out=str(tmp_path), notify=said.append)
    tracker.start("dub", {"tracking_uri": guarded, "archive": "s3://films/a@b"}, {})
    tracker.finish()
    assert tracker.run_id is not None and not said
    params = MlflowClient(tracking_uri=server).get_run(tracker.run_id).data.params
    assert params == {"tracking_uri": server.replace("http://", "http://***@"), "archive": "s3://films/a@b"}
    # A server that is away: MLflow's own message holds the address.
    away = f"http://user:hunter2@127.0.0.1:{servers.free_port()}"
    tracker = Tracker(away, "v2a/dub", out=str(tmp_path), notify=said.append)
    tracker.start("dub", {}, {})
    tracker.finish()
    assert len(said) == 1 and "hunter2" not in said[0]
    assert "hunter2" not in "".join(capfd.readouterr())  # MLflow's client prints, too


PRINTABLE = "".join(character for character in string.printable if character != "/")
"""Every printable character that a name can hold, control characters of a terminal among them."""


def test_the_database_lies_in_the_output_whatever_its_name(tmp_path: Path) -> None:
    from sqlalchemy import create_engine, text

    names = [f"o{character}{k}{character}" for k, character in enumerate(PRINTABLE)]
    names += ["o?x=1", "o#%41", "%2541%", "?uri=true", "file:a", "..%2F..", "a%2Fb"]
    for name in names:
        out = tmp_path / name
        (out / "_v2a").mkdir(parents=True)
        uri = default_uri(str(out))
        assert uri is not None
        engine = create_engine(uri)
        with engine.connect() as connection:
            connection.execute(text("create table a (b int)"))
        engine.dispose()
        assert os.listdir(out / "_v2a") == ["mlflow.db"], name
    assert sorted(os.listdir(tmp_path)) == sorted(names)


def test_a_run_beside_an_output_with_every_printable_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Database and artifacts are in OUT, and nothing is anywhere else."""
    (tmp_path / "working folder").mkdir()
    monkeypatch.chdir(tmp_path / "working folder")
    said: list[str] = []
    out = tmp_path / "archives" / f"%41 {PRINTABLE} \u00e9"
    tracker = record(resolve_uri(str(out), None), out, said)
    assert said == [] and tracker.run_id is not None
    assert sorted(os.listdir(out / "_v2a")) == ["mlartifacts", "mlflow.db", "report.html"]
    assert list((out / "_v2a" / "mlartifacts").rglob("report.html"))
    assert os.listdir(out.parent) == [out.name] and os.listdir(out) == ["_v2a"]
    assert sorted(os.listdir(tmp_path)) == ["archives", "working folder"]
    assert os.listdir(tmp_path / "working folder") == []


def test_no_database_for_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    assert default_uri(os.fsdecode(os.fsencode(tmp_path) + b"/o\xff")) is None
