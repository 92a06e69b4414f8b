"""`python -m benchmarks.vatt_masking` at toy size, on features that say nothing."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import vatt_masking
from jobs.mini import vatt
from pipelines import synthfoley
from pipelines.synthfoley import steering_corpus
from pipelines.synthfoley.steering_corpus import SteerConfig
from v2a_models.checkpoint import load_generator

SIZES = shlex.split("--seconds 4.2 --others 2 --steps 1 --rows 2 --cases 2 --held-out 1 --device cpu")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    corpus = SteerConfig(blocks=2, seconds=4.2, others=2)
    (tmp_path / "corpus").mkdir()
    rng, n = np.random.default_rng(0), steering_corpus.BLOCK
    for number in range(2):
        np.savez(
            tmp_path / "corpus" / f"{number:04d}.npz",
            semantic=rng.normal(size=(n, 34, 128)).astype(np.float16),
            sync=rng.normal(size=(n, 105, 128)).astype(np.float16),
            codes=rng.integers(0, 512, (n, 3, 4, 362)).astype(np.int16),
        )
    config = vatt.VattMiniConfig(work=tmp_path, corpus=corpus)
    untrained = vatt.untrained_converter(config, steering_corpus.load_steering(tmp_path / "corpus", corpus))
    torch.save(untrained.state_dict(), tmp_path / "converter.pt")
    return tmp_path


def test_every_distribution_is_measured_once(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["uniform", "gaussian, moving mean"]
    assert vatt_masking.main(["--work", str(work), *SIZES, "--variants", *names]) == 0
    told, log = capsys.readouterr()
    kept = {name: work / "masking" / f"{vatt_masking.file_name(name)}.json" for name in names}
    nats = {name: json.loads(file.read_text())["figures"]["nats"] for name, file in kept.items()}
    # Nothing is known of 512 equally likely codes, whatever is hidden of them.
    assert all(len(n) == len(vatt_masking.FRACTIONS) and min(n) > 5.5 for n in nats.values())
    # From the same start on the same crops, only what is hidden can make the first losses differ.
    assert len(set(re.findall(r"step 1 .* codes (\S+)", log))) == len(names)
    assert all(f"| {name} |" in told for name in names)
    # What is there is not made again.
    changed = json.loads(kept["uniform"].read_text())
    changed["figures"]["onset_f1"] = 0.123
    kept["uniform"].write_text(json.dumps(changed))
    assert vatt_masking.main(["--work", str(work), *SIZES, "--variants", "uniform"]) == 0
    assert "| 0.123 |" in capsys.readouterr().out


def test_cases_ask_for_another_class_at_the_moments_of_the_picture(work: Path) -> None:
    blocks = steering_corpus.load_steering(work / "corpus", SteerConfig(blocks=2, seconds=4.2, others=2))
    data = vatt_masking.held_out(blocks[-1:], load_generator("mini").recipe)
    assert len(data.cases) == len(data.codes) == len(data.semantic) and data.codes.shape[1:] == (4, 345)
    for case in data.cases:
        assert case.scene.label != case.target.label and case.target.label in synthfoley.IMPACTS
        assert [e.onset_s for e in case.scene.events] == [e.onset_s for e in case.target.events]
        assert all(0 <= event.onset_s < 4 for event in case.scene.events)


def test_what_is_missing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        vatt_masking.main(["--work", str(tmp_path)])
    assert "lacks converter.pt" in (told := capsys.readouterr().err) and "--stages corpus converter" in told
