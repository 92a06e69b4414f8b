"""`v2a train` in trouble: killed, interrupted, out of memory, without its tracking server, on S3, on a cluster that
shrinks."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.torch import load_file

from jobs import train
from jobs.train import TrainConfig
from pipelines.store import tables
from tests.support import servers
from tests.support.train_store import SHAPES, facts, make_store, row, snapshot, train_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_number_that_is_none_stops_the_run(
    ray_session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = make_store(tmp_path / "broken", {"train": [12], "val": [2]})
    kind = tables.schema(broken.recipe(), SHAPES)
    bad = row(50) | {"sync": np.full(SHAPES["sync"], np.inf, np.float16)}
    broken.write_rows(tables.table([bad], kind), "train")
    out = tmp_path / "out"
    assert train.run(train_config(broken.root, out, workers=1, batch_size=4, save_every=1)) == 1
    said = capsys.readouterr().err
    assert "clip-0050" in said and "not a finite number" in said and "v2a train maskvat-hybrid" in said
    assert not (out / "config.json").exists()


def wait_for(path: Path, alive: Any) -> None:
    while not path.exists():
        assert alive(), "the training ended before it could be disturbed"
        time.sleep(0.1)


@contextlib.contextmanager
def started(config: TrainConfig, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command line of this configuration in a process of its own, killed at the end of the block."""
    command = [sys.executable, "-m", "jobs.cli", *shlex.split(train.command(config))[1:]]
    with log.open("wb") as sink:
        job = subprocess.Popen(
            command,
            stdout=sink,
            stderr=sink,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            start_new_session=True,
            # A shell's background jobs ignore Ctrl-C and hand that down; the command must not inherit it here.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            yield job
        finally:
            job.kill()
            job.wait()


def same_end(out: Path, undisturbed: Path) -> None:
    ours, theirs = facts(out), facts(undisturbed)
    assert ours["steps"] == theirs["steps"]
    assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=0.05, abs=0.01)
    assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=0.05, abs=0.01)


def test_a_killed_worker_is_replaced(
    train_store: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    codes: list[int] = []
    job = threading.Thread(target=lambda: codes.append(train.run(train_config(train_store, out))))
    job.start()
    wait_for(snapshot(out), job.is_alive)
    workers = [
        p for p in psutil.process_iter(["cmdline"]) if "RayTrainWorker" in " ".join(p.info["cmdline"] or [])
    ]
    ours = [p for p in workers if psutil.Process() in p.parents()]
    assert len(ours) == 2
    ours[1].send_signal(signal.SIGKILL)
    job.join()
    assert codes == [0]
    said = capsys.readouterr().out
    assert "A worker was lost" in said and "Resuming at step" in said
    same_end(out, trained)


def test_a_killed_driver_goes_on_where_it_was(
    train_store: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with started(train_config(train_store, out), tmp_path / "log") as job:
        wait_for(snapshot(out), lambda: job.poll() is None)
    assert not (out / "config.json").exists()
    assert train.run(train_config(train_store, out)) == 0
    said = capsys.readouterr().out
    assert "Resuming at step 8" in said or "Resuming at step 16" in said
    same_end(out, trained)


def test_ctrl_c_saves_and_prints_the_command_that_resumes(train_store: str, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    long = train_config(train_store, out, steps=5000, save_every=5000, validate_every=5000, workers=1)
    with started(long, log) as job:
        while "windows/s" not in log.read_text():
            assert job.poll() is None, log.read_text()
            time.sleep(0.1)
        os.killpg(job.pid, signal.SIGINT)  # as a terminal does: to all processes of the command
        assert job.wait(180) == 130, log.read_text()
    said = log.read_text()
    assert "Saving a checkpoint before stopping" in said and "Traceback" not in said
    assert shlex.split(said.strip().splitlines()[-1]) == shlex.split(train.command(long))
    assert snapshot(out).exists(), "nothing was saved, though no checkpoint was due"
    assert not (out / "config.json").exists()


def test_a_worker_without_memory_names_the_knobs(train_store: str, tmp_path: Path) -> None:
    """Ray's memory monitor ends the worker, as it does where a machine's memory runs out."""
    out, log = tmp_path / "out", tmp_path / "log"
    hungry = train_config(train_store, out, workers=1, max_failures=0, steps=5000)
    # Ray itself needs less than this share of the machine; the limit is reached once torch is loaded.
    used = psutil.virtual_memory()
    limit = (used.total - used.available + (1 << 30)) / used.total
    monitor = dict(RAY_memory_usage_threshold=f"{limit:.4f}", RAY_memory_monitor_refresh_ms="100")
    with started(hungry, log, **monitor) as job:
        assert job.wait(300) == 1, log.read_text()
    said = log.read_text()
    assert "out of memory" in said and "--accumulate" in said and "v2a train" in said, said
    assert not (out / "config.json").exists()


def test_a_tracking_server_that_is_away_stops_nothing(
    train_store: str, ray_session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    away = f"http://127.0.0.1:{servers.free_port()}"
    short = train_config(
        train_store, out, steps=3, workers=1, save_every=3, validate_every=3, tracking_uri=away
    )
    assert train.run(short) == 0
    said = capsys.readouterr().out
    assert away in said and "MLflow" in said
    assert facts(out)["steps"] == 3


def test_sharded_weights_learn_the_same(train_store: str, trained: Path, tmp_path: Path) -> None:
    """FSDP is another way to hold the weights, not another training; its result is a whole model."""
    out = tmp_path / "out"
    assert train.run(train_config(train_store, out, strategy="fsdp")) == 0
    same_end(out, trained)
    assert facts(out)["strategy"] == "fsdp"
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (out, trained))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.shape == theirs[name].shape, name


def test_a_store_and_a_model_on_s3(
    s3_port: int, train_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything there: rows, checkpoints, the model; a longer run goes on from what the first one left."""
    client = servers.client(s3_port)
    client.create_bucket(Bucket="training")
    for file in Path(train_store).rglob("*"):
        if file.is_file():
            client.upload_file(str(file), "training", f"store/{file.relative_to(train_store)}")
    config = train_config("s3://training/store", "s3://training/models/one", steps=8, workers=1, save_every=4)
    environment = servers.environment(s3_port)
    for steps, words in ((8, "Trained 8 steps"), (8, "Nothing to do"), (16, "Resuming at step 8")):
        log = tmp_path / f"{words}.log"
        with started(dataclasses.replace(config, steps=steps), log, **environment) as job:
            assert job.wait(280) == 0, log.read_text()
        assert words in log.read_text()
    listed = client.list_objects_v2(Bucket="training", Prefix="models/one/")["Contents"]
    names = {item["Key"].removeprefix("models/one/") for item in listed}
    assert {"config.json", "model.safetensors", "card.md", "curves.png", "training.json"} <= names
    assert any(name.startswith("_v2a/train/run0/checkpoint_") for name in names)
    client.download_file("training", "models/one/training.json", str(tmp_path / "training.json"))
    assert facts(tmp_path)["steps"] == 16


def test_a_lost_machine_leaves_fewer_workers(train_store: str, tmp_path: Path) -> None:
    """A cluster of two machines with a core each; one dies, and the other goes on alone."""
    out, log = tmp_path / "out", tmp_path / "log"
    elastic = train_config(
        train_store, out, steps=60, workers=2, min_workers=1, save_every=5, validate_every=60, max_failures=-1
    )
    with servers.RayCluster(nodes=2) as cluster:
        elastic.address = cluster.address
        with started(elastic, log) as job:
            wait_for(snapshot(out), lambda: job.poll() is None)
            cluster.kill_node(1)
            assert job.wait(600) == 0, log.read_text()
    said = log.read_text()
    assert "2 workers" in said and "A worker was lost" in said and "with 1 worker" in said, said
    assert facts(out)["steps"] == 60
    assert facts(out)["val_loss"] < 1.0
