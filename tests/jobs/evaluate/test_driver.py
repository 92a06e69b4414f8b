"""`v2a evaluate`: folders of sounds are matched, brought to one form, scored beside baselines, and told about."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.io import wavfile

from jobs import cli
from pipelines import synthfoley
from pipelines.scoring.sound_folder import wav_bytes

CLIPS, SECONDS = 4, 2.0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """True sounds of a few scenes with events, the same a little late, and the table of their events."""
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "ref").mkdir()
    (folder / "late").mkdir()
    rows, index = [], 0
    while len(list((folder / "ref").iterdir())) < CLIPS:
        scene = synthfoley.make_scene(5, index, SECONDS)
        index += 1
        if scene.label not in synthfoley.IMPACTS or not scene.events:
            continue
        sound, name = synthfoley.render_sound(scene), f"{scene.label}_{index}"
        (folder / "ref" / f"{name}.wav").write_bytes(wav_bytes(sound))
        late = np.concatenate([np.zeros(1764), sound])[: len(sound)]  # 40 ms
        (folder / "late" / f"{name}.wav").write_bytes(wav_bytes(late.astype(np.float32)))
        rows += [[f"{name}.mp4", scene.label, e.onset_s, e.strength] for e in scene.events]
    with (folder / "events.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["clip", "class", "onset_s", "strength"], *rows])
    return folder


def evaluate(*words: str | Path) -> int:
    return cli.main(["evaluate", *map(str, words), "--networks", "foley", "vggish"])


def summary(out: Path) -> dict[str, dict[str, dict[str, float]]]:
    found = json.loads((out / "summary.json").read_text())
    return {system["name"]: system["metrics"] for system in found["systems"]}


def test_late_sounds_are_scored_late_beside_the_baselines(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert evaluate(corpus / "late", corpus / "ref", "--out", out, "--events", corpus / "events.csv") == 0
    found = summary(out)
    assert list(found) == ["late", "reference", "codec", "shuffled", "noise", "silence"]
    late, truth = found["late"], found["reference"]
    assert late["onset_median"]["value"] == pytest.approx(40 + truth["onset_median"]["value"], abs=8)
    assert late["onset_f1_25"]["value"] < 0.3 < 0.8 < late["onset_f1_50"]["value"]
    assert truth["onset_f1_25"]["value"] > 0.8 and found["silence"]["onset_f1_100"]["value"] == 0
    assert truth["class_match"]["value"] == 1 and truth["kld_foley"]["value"] == 0
    assert truth["stft"]["value"] == 0 < found["codec"]["stft"]["value"] < found["silence"]["stft"]["value"]
    assert truth["fdm"]["value"] < 1e-3 * found["noise"]["fdm"]["value"]
    assert late["fad_vggish"]["value"] is None and "vggish" in str(late["fad_vggish"]["note"]).lower()
    rows = pq.read_table(out / "scores.parquet").to_pylist()
    assert len(rows) == 6 * CLIPS and {row["label"] for row in rows} <= set(synthfoley.CLASSES)
    for file, word in (("table.md", "onset F1"), ("table.tex", "tabular")):
        assert word in (out / file).read_text()
    assert "late" in capsys.readouterr().out


def test_sounds_of_another_form_are_fitted_and_told(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pred = tmp_path / "pred"
    pred.mkdir()
    names = sorted(file.name for file in (corpus / "ref").iterdir())
    for name in names[:3]:
        rate, sound = wavfile.read(corpus / "ref" / name)
        wavfile.write(pred / name, rate, np.stack([sound, sound], 1)[:-1])
    (pred / names[3]).write_bytes(b"broken")
    assert evaluate(pred, corpus / "ref", "--out", tmp_path / "out") == 1
    said = capsys.readouterr().out
    assert "3 clips: 2 channels averaged, padded with silence" in said
    assert f"not scored: {names[3].removesuffix('.wav')}: not a .wav file" in said
    found = summary(tmp_path / "out")
    assert found["pred"]["mse"]["value"] < 1e-6 and found["pred"]["mse"]["n"] == 3
    assert found["pred"]["onset_f1_50"]["value"] is None, "no events were given"


def test_missing_clips_are_listed_and_refused_unless_allowed(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pred = tmp_path / "pred"
    pred.mkdir()
    first, *others = sorted((corpus / "ref").iterdir())
    (pred / first.name).write_bytes(first.read_bytes())
    (pred / "extra.wav").write_bytes(first.read_bytes())
    assert evaluate(pred, corpus / "ref", "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "PRED lacks 3 clips" in said and others[0].stem in said and "REF lacks 1 clips: extra" in said
    assert not (tmp_path / "out" / "summary.json").exists()
    assert evaluate(pred, corpus / "ref", "--out", tmp_path / "out", "--allow-missing") == 0
    assert summary(tmp_path / "out")["pred"]["mse"]["n"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--networks", "vgish"], "no network 'vgish'"),
        (["--codec", "nothing"], "no model"),
        (["--weights", "vggish"], "NETWORK=FILE"),
        (["--events", "EVENTS"], "not a table of events"),
    ],
)
def test_what_cannot_work_is_told_before_anything_starts(
    options: list[str], words: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    given = [str(tmp_path / "table.csv") if word == "EVENTS" else word for word in options]
    command = ["evaluate", str(corpus / "late"), str(corpus / "ref"), "--out", str(tmp_path / "out"), *given]
    assert cli.main(command) == 2
    assert words in capsys.readouterr().err
    assert cli.main([*command[:2], str(corpus), "--out", str(corpus / "ref" / "out")]) == 2
