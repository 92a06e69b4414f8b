"""`make mini` from nothing to a checkpoint that generates sound, at toy size."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from jobs.mini import MiniConfig, run, training
from pipelines.foley.corpus import LABELS
from tests.jobs.mini.conftest import toy
from v2a_models.checkpoint import load_classifier, load_generator
from v2a_models.codec.dac import MINI, Codec
from v2a_models.training.loop import FitConfig


def test_every_stage_runs_and_the_result_generates(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = load_generator(str(trained / "toy"))
    frames = torch.zeros(1, 100, 64, 64, 3, dtype=torch.uint8)
    large = torch.zeros(1, 10, 224, 224, 3, dtype=torch.uint8)
    sound = generator.generate_from_frames({"semantic": large, "sync": frames}, [1], steps=2)
    assert sound.shape == (1, 2, 4 * 44_100) and torch.isfinite(sound).all()
    assert load_classifier(str(trained / "toy"))[1] == list(LABELS)


def test_a_finished_training_does_nothing_twice(trained: Path) -> None:
    before = (trained / "toy" / "model.safetensors").read_bytes()
    files = [
        trained / "work" / name
        for name in ("codes_train.pt", "features_train.pt", "corpus/frames/0000.npy", "foley/recordings.npy")
    ]
    times = [file.stat().st_mtime_ns for file in files]
    assert (
        run(toy(trained, ("recordings", "corpus", "codec", "tokens", "features", "maskvat", "export"))) == 0
    )
    assert (trained / "toy" / "model.safetensors").read_bytes() == before
    assert [file.stat().st_mtime_ns for file in files] == times


def test_unknown_stage_lists_the_choices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(toy(tmp_path, ("codex",))) == 2
    assert "codec" in capsys.readouterr().err


def test_a_folder_that_is_no_library_is_told(tmp_path: Path) -> None:
    config = MiniConfig(work=tmp_path / "work", sounds=str(tmp_path), stages=("recordings",))
    with pytest.raises(SystemExit, match=r"--sounds .*manifest"):
        run(config)


def test_a_codec_goes_on_from_one_with_fewer_codebooks(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained / "work", tmp_path / "work", ignore=shutil.ignore_patterns("codec*", "frames"))
    former = SimpleNamespace(codec=Codec(MINI | {"n_codebooks": 4}))
    monkeypatch.setattr(training, "load_generator", lambda name: former)
    config = replace(toy(tmp_path), codec_from="former", codec_spectra=FitConfig(steps=0))
    training.codec_spectra(config, "cpu", print)
    begun = torch.load(tmp_path / "work" / "codec_spectra.pt", weights_only=True)
    kept = former.codec.state_dict()
    assert len(begun) > len(kept) and all(torch.equal(begun[name], kept[name]) for name in kept)
    former.codec = Codec(MINI | {"width": 32})
    with pytest.raises(SystemExit, match=r"--codec-from former: its codec is .*'width': 32"):
        training.codec_spectra(config, "cpu", print)


def test_a_finished_model_is_trained_on_with_its_parts_as_they_are(trained: Path, tmp_path: Path) -> None:
    made = ("foley", "corpus")  # scenes are those of the first training
    for name in made:
        shutil.copytree(trained / "work" / name, tmp_path / "work" / name)
    config = replace(toy(tmp_path), go_on_from=str(trained / "toy"), maskvat=FitConfig(steps=0))
    config = replace(config, stages=tuple(stage for stage in config.stages if stage != "evaluate"))
    assert run(config) == 0
    before, after = (load_file(root / "toy" / "model.safetensors") for root in (trained, tmp_path))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    # The same again with a step of training: MaskVAT changes, and nothing else.
    (tmp_path / "work" / "maskvat.state.pt").unlink()
    assert run(replace(config, maskvat=FitConfig(steps=1, warmup=0))) == 0
    after = load_file(tmp_path / "toy" / "model.safetensors")
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"maskvat"}


def test_a_model_of_other_parts_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"--go-on-from vatt-mini: its maskvat is not that of mini"):
        run(replace(toy(tmp_path), go_on_from="vatt-mini"))
    with pytest.raises(SystemExit, match=r"--go-on-from nowhere: no model 'nowhere': choose one of .*mini"):
        run(replace(toy(tmp_path), go_on_from="nowhere"))
    with pytest.raises(SystemExit, match=r"codec\.pt is another one; use an empty --work"):
        run(replace(toy(tmp_path), work=trained / "work", go_on_from="mini"))


def test_trains_without_ray_and_pyav() -> None:
    code = "import jobs.mini, sys; assert not {'ray', 'av', 'mlflow'} & set(sys.modules), 'heavy imports'"
    subprocess.run([sys.executable, "-c", code], check=True)
