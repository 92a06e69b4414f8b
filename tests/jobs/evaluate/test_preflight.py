"""Clips and captions of an evaluation are matched before anything starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.common.verb import WrongUsage
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.preflight import find_captions, find_clips, preflight, system_name
from pipelines.scoring.sound_folder import wav_bytes


@pytest.fixture
def config(tmp_path: Path) -> EvaluateConfig:
    """PRED has clips a, b and extra; REF a, b and c."""
    for folder, names in (("pred", ("a", "b", "extra")), ("ref", ("a", "b", "c"))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.wav").write_bytes(wav_bytes(np.zeros(100, np.float32)))
    folders = (str(tmp_path / name) for name in ("pred", "ref", "out"))
    return EvaluateConfig(*folders, codec="none", networks=())


def test_clips_of_one_side_are_refused_unless_allowed(config: EvaluateConfig) -> None:
    preflight(config)
    with pytest.raises(
        WrongUsage, match=r"(?s)PRED lacks 1 clips: c.*REF lacks 1 clips: extra.*--allow-missing"
    ):
        find_clips(config, "pred")
    config.allow_missing = True
    clips, notes = find_clips(config, "pred")
    assert [clip.name for clip in clips] == ["a", "b"] and len(notes) == 2
    assert all(clip.reference != clip.other for clip in clips)


def test_facts_come_from_the_table_of_events(config: EvaluateConfig, tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("clip,class,onset_s\na.mp4,drum,0.5\n")
    config.allow_missing, config.events = True, str(tmp_path / "events.csv")
    [a, b] = find_clips(config, "pred")[0]
    assert (a.label, a.events) == ("drum", (0.5,)) and b.label == ""
    (tmp_path / "events.csv").write_text("film,at\na,1\n")
    with pytest.raises(WrongUsage, match=r"events\.csv"):
        find_clips(config, "pred")


def test_nothing_in_common(config: EvaluateConfig, tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / "pred" / name).unlink()
    with pytest.raises(WrongUsage, match="no clip in common"):
        find_clips(config, "pred")


def test_captions_need_true_ones(config: EvaluateConfig, tmp_path: Path) -> None:
    (tmp_path / "said.csv").write_text("clip,caption\na,a drum\n")
    assert find_captions(config, {}) == ({}, {})
    config.captions = str(tmp_path / "said.csv")
    assert find_captions(config, {"a": "a drum rolls"}) == ({"a": "a drum"}, {"a": ["a drum rolls"]})
    with pytest.raises(WrongUsage, match="--true-captions"):
        find_captions(config, {"b": "rain"})
    config.captions, config.true_captions = "", config.captions
    with pytest.raises(WrongUsage, match="needs --captions"):
        find_captions(config, {})


@pytest.mark.parametrize("out", ["ref/out", "pred"])
def test_results_lie_outside_of_both_folders(config: EvaluateConfig, tmp_path: Path, out: str) -> None:
    config.out = str(tmp_path / out)
    with pytest.raises(WrongUsage, match="must be outside"):
        preflight(config)


@pytest.mark.parametrize("pred", ["pred", "reference"])
def test_exported_sounds_never_replace_those_that_are_scored(
    config: EvaluateConfig, tmp_path: Path, pred: str
) -> None:
    (tmp_path / "pred").rename(tmp_path / pred)
    config.pred, config.export = str(tmp_path / pred), str(tmp_path)
    with pytest.raises(WrongUsage, match="--export writes to"):
        preflight(config)
    config.export = str(tmp_path / "export")
    preflight(config)


def test_a_folder_called_like_a_baseline_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert system_name("models/ours/") == "ours"
    assert system_name("s3://bucket/noise") == "pred-noise"
    monkeypatch.chdir(tmp_path)
    assert system_name(".") == tmp_path.name and system_name("/") == "pred-"
