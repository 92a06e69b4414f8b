"""VATT's two trainings on a feature store, as the workers of `v2a train` run them, without Ray."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from training import captioned, make_store

from jobs.train import TrainConfig
from jobs.train_data import to_tensors
from jobs.train_plan import prepare
from jobs.verb import WrongUsage
from pipelines.feed import read_rows
from pipelines.store import Store
from v2a_models import fitting
from v2a_models.checkpoint import load_generator, save_generator
from v2a_models.learner import Learner

TINY = ("hidden_size=32", "intermediate_size=64", "num_hidden_layers=1", "num_attention_heads=2")


def trained(plan: Any, config: TrainConfig, steps: int) -> list[float]:
    """Some steps of a plan; the losses. State goes through a checkpoint half way."""
    losses = []
    learner = Learner(plan.generator, config, torch.device("cpu"))
    batch, clips = to_tensors(read_rows(plan.train, plan.train.spread(6)))
    assert len(clips) == 6
    for step in range(steps):
        if step == steps // 2:
            state = learner.state()
            plan.generator.zero_grad(set_to_none=True)
            learner = Learner(plan.generator, config, torch.device("cpu"))
            learner.restore(state)
        found, _ = learner.gradients([batch])
        losses.append(float(found["loss"]))
        learner.apply(6)
    with learner.averaged():
        assert "loss" in learner.validate([(batch, 6.0)])[0]
    fitting.fill(plan.generator.task(), fitting.finished_weights(learner.state()))
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
