"""`python -m benchmarks.vatt_text` on a toy."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import vatt_text
from benchmarks.vatt_masking import HeldOut
from jobs.mini.steering_corpus import SteeringConfig
from jobs.mini.vatt import VattMiniConfig, run
from v2a_models.training.loop import FitConfig


def test_captions_and_prompts_are_measured(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = VattMiniConfig(
        work=tmp_path / "work", mini_work=trained / "work", mini=str(trained / "toy"), out=tmp_path / "toy",
        threads=1, rows=2, summary_steps=2, corpus=SteeringConfig(8), converter=FitConfig(steps=1),
        audio=FitConfig(steps=1, warmup=0),
    )  # fmt: skip
    assert run(config) == 0
    capsys.readouterr()
    places = ["--work", str(tmp_path / "work"), "--mini-work", str(trained / "work"), "--scenes", "8"]
    assert vatt_text.main(["--model", str(tmp_path / "toy"), "--cases", "3", *places]) == 0
    told = capsys.readouterr().out
    assert told.startswith("3 cases; all codes hidden: its own caption ")
    own, other = map(float, re.findall(r"(?:its own caption|another's) (\d+\.\d{3})", told))
    assert 0 < own < 100 and 0 < other < 100
    assert told.count("| the true one through the codec | ") == 1


def test_another_caption_is_of_another_class() -> None:
    labels = ["dog", "dog", "drum", "dog", "bell", "bell"]
    cases: Any = [SimpleNamespace(target=SimpleNamespace(label=label), prompt=label) for label in labels]
    nothing = torch.zeros(len(cases))
    others = vatt_text.others_captions(HeldOut(cases, nothing, nothing, nothing))
    assert others == ["drum", "drum", "dog", "bell", "dog", "dog"]
    with pytest.raises(ValueError, match="the same class"):
        vatt_text.others_captions(HeldOut(cases[:2], nothing, nothing, nothing))


def test_a_model_without_text_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        vatt_text.main(["--model", "mini"])
    assert "mini takes no text" in capsys.readouterr().err


def test_what_is_missing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        vatt_text.main(["--work", str(tmp_path), "--mini-work", str(tmp_path)])
    assert "run make mini" in capsys.readouterr().err
