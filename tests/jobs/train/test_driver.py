"""`v2a train`: two workers learn, and what cannot work is told before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from jobs import train
from jobs.train import TrainConfig
from pipelines.store.store import Store
from tests.support.train_store import facts, make_store, row, snapshot, train_config
from v2a_models.batch import Batch
from v2a_models.checkpoint import load_generator


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
    trained: Path, train_store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.common.ray_session.session", None)  # nothing may be started for it
    before = (trained / "model.safetensors").stat().st_mtime_ns
    assert train.run(train_config(train_store, trained)) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_another_training_in_the_same_folder(
    trained: Path, train_store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.run(train_config(train_store, trained, batch_size=16, seed=3)) == 2
    said = capsys.readouterr().err
    assert "batch_size: 8 there, 16 now" in said and "seed: 0 there, 3 now" in said


def check_refused(config: TrainConfig, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    there = sorted(Path(config.out).rglob("*"))
    assert train.run(config) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert sorted(Path(config.out).rglob("*")) == there


def test_what_cannot_work_is_told_before_anything_starts(
    train_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    check_refused(train_config(str(tmp_path), out), "STORE", capsys)
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    check_refused(train_config(str(nothing), out), "holds no feature store", capsys)
    empty = make_store(tmp_path / "empty", {"val": [3]})
    check_refused(train_config(empty.root, out), "`train` is empty", capsys)
    check_refused(train_config(train_store, out, set=("depht=3",)), "depht", capsys)
    check_refused(train_config(train_store, out, size="huge"), "mini, base, large", capsys)
    check_refused(train_config(train_store, out, start=str(nothing), set=()), "no model", capsys)
    check_refused(train_config(train_store, out, ema=1.0), "--ema", capsys)
    wrong = TrainConfig("maskvat-adalm", train_store, str(out))
    check_refused(wrong, "maskvat-adaln", capsys)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text("{}")
    check_refused(train_config(train_store, foreign), "holds files that v2a did not write", capsys)


def test_a_store_of_another_recipe_than_the_checkpoint(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_store(tmp_path / "other", {"train": [3]})
    identity = Store(other.root).read_identity()
    assert identity is not None
    other.write_identity({"recipe": identity["recipe"] | {"window_s": 5.0}})
    check_refused(
        train_config(other.root, tmp_path / "out", start=str(trained), set=()),
        "trained on another recipe than this store",
        capsys,
    )


def test_a_batch_that_cannot_be_shared_out(
    train_store: str, ray_session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_refused(train_config(train_store, tmp_path / "out", batch_size=7), "such as 8", capsys)
