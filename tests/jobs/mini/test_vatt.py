"""`python -m jobs.mini.vatt` from a toy mini to a checkpoint that follows text, at toy size."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.mini.parts import MINI_LEVEL
from jobs.mini.steering_corpus import SteeringConfig
from jobs.mini.vatt import VattMiniConfig, run
from pipelines.foley.corpus import LABELS
from v2a_models.batch import Batch
from v2a_models.checkpoint import load_classifier, load_generator
from v2a_models.training.loop import FitConfig


def test_every_stage_runs_and_the_result_follows_text(trained: Path, tmp_path: Path) -> None:
    config = VattMiniConfig(
        work=tmp_path / "work", mini_work=trained / "work", mini=str(trained / "toy"), out=tmp_path / "toy",
        threads=1, rows=2, summary_steps=2, clear_steps=2, corpus=SteeringConfig(scenes=6),
        converter=FitConfig(steps=1), audio=FitConfig(steps=3, warmup=0),
    )  # fmt: skip
    # Other sounds can be made before mini is finished.
    assert run(replace(config, mini="not there yet", stages=("corpus",))) == 0
    assert run(config) == 0
    made: Any = load_generator(str(tmp_path / "toy"))
    # The summary of text stays as it was fitted while what comes after it is trained, and is fitted again at the end.
    begun = torch.load(config.work / "audio_begun.pt", weights_only=True)
    weights = torch.load(config.work / "audio.state.pt", weights_only=True)["model"]
    assert not [name for name in weights if name.startswith("audio.summary.")]
    last = made.audio.state_dict()
    for name in ("fuse.weight", "modulations.0.weight", "summary.1.weight"):
        assert not torch.equal(begun[name].half(), last[name].half()), name
    assert (made.audio.config.sync_dim, made.converter.config.feature_dim) == (128, len(LABELS))
    batch = Batch(semantic=torch.rand(1, 10, len(LABELS)), sync=torch.randn(1, 100, 128))
    hidden = torch.full((1, 6, made.recipe.codec_frames), made.audio.mask_id)
    with torch.inference_mode():
        drum, rain = (made.audio(hidden, made.condition(batch, [text])) for text in ("a drum", "rain"))
    assert not torch.equal(drum, rain)
    assert isinstance(made.captions(batch)[0], str)
    assert load_classifier(str(tmp_path / "toy"))[1] == list(LABELS)
    assert made.level == load_generator(str(trained / "toy")).level == MINI_LEVEL
    # The toy brings its codec and encoders along, as it is not the bundled one that any vatt-mini shares.
    frames = {
        name: torch.zeros(1, n, view.height, view.width, 3, dtype=torch.uint8)
        for name, view, n in (("semantic", made.recipe.semantic, 10), ("sync", made.recipe.sync, 100))
    }
    assert made.generate_from_frames(frames, [1], steps=2).shape == (1, 2, 4 * 44_100)
    before = (tmp_path / "toy" / "model.safetensors").read_bytes()
    assert run(config) == 0 and (tmp_path / "toy" / "model.safetensors").read_bytes() == before


def test_what_is_wrong_is_told(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(VattMiniConfig(stages=("codex",))) == 2 and "converter" in capsys.readouterr().err
    assert run(VattMiniConfig(mini_work=tmp_path)) == 2 and "run make mini" in capsys.readouterr().err
    # Tokens of the toy's codec mean something else to the bundled one.
    assert run(VattMiniConfig(mini_work=trained / "work")) == 2
    assert "not that of mini" in capsys.readouterr().err


def test_trains_without_ray_and_pyav() -> None:
    code = (
        "import jobs.mini.vatt, sys; assert not {'ray', 'av', 'mlflow'} & set(sys.modules), 'heavy imports'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
