"""`v2a train`: two workers learn, a killed run goes on, and what cannot work is told before anything starts."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from training import TINY, make_store, row

from jobs import train
from jobs.train import TrainConfig
from pipelines.store import Store
from v2a_models.batch import Batch
from v2a_models.checkpoint import load_generator

SETTINGS: dict[str, Any] = dict(
    steps=24, workers=2, batch_size=8, learning_rate=0.01, warmup=3, ema=0.8, precision="float32", save_every=8,
    validate_every=12, set=TINY,
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three files of unequal length: shards of two workers cannot be equal."""
    return make_store(tmp_path_factory.mktemp("train") / "store", {"train": [12, 12, 9], "val": [6]}).root


def config(store: str, out: Path, **more: Any) -> TrainConfig:
    return TrainConfig("maskvat-hybrid", store, str(out), **{**SETTINGS, "tracking_uri": "off", **more})


@pytest.fixture(scope="module")
def trained(store: str, ray_session: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "a model"
    assert train.run(config(store, out, tracking_uri=None)) == 0
    return out


def snapshot(out: Path) -> Path:
    return out / "_v2a" / "train" / "run0" / "checkpoint_manager_snapshot.json"


def facts(out: Path) -> dict[str, Any]:
    return json.loads((out / "training.json").read_text())


def test_two_workers_learn_and_the_result_generates(trained: Path) -> None:
    done = facts(trained)
    assert done["steps"] == 24 and done["workers"] == 2 and done["rows"] == {"train": 33, "val": 6}
    assert done["val_loss"] < 1.0  # from ln(512) = 6.2: the codes follow from the features
    generator: Any = load_generator(str(trained))
    assert generator.maskvat.config.dim == 32
    features = [torch.from_numpy(row(k)[name]).float() for name in ("semantic", "sync") for k in (100, 101)]
    batch = Batch(semantic=torch.stack(features[:2]), sync=torch.stack(features[2:]))
    codes = generator.codes(batch, [1, 2], steps=4)
    tunes = torch.tensor([int(row(k)["codes"][0, 0]) for k in (100, 101)])
    assert torch.isin(codes, tunes).float().mean() > 0.9  # of 512 codes it has met these two
    assert (trained / "curves.png").stat().st_size > 1000
    assert "maskvat-hybrid" in (trained / "card.md").read_text()
    checkpoints = list(snapshot(trained).parent.glob("checkpoint_2*"))
    assert len(checkpoints) == 2, "only the last two are kept"


def test_mlflow_has_the_curves_the_sounds_and_the_model(trained: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{trained}/_v2a/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'v2a/train'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["batch_size"] == "8"
    assert float(run.data.tags["v2a.peak_flops"]) > 1e8 and "multiplied" in run.data.tags["v2a.peak_source"]
    curve = client.get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in curve] == list(range(1, 25))
    assert curve[-1].value < 0.5 * curve[0].value
    assert [point.step for point in client.get_metric_history(run.info.run_id, "val/loss")] == [12, 24]
    for name in ("learning_rate", "samples_per_s", "audio_s_per_s", "mfu", "train/grad_norm"):
        assert run.data.metrics[name] > 0, name
    names = {
        file.path.rpartition("/")[2]
        for file in client.list_artifacts(run.info.run_id, "samples/step-0000024")
    }
    assert names == {
        "0-generated.wav", "0-true.wav", "1-generated.wav", "1-true.wav", "spectrograms.png",
    }  # fmt: skip
    (version,) = client.search_model_versions("name = 'v2a-maskvat-hybrid'")
    assert version.tags["v2a.recipe"] == facts(trained)["recipe"]["digest"]
    kept = client.download_artifacts(run.info.run_id, "model/model.safetensors")
    assert Path(kept).read_bytes() == (trained / "model.safetensors").read_bytes()


def test_a_finished_training_is_told_at_once(
    trained: Path, store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.ray_session.session", None)  # nothing may be started for it
    before = (trained / "model.safetensors").stat().st_mtime_ns
    assert train.run(config(store, trained)) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_another_training_in_the_same_folder(
    trained: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.run(config(store, trained, batch_size=16, seed=3)) == 2
    said = capsys.readouterr().err
    assert "batch_size: 8 there, 16 now" in said and "seed: 0 there, 3 now" in said


def check_refused(config: TrainConfig, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    there = sorted(Path(config.out).rglob("*"))
    assert train.run(config) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert sorted(Path(config.out).rglob("*")) == there


def test_what_cannot_work_is_told_before_anything_starts(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    check_refused(config(str(tmp_path), out), "STORE", capsys)
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    check_refused(config(str(nothing), out), "holds no feature store", capsys)
    empty = make_store(tmp_path / "empty", {"val": [3]})
    check_refused(config(empty.root, out), "`train` is empty", capsys)
    check_refused(config(store, out, set=("depht=3",)), "depht", capsys)
    check_refused(config(store, out, size="huge"), "mini, base, large", capsys)
    check_refused(config(store, out, start=str(nothing), set=()), "no model", capsys)
    check_refused(config(store, out, ema=1.0), "--ema", capsys)
    wrong = TrainConfig("maskvat-adalm", store, str(out))
    check_refused(wrong, "maskvat-adaln", capsys)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text("{}")
    check_refused(config(store, foreign), "holds files that v2a did not make", capsys)


def test_a_store_of_another_recipe_than_the_checkpoint(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_store(tmp_path / "other", {"train": [3]})
    identity = Store(other.root).read_identity()
    assert identity is not None
    other.write_identity({"recipe": identity["recipe"] | {"window_s": 5.0}})
    check_refused(
        config(other.root, tmp_path / "out", start=str(trained), set=()),
        "trained on another recipe than this store",
        capsys,
    )


def test_a_batch_that_cannot_be_shared_out(
    store: str, ray_session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_refused(config(store, tmp_path / "out", batch_size=7), "such as 8", capsys)


@pytest.mark.slow
def test_a_number_that_is_none_stops_the_run(
    store: str, ray_session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    from pipelines import store as storing

    broken = make_store(tmp_path / "broken", {"train": [12], "val": [2]})
    kind = storing.schema(broken.recipe(), {"semantic": (32, 128), "sync": (100, 128), "codes": (4, 345)})
    bad = row(50) | {"sync": np.full((100, 128), np.inf, np.float16)}
    broken.write_rows(storing.table([bad], kind), "train")
    out = tmp_path / "out"
    assert train.run(config(broken.root, out, workers=1, batch_size=4, save_every=1)) == 1
    said = capsys.readouterr().err
    assert "clip-0050" in said and "not a finite number" in said and "v2a train maskvat-hybrid" in said
    assert not (out / "config.json").exists()


def wait_for(path: Path, alive: Any) -> None:
    while not path.exists():
        assert alive(), "the training ended before it could be killed"
        time.sleep(0.1)


def same_end(out: Path, undisturbed: Path) -> None:
    ours, theirs = facts(out), facts(undisturbed)
    assert ours["steps"] == theirs["steps"]
    assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=0.05, abs=0.01)
    assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=0.05, abs=0.01)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_worker_is_replaced(
    store: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    codes: list[int] = []
    job = threading.Thread(target=lambda: codes.append(train.run(config(store, out))))
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
    assert "A worker was lost" in said and "Going on at step" in said
    same_end(out, trained)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_driver_goes_on_where_it_was(
    store: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = train.command(config(store, out))
    command = [sys.executable, "-m", "jobs.cli", *shlex.split(words)[1:]]
    with (tmp_path / "log").open("wb") as log:
        job = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            wait_for(snapshot(out), lambda: job.poll() is None)
        finally:
            job.kill()
            job.wait()
    assert not (out / "config.json").exists()
    assert train.run(config(store, out)) == 0
    said = capsys.readouterr().out
    assert "Going on at step 8" in said or "Going on at step 16" in said
    same_end(out, trained)
