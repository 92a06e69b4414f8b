"""`python -m benchmarks.vatt_masking` at toy size, on features that say nothing."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from benchmarks import vatt_masking
from jobs.mini import steering_corpus
from jobs.mini.parts import RECIPE
from jobs.mini.steering_corpus import SteeringConfig, SteeringCorpus
from jobs.mini.vatt import VattMiniConfig, run
from pipelines.foley.captions import label_in
from v2a_models.training.loop import FitConfig

SIZES = shlex.split("--steps 1 --rows 2 --cases 2 --scenes 8 --device cpu")


@pytest.fixture(scope="module")
def work(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("vatt")
    config = VattMiniConfig(
        work=work, mini_work=trained / "work", mini=str(trained / "toy"), threads=1,
        stages=("corpus", "converter"), corpus=SteeringConfig(8), converter=FitConfig(steps=1),
    )  # fmt: skip
    assert run(config) == 0
    return work


def test_every_distribution_is_measured_once(
    work: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["uniform", "gaussian, moving mean"]
    places = ["--mini-work", str(trained / "work"), "--mini", str(trained / "toy")]
    command = ["--work", str(work), *places, *SIZES]
    assert vatt_masking.main([*command, "--variants", *names]) == 0
    told, log = capsys.readouterr()
    kept = {name: work / "masking" / f"{vatt_masking.file_name(name)}.json" for name in names}
    nats = {name: json.loads(file.read_text())["figures"]["nats"] for name, file in kept.items()}
    assert all(len(n) == len(vatt_masking.FRACTIONS) and min(n) > 0 for n in nats.values())
    # From the same start on the same crops, only what is hidden can make the first losses differ.
    assert len(set(re.findall(r"step 1 .* codes (.*)", log))) == len(names)
    assert all(f"| {name} |" in told for name in names)
    # What is there is not made again.
    changed = json.loads(kept["uniform"].read_text())
    changed["figures"]["onset_f1"] = 0.123
    kept["uniform"].write_text(json.dumps(changed))
    assert vatt_masking.main([*command, "--variants", "uniform"]) == 0
    assert "| 0.123 |" in capsys.readouterr().out


def test_cases_ask_for_another_class_at_the_moments_of_the_picture(work: Path, trained: Path) -> None:
    scenes = steering_corpus.mini_of(trained / "work")
    held = SteeringCorpus.load(work / "corpus", scenes, SteeringConfig(8), "val")
    data = vatt_masking.held_out(held, RECIPE)
    assert len(data.cases) == len(data.codes) == len(data.semantic) and data.codes.shape[1:] == (6, 345)
    for case in data.cases:
        assert case.scene.label != case.target.label == label_in(case.prompt)
        assert [e.onset_s for e in case.scene.events] == [e.onset_s for e in case.target.events]
        assert all(0 <= event.onset_s < 4 for event in case.scene.events)


def test_what_is_missing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        vatt_masking.main(["--work", str(tmp_path)])
    assert "lacks converter.pt" in (told := capsys.readouterr().err) and "--stages corpus converter" in told
