"""`v2a tune`: trials are tried, stopped, lost and taken up again, and the best one is left as a model."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch

from jobs import cli, tune
from jobs.train import TrainConfig
from jobs.tune import TuneConfig, driver
from jobs.tune.config import Space
from jobs.tune.search import Records
from tests.support.train_store import SHAPES, TINY, captioned, make_store, row
from v2a_models.batch import Batch
from v2a_models.checkpoint import load_generator

SPACE: dict[str, Any] = dict(
    learning_rate=(2e-3, 5e-2), warmup=(1, 4), weight_decay=(0.01, 0.01), ema=(0.5, 0.8), batch_size=(4, 8)
)
SETTINGS: dict[str, Any] = dict(
    steps=12, grace=2, workers=1, seed=1, set=TINY, precision="float32", tracking_uri="off"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_store(tmp_path_factory.mktemp("tune") / "store", {"train": [12, 12, 9], "val": [6]}).root


def config(store: str, out: Path, space: dict[str, Any] | None = None, **more: Any) -> TuneConfig:
    space = {**SPACE, **(space or {})}
    return TuneConfig("maskvat-hybrid", store, str(out), space=Space(**space), **{**SETTINGS, **more})


def run(config: TuneConfig) -> int:
    """Run the command line that is printed for resuming."""
    return cli.main(shlex.split(tune.command(config))[1:])


@pytest.fixture(scope="module")
def tuned(store: str, ray_session: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned") / "a search"
    assert run(config(store, out, trials=4, tracking_uri=None)) == 0
    return out


def rows(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(out / "trials.parquet").to_pylist()


def best(out: Path) -> dict[str, Any]:
    return json.loads((out / "best.json").read_text())


def test_the_printed_command_means_the_same_search() -> None:
    given = config("store", Path("out"), dict(choose=("heads=2,4",), dim=(32, 64)), trials=7)
    words = shlex.split(tune.command(given))
    assert cli.parse(TuneConfig, words[2:], "v2a tune") == given


def test_every_trial_is_a_row_and_the_best_is_a_model(tuned: Path) -> None:
    found = rows(tuned)
    assert [r["trial"] for r in found] == [1, 2, 3, 4]
    assert {r["status"] for r in found} == {"done", "stopped"}, "ASHA stops some, and some reach the end"
    for r in found:
        assert r["steps"] == 12 if r["status"] == "done" else 2 <= r["steps"] < 12 and r["steps"] % 2 == 0
        assert 2e-3 <= r["learning_rate"] <= 5e-2 and 1 <= r["warmup"] <= 4 and r["weight_decay"] == 0.01
        assert r["ema"] in (0.5, 0.8) and r["batch_size"] in (4, 8) and r["seconds"] > 0 and r["error"] == ""
    assert len({r["learning_rate"] for r in found}) == 4
    assert pyarrow.csv.read_csv(tuned / "trials.csv").num_rows == 4
    assert (tuned / "trials.png").read_bytes().startswith(b"\x89PNG")
    chosen = min(found, key=lambda r: r["val_loss"])
    assert best(tuned)["trial"] == chosen["trial"] and best(tuned)["val_loss"] == chosen["val_loss"]
    assert chosen["val_loss"] < 5.5  # from ln(512) = 6.2
    facts = json.loads((tuned / "best" / "training.json").read_text())
    assert facts["val_loss"] == chosen["val_loss"] and facts["trial"] == chosen["trial"]
    # The command trains with the parameters of that row.
    train = cli.parse(TrainConfig, shlex.split(best(tuned)["command"])[2:], "v2a train")
    assert (train.learning_rate, train.batch_size) == (chosen["learning_rate"], chosen["batch_size"])
    assert train.set == TINY and train.steps == 12


def test_the_best_weights_have_the_loss_of_the_table(tuned: Path, store: str) -> None:
    """OUT/best holds the average at the best step, not the last weights or another trial's."""
    from jobs.train.data import to_tensors
    from pipelines.store.store import Store
    from pipelines.store.training_feed import open_feeds, read_rows

    generator: Any = load_generator(str(tuned / "best"))
    _, val = open_feeds(Store(store), generator.columns, 1)
    batch, _ = to_tensors(read_rows(val, val.spread(32)))
    with torch.no_grad():
        again = generator.task().eval()(batch, 1_000_003)["loss"]
    assert float(again) == pytest.approx(best(tuned)["val_loss"], rel=1e-3)
    features = [torch.from_numpy(row(100)[name]).float()[None] for name in ("semantic", "sync")]
    codes = generator.codes(Batch(semantic=features[0], sync=features[1]), [1], steps=2)
    assert codes.shape == (1, *SHAPES["codes"])


def test_mlflow_has_a_run_per_trial_below_one(tuned: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tuned}/_v2a/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'v2a/tune'")
    every = client.search_runs([experiment.experiment_id])
    (parent,) = [r for r in every if "mlflow.parentRunId" not in r.data.tags]
    trials = {
        r.info.run_name: r for r in every if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }
    assert parent.info.status == "FINISHED" and len(every) == 1 + len(trials)
    for r in rows(tuned):
        child = trials[f"trial {r['trial']}"]
        assert child.data.tags["v2a.status"] == r["status"]
        assert float(child.data.params["learning_rate"]) == r["learning_rate"]
        assert child.data.metrics["val/best_loss"] == pytest.approx(r["val_loss"])
        curve = client.get_metric_history(child.info.run_id, "val/loss")
        assert [p.step for p in curve] == list(range(2, r["steps"] + 1, 2))
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"trials.csv", "trials.parquet", "trials.png", "best.json"} <= names
    newest = max(client.search_model_versions("name = 'v2a-maskvat-hybrid'"), key=lambda v: int(v.version))
    assert newest.tags["v2a.trial"] == str(best(tuned)["trial"])
    assert newest.run_id == trials[f"trial {best(tuned)['trial']}"].info.run_id
    kept = client.download_artifacts(newest.run_id, "model/model.safetensors")
    assert Path(kept).read_bytes() == (tuned / "best" / "model.safetensors").read_bytes()


def test_nothing_to_do_then_more_trials(
    tuned: Path, store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, stamps = rows(tuned), {p: p.stat().st_mtime_ns for p in tuned.rglob("*.json")}
    with monkeypatch.context() as patch:
        patch.setattr("jobs.common.ray_session.session", None)  # nothing may be started for it
        assert run(config(store, tuned, trials=4, tracking_uri=None)) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert stamps == {p: p.stat().st_mtime_ns for p in tuned.rglob("*.json")}
    # One more, and this time one that some killed run had begun: it is given out again, not another.
    begun = {**before[0], "learning_rate": 0.004}
    parameters = {
        name: begun[name] for name in ("learning_rate", "warmup", "weight_decay", "ema", "batch_size")
    }
    (tuned / "_v2a" / "tune" / "0004.json").write_text(json.dumps(dict(number=4, parameters=parameters)))
    assert run(config(store, tuned, trials=6, workers=2, tracking_uri=None)) == 0
    after = rows(tuned)
    assert after[:4] == before and len(after) == 6
    assert after[4]["learning_rate"] == 0.004
    assert after[5]["learning_rate"] not in {r["learning_rate"] for r in after[:5]}
    assert best(tuned)["trials"] == 6 and best(tuned)["val_loss"] == min(r["val_loss"] for r in after)
    kept = [p.parent.parent.name for p in (tuned / "_v2a" / "tune").rglob("state.pt")]
    assert kept == [f"{best(tuned)['trial'] - 1:04d}"], "only the best one's weights are kept"


@pytest.mark.slow
def test_trials_that_fail_are_rows(
    store: str, ray_session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    space = dict(dim=(32, 33), learning_rate=(0.01, 0.01), warmup=(2, 2), ema=(0.5,), batch_size=(8,))
    assert run(config(store, out, space, trials=4, steps=4)) == 0
    found = rows(out)
    failed = [r for r in found if r["dim"] == 33]
    assert failed and len(failed) < 4
    for r in found:
        if r["dim"] == 33:
            assert r["status"] == "failed" and "multiple of twice the heads" in r["error"]
            assert r["val_loss"] is None and r["steps"] == 0
        else:
            assert r["status"] in ("done", "stopped") and r["error"] == ""
    assert best(out)["parameters"]["dim"] == 32
    assert load_generator(str(out / "best")).maskvat.config.dim == 32  # type: ignore[attr-defined]
    assert "failed: dim must be" in capsys.readouterr().out


def test_a_small_language_model_is_searched_for_with_the_tokenizer_of_its_store_once_others_leave_it_cores(
    ray_session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    @ray.remote(num_cpus=1)
    class Other:
        def here(self) -> None: ...

    other, waiting, times = Other.remote(), driver.TrialLog.waiting, []
    ray.get(other.here.remote())

    def waits(shown: driver.TrialLog) -> None:
        waiting(shown)
        times.append(shown)
        if len(times) == 3:
            ray.kill(other)

    monkeypatch.setattr(driver.TrialLog, "waiting", waits)
    monkeypatch.setattr(driver, "REPORT_WAITING_S", 0.0)
    texts = captioned(tmp_path / "store", 24)
    small = ("hidden_size=32", "intermediate_size=64", "num_hidden_layers=1", "num_attention_heads=2")
    given = TuneConfig(
        "vatt-converter", texts.root, str(tmp_path / "out"), trials=1, space=Space(**SPACE),
        **{**SETTINGS, "set": small, "steps": 4},
    )  # fmt: skip
    assert run(given) == 0
    assert load_generator(str(tmp_path / "out" / "best")).system == "vatt-converter"
    said = " ".join(capsys.readouterr().out.split())
    assert "waiting: a trial needs 2 CPU on one node, and 1 of 2 CPU are free across the cluster" in said


def check_refused(config: TuneConfig, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not Path(config.out).exists()


def test_what_cannot_work_is_told_before_anything_starts(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    empty = make_store(tmp_path / "empty", {"val": [3]})
    check_refused(config(empty.root, out), "`train` is empty", capsys)
    check_refused(config(str(tmp_path / "none"), out), "holds no feature store", capsys)
    check_refused(config(store, out, trials=0), "--trials must be at least 1", capsys)
    check_refused(config(store, out, grace=50), "--grace (50) must be at most --steps (12)", capsys)
    check_refused(
        config(store, out, dict(learning_rate=(0.1, 0.01))), "--learning-rate takes a lower", capsys
    )
    check_refused(config(store, out, dict(choose=("dept=3,4",))), "fields of the model: audio_dim, ", capsys)
    single = dict(learning_rate=(0.1, 0.1), warmup=(2, 2), ema=(0.5,), batch_size=(8,))
    check_refused(config(store, out, single), "nothing to search", capsys)
    wrong = config(store, out)
    wrong.name = "maskvat-adalm"
    check_refused(wrong, "maskvat-adaln", capsys)


def test_another_search_in_the_same_folder(
    tuned: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config(store, tuned, dict(ema=(0.7,)), seed=3)) == 2
    said = capsys.readouterr().err
    assert "seed: 1 there, 3 now" in said and "ema: [0.5, 0.8] there, [0.7] now" in said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_search_goes_on(store: str, ray_session: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    whole = config(store, out, trials=3, steps=40, grace=4, reduction=40)
    command = [sys.executable, "-m", "jobs.cli", *shlex.split(tune.command(whole))[1:]]
    place = out / "_v2a" / "tune"
    with (tmp_path / "log").open("wb") as log:
        job = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
        while not (place / "0001" / "last" / "state.pt").exists():
            assert job.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        job.kill()
        job.wait()
    first, second = (json.loads((place / f"{n:04d}.json").read_text()) for n in (0, 1))
    assert first["status"] != "running" and second["status"] == "running"
    saved = torch.load(place / "0001" / "last" / "state.pt", weights_only=True)
    reached = json.loads(saved["history"])
    assert run(whole) == 0
    found = rows(out)
    assert len(found) == 3 and found[0]["seconds"] == pytest.approx(first["seconds"], abs=1e-3)
    again = json.loads((place / "0001.json").read_text())
    assert again["parameters"] == second["parameters"]
    curve = [[r["step"], r["val/loss"]] for r in reached if "val/loss" in r]
    assert again["curve"][: len(curve)] == curve, "the trial went on from its weights, it did not begin again"
    assert found[1]["seconds"] > saved["seconds"]


@pytest.mark.parametrize(
    "record",
    [
        "[1]",
        '{"number": 0}',
        '{"number": 1, "parameters": {}}',
        '{"number": 0, "parameters": {}, "curve": [["a", 1.0]]}',
        '{"number": 0, "parameters": {}, "status": "lost"}',
    ],
)
def test_a_damaged_record_of_a_trial_is_told(record: str, tmp_path: Path) -> None:
    (tmp_path / "0000.json").write_text(record)
    with pytest.raises(ValueError, match=r"0000\.json is damaged"):
        Records(str(tmp_path))
