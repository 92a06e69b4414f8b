"""`python -m jobs.mini.vatt` from nothing to a checkpoint that follows text, at toy size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.mini.vatt import VattMiniConfig, run
from pipelines.synthfoley.steering_corpus import SteerConfig
from v2a_models.batch import Batch
from v2a_models.checkpoint import load_classifier, load_generator
from v2a_models.training.loop import FitConfig


def test_every_stage_runs_and_the_result_follows_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = VattMiniConfig(
        work=tmp_path / "work", out=tmp_path / "toy", threads=1, rows=2,
        corpus=SteerConfig(blocks=1, seconds=4.2, others=1), converter=FitConfig(steps=1),
        audio=FitConfig(steps=3, warmup=0),
    )  # fmt: skip
    assert run(config) == 0
    made: Any = load_generator(str(tmp_path / "toy"))
    size = sum(file.stat().st_size for file in (tmp_path / "toy").iterdir())
    assert size < 25e6
    batch = Batch(semantic=torch.randn(1, 32, 128), sync=torch.randn(1, 100, 128))
    hidden = torch.full((1, 4, made.recipe.codec_frames), made.audio.mask_id)
    with torch.inference_mode():
        drum, rain = (made.audio(hidden, made.condition(batch, [text])) for text in ("a drum", "rain"))
    assert not torch.equal(drum, rain)
    assert isinstance(made.captions(batch)[0], str) and len(load_classifier(str(tmp_path / "toy"))[1]) == 14
    before = (tmp_path / "toy" / "model.safetensors").read_bytes()
    assert run(config) == 0 and (tmp_path / "toy" / "model.safetensors").read_bytes() == before
    assert run(VattMiniConfig(stages=("codex",))) == 2 and "converter" in capsys.readouterr().err


def test_trains_without_ray_and_pyav() -> None:
    code = (
        "import jobs.mini.vatt, sys; assert not {'ray', 'av', 'mlflow'} & set(sys.modules), 'heavy imports'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
