"""VATT's two trainings on a feature store, as the workers of `v2a train` run them, without Ray."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs import train
from jobs.common.verb import WrongUsage
from jobs.train import TrainConfig, preview
from jobs.train.data import to_tensors
from jobs.train.preflight import prepare
from pipelines.store.store import Store
from pipelines.store.training_feed import read_rows
from tests.support.train_store import SETTINGS, captioned, facts, make_store
from v2a_models.checkpoint import load_generator, save_generator
from v2a_models.training import optim
from v2a_models.training.learner import Learner

TINY = ("hidden_size=32", "intermediate_size=64", "num_hidden_layers=1", "num_attention_heads=2")


def trained(plan: Any, config: TrainConfig, steps: int) -> list[float]:
    """Some steps of a plan; the losses. State goes through a checkpoint half way."""
    losses = []
    learner = Learner(plan.generator.eval().task(), config)
    batch, clips = to_tensors(read_rows(plan.train, plan.train.spread(6)))
    assert len(clips) == 6
    for step in range(steps):
        if step == steps // 2:
            state = learner.state()
            plan.generator.zero_grad(set_to_none=True)
            learner = Learner(plan.generator.eval().task(), config)
            learner.restore(state)
        found, _ = learner.gradients([batch])
        losses.append(float(found["loss"]))
        learner.apply(6)
    with learner.averaged():
        assert "loss" in learner.validate([(batch, 6.0)])
    optim.fill(plan.generator.task(), optim.finished_weights(learner.state()))
    return losses


def config(name: str, store: Store, out: Path, *options: str) -> TrainConfig:
    return TrainConfig(
        name,
        store.root,
        str(out),
        steps=24,
        learning_rate=1e-2,
        warmup=2,
        ema=0.0,
        precision="float32",
        set=options,
    )


def test_converter_then_sound(tmp_path: Path) -> None:
    store = captioned(tmp_path / "store")
    wanted = config("vatt-converter", store, tmp_path / "converter", *TINY)
    plan = prepare(wanted)
    assert plan is not None and plan.generator.columns == ("semantic", "text")
    losses = trained(plan, wanted, 160)
    assert losses[-1] < 0.2 * losses[0]
    save_generator(plan.generator, tmp_path / "converter")
    again: Any = load_generator(str(tmp_path / "converter"))
    columns, _ = to_tensors(read_rows(plan.train, plan.train.spread(4)))
    seen = again.preview({"semantic": columns["semantic"]})
    told = [text == caption for text, caption in zip(again.captions(seen), columns["text"], strict=True)]
    assert all(told)

    options = (f"converter={tmp_path / 'converter'}", "dim=32", "separate=1", "shared=1", "heads=2")
    wanted = config("vatt", store, tmp_path / "sound", *options)
    plan = prepare(wanted)
    assert plan is not None and "text" in plan.generator.columns
    losses = trained(plan, wanted, 20)
    assert losses[-1] < 0.7 * losses[0]
    # Frozen: sound learns to follow the language model, which stays as it was.
    for name, tensor in plan.generator.converter.state_dict().items():
        assert torch.equal(tensor, again.converter.state_dict()[name])
    assert "text" not in prepare(dataclasses.replace(wanted, set=(*options, "stage=1"))).generator.columns  # type: ignore[union-attr]


def test_a_store_without_captions_is_told_what_it_needs(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", {"train": [4], "val": [2]})
    with pytest.raises(WrongUsage, match=r"no captions in its column `text`.*--labels"):
        prepare(config("vatt-converter", store, tmp_path / "out"))


SOUND = ("dim=32", "separate=1", "shared=1", "heads=2")


@pytest.fixture(scope="module")
def words(ray_session: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    """A store with captions, and a converter that two workers trained on it, with its MLflow records."""
    root = tmp_path_factory.mktemp("words")
    store = captioned(root / "store")
    # As long as it takes to be sure of its words: half precision, in which it is kept, would tip a near tie.
    assert train.run(shared("vatt-converter", store, root / "converter", set=TINY, steps=72)) == 0
    return store, root / "converter"


def shared(system: str, store: Store, out: Path, **more: Any) -> TrainConfig:
    return TrainConfig(system, store.root, str(out), **{**SETTINGS, **more})


def recorded(out: Path) -> list[dict[str, Any]]:
    """Rows of the captions that MLflow has of a training."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{out}/_v2a/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'v2a/train'")
    (run,) = client.search_runs([experiment.experiment_id])
    table = json.loads(Path(client.download_artifacts(run.info.run_id, "captions.json")).read_text())
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def test_two_workers_teach_it_words_and_mlflow_has_samples(words: tuple[Store, Path]) -> None:
    store, out = words
    assert facts(out)["workers"] == 2 and facts(out)["train_loss"] < 1.0  # from ln(200) = 5.3
    rows = recorded(out)
    assert [row["step"] for row in rows] == [
        step for step in range(12, 73, 12) for _ in range(len(rows) // 6)
    ]
    check_said(store, out, rows[-len(rows) // 6 :])


def check_said(store: Store, out: Path, rows: list[dict[str, Any]]) -> None:
    """The last captions recorded are the finished model's for the validation windows, beside the true ones."""
    plan = prepare(shared("vatt-converter", store, out.parent / "other", set=TINY))
    assert plan is not None
    columns, clips = to_tensors(read_rows(plan.val, plan.val.spread(preview.N_CAPTIONS)))
    assert {row["clip"]: row["reference"] for row in rows} == dict(zip(clips, columns["text"], strict=True))
    again: Any = load_generator(str(out))
    told = again.captions(again.preview({"semantic": columns["semantic"]}))
    assert [row["generated"] for row in rows] == told


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_workers_teach_it_sound_and_go_on(
    words: tuple[Store, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], strategy: str
) -> None:
    (store, converter), out = words, tmp_path / "sound"
    config = shared("vatt", store, out, set=(*SOUND, f"converter={converter}"), strategy=strategy, steps=8)
    assert train.run(config) == 0 and facts(out)["steps"] == 8
    first = facts(out)["train_loss"]
    assert train.run(dataclasses.replace(config, steps=24)) == 0
    assert "Resuming at step 8 of 24 with 2 workers" in " ".join(capsys.readouterr().out.split())
    assert facts(out)["steps"] == 24 and facts(out)["strategy"] == strategy
    assert facts(out)["train_loss"] < 0.8 * first
    assert {row["step"] for row in recorded(out)} == {8, 24}
    made: Any = load_generator(str(out))
    theirs: Any = load_generator(str(converter))
    for name, tensor in made.converter.state_dict().items():
        assert torch.equal(tensor, theirs.converter.state_dict()[name]), "the language model was trained too"


@pytest.mark.slow
def test_sharded_workers_teach_it_words(words: tuple[Store, Path], tmp_path: Path) -> None:
    store, unsharded = words
    out = tmp_path / "words"
    assert train.run(shared("vatt-converter", store, out, set=TINY, strategy="fsdp")) == 0
    assert facts(out)["strategy"] == "fsdp"
    # Each run makes its own tokenizer, and equally good ones differ a little.
    assert facts(out)["val_loss"] == pytest.approx(facts(unsharded)["val_loss"], rel=0.25)
    check_said(store, out, [row for row in recorded(out) if row["step"] == 24])


def test_a_model_without_words_has_no_captions() -> None:
    assert not load_generator("mini").writes_captions
    assert preview.n_previewed(load_generator("mini")) == preview.N_SOUNDS
