"""`v2a evaluate` on folders of films, captions, silence and NaN, and the sounds it exports to other scorers."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.io import wavfile

from jobs import cli
from pipelines import synthfoley
from pipelines.scoring.sound_folder import wav_bytes
from pipelines.synthfoley import mp4

RATE, CLIPS = 44_100, 3


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of different scenes with their sound; beside them their sounds, and those sounds on the wrong films."""
    folder = tmp_path_factory.mktemp("films")
    for name in ("ref", "right", "wrong"):
        (folder / name).mkdir()
    scenes = [synthfoley.make_scene(5, index, 2.0) for index in range(CLIPS)]
    sounds = [wav_bytes(synthfoley.render_sound(scene).astype(np.float32)) for scene in scenes]
    for k, scene in enumerate(scenes):
        (folder / "ref" / f"{k}.mp4").write_bytes(mp4.encode(scene))
        (folder / "right" / f"{k}.wav").write_bytes(sounds[k])
        (folder / "wrong" / f"{k}.wav").write_bytes(sounds[(k + 1) % CLIPS])
    return folder


def evaluate(*words: str | Path, networks: tuple[str, ...] = ()) -> int:
    return cli.main(["evaluate", *map(str, words), "--codec", "none", "--networks", *networks])


def systems(out: Path) -> dict[str, dict[str, Any]]:
    found = json.loads((out / "summary.json").read_text())
    return {system["name"]: system for system in found["systems"]}


def value(out: Path, system: str, metric: str) -> float:
    return systems(out)[system]["metrics"][metric]["value"]


def test_a_sound_is_held_against_the_pictures_of_the_film(films: Path, tmp_path: Path) -> None:
    for name in ("right", "wrong"):
        assert evaluate(films / name, films / "ref", "--out", tmp_path / name, networks=("scav", "clip")) == 0
    assert value(tmp_path / "right", "right", "alignment") == 1.0
    assert value(tmp_path / "right", "reference", "alignment") == 1.0
    assert value(tmp_path / "right", "shuffled", "alignment") == 0.0
    assert value(tmp_path / "wrong", "wrong", "alignment") < 0.5
    missing = systems(tmp_path / "right")["right"]["metrics"]
    assert missing["cc"]["value"] is None and "Wav2CLIP" in missing["cc"]["note"]
    # Sounds without pictures have nothing to be held against.
    assert evaluate(films / "wrong", films / "right", "--out", tmp_path / "deaf", networks=("scav",)) == 0
    assert systems(tmp_path / "deaf")["wrong"]["metrics"]["alignment"]["value"] is None


def test_captions_are_scored_beside_true_and_wrong_ones(films: Path, tmp_path: Path) -> None:
    for name, rows in {
        "said": [["0.mp4", "a dog barks at the gate"], ["1", "rain falls on a roof"], ["2", "a bell rings twice"]],
        "true": [["0", "a dog barks at the gate"], ["1", "rain falls on a tin roof"], ["1", "it is raining"],
                 ["2", "a hammer hits wood"]],
        "other": [["x", "nothing"]],
    }.items():  # fmt: skip
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["clip", "caption"], *rows])
    said, out = ("--captions", tmp_path / "said.csv"), tmp_path / "out"
    command = (films / "right", films / "ref", "--out", out)
    assert evaluate(*command, *said, "--true-captions", tmp_path / "true.csv") == 0
    for metric, most in (("bleu4", 1), ("rouge_l", 1), ("cider", 25 / 3)):  # CIDEr is a mean over references
        ours, theirs, wrong = (value(out, system, metric) for system in ("right", "reference", "shuffled"))
        assert 0 <= wrong < ours < theirs == pytest.approx(most)
        assert systems(out)["noise"]["metrics"][metric]["note"] == "no captions were given"
    assert "RoBERTa" in systems(out)["right"]["metrics"]["bertscore"]["note"]
    assert "**Captions**" in (out / "table.md").read_text()
    assert evaluate(*command, *said, "--true-captions", tmp_path / "other.csv") == 2
    assert evaluate(*command, *said) == 2, "no true captions"
    assert evaluate(*command, "--true-captions", tmp_path / "true.csv") == 2
    assert evaluate(*command, "--captions", films / "right" / "0.wav") == 2


def test_silence_is_scored_and_what_is_no_sound_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, pred, ref = np.random.default_rng(0), tmp_path / "pred", tmp_path / "ref"
    pred.mkdir()
    ref.mkdir()
    noise = (0.1 * rng.standard_normal(RATE)).astype(np.float32)
    nan = np.where(np.arange(RATE) == 99, np.nan, noise).astype(np.float32)
    pairs = {
        "quiet": (np.zeros(RATE, np.float32), noise),
        "quiet_too": (noise, np.zeros(RATE, np.float32)),
        "nan": (nan, noise),
        "nan_ref": (noise, nan),
        "long": (np.stack([noise, noise], 1), noise[: RATE // 2]),
    }
    for name, (ours, theirs) in pairs.items():
        wavfile.write(pred / f"{name}.wav", RATE, ours)
        wavfile.write(ref / f"{name}.wav", RATE, theirs)
    assert evaluate(pred, ref, "--out", tmp_path / "out", networks=("foley",)) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "1 clips: 2 channels averaged, cut to the length of the reference: long" in said
    assert "not scored: nan: the sound holds NaN" in said and "not scored: nan_ref: the reference: " in said
    found = systems(tmp_path / "out")
    assert {system["clips"] for system in found.values()} == {3} and found["pred"]["failed"] == 2
    assert found["pred"]["aligned"] == {"2 channels averaged, cut to the length of the reference": ["long"]}
    for name in ("stft", "kld_foley", "mse", "fdm", "fd_foley"):
        assert np.isfinite(found["pred"]["metrics"][name]["value"])
    rows = pq.read_table(tmp_path / "out" / "scores.parquet").to_pylist()
    assert {row["aligned"] for row in rows if row["clip"] == "long" and row["system"] == "pred"} != {""}
    assert "FD foley: fewer samples than dimensions" in said


def test_exported_folders_are_what_other_scorers_read(films: Path, tmp_path: Path) -> None:
    pred, out = tmp_path / "a system", tmp_path / "out"
    pred.mkdir()
    for file in sorted((films / "right").iterdir()):
        rate, sound = wavfile.read(file)
        wavfile.write(pred / file.name, rate, np.stack([sound, sound], 1)[:-7])
    assert evaluate(pred, films / "ref", "--out", out, "--export", tmp_path / "export") == 0
    for k in range(CLIPS):
        forms = []
        for system in ("a system", "reference"):
            rate, sound = wavfile.read(tmp_path / "export" / system / f"{k}.wav")
            forms.append((rate, sound.shape, sound.dtype))
        assert forms[0] == forms[1] and forms[0][0] == RATE and len(forms[0][1]) == 1
    # And they are read again as they were written.
    again = (tmp_path / "export" / "a system", tmp_path / "export" / "reference", "--out", tmp_path / "again")
    assert evaluate(*again) == 0
    assert systems(tmp_path / "again")["a system"]["aligned"] == {}
    assert value(tmp_path / "again", "a system", "stft") == pytest.approx(
        value(out, "a system", "stft"), rel=0.05
    )
