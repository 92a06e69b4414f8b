"""One clip never ends an evaluation, whatever its sounds or its film are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import storage, synthfoley
from pipelines.scoring import scorer, sound_folder
from pipelines.scoring.job import Clip, ScoringJob
from pipelines.scoring.scorer import Scorer
from v2a_models.metrics import waveform


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clip:
    monkeypatch.setattr(scorer.retry, "SCAN", scorer.retry.RetryPolicy(2, 0.0))
    for name in ("true", "ours", "theirs"):
        (tmp_path / f"{name}.wav").write_bytes(sound_folder.wav_bytes(np.ones(9000, np.float32)))
    place = str(tmp_path)
    systems = {name: f"{place}/{name}.wav" for name in ("ours", "theirs")}
    return Clip("a", f"{place}/true.wav", systems, other=f"{place}/true.wav")


def failures(clip: Clip) -> dict[str, str]:
    answers = Scorer(ScoringJob("", ())).score(clip)
    return {scored.system: scored.problem for scored in answers if scored.problem}


@pytest.mark.parametrize("error", [storage.StorageDenied, storage.StorageRefused, storage.StorageError])
@pytest.mark.parametrize("which", ["true", "ours"])
def test_a_sound_that_storage_withholds(
    which: str, error: type[Exception], clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert failures(clip) == {}
    read = sound_folder.read_sound

    def withheld(uri: str) -> sound_folder.Sound:
        if uri.endswith(f"{which}.wav"):
            raise error("no permission")
        return read(uri)

    monkeypatch.setattr(sound_folder, "read_sound", withheld)
    found = failures(clip)
    assert found.keys() == ({"ours", "theirs"} if which == "true" else {"ours"})
    assert all("no permission" in words for words in found.values())


@pytest.mark.parametrize(("label", "matches"), [("firework", 1.0), ("rain", 0.0), ("yodelling", None)])
def test_a_label_may_be_the_classifiers_class_or_synthfoleys_name_for_it(
    label: str, matches: float | None, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Scorer(ScoringJob("", ("foley",)))
    classes = heard.audio["foley"].classes or ()
    firework = torch.zeros(len(classes))
    firework[classes.index(synthfoley.class_among(classes, "firework") or "")] = 9.0
    monkeypatch.setattr(heard.audio["foley"].head, "bias", torch.nn.Parameter(firework))  # type: ignore[attr-defined]
    torch.nn.init.zeros_(heard.audio["foley"].head.weight)  # type: ignore[attr-defined]
    scored = [answer for answer in heard.score(dataclasses.replace(clip, label=label)) if not answer.problem]
    assert scored and {answer.metrics.get("class_match") for answer in scored} == {matches}


def test_an_error_of_a_metric_fails_the_clip(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> float:
        raise ValueError("too short")

    monkeypatch.setattr(waveform, "mse", broken)
    assert failures(clip) == dict.fromkeys(("ours", "theirs"), "ValueError: too short")
