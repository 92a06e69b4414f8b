"""`v2a compare`: the same clips through every model, in MLflow, on pages, and up to a champion."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs import cli
from jobs.common import registry
from jobs.common.verb import WrongUsage
from jobs.compare import CompareConfig
from jobs.compare import command as compare_command
from tests.support.train_store import captioned, recipe
from v2a_models.build import new_generator
from v2a_models.checkpoint import save_generator

CLIPS = 3


def compare(store: str, out: Path, *models: str | Path, options: tuple[str, ...] = ()) -> int:
    words = ["compare", *map(str, models), "--store", store, "--out", str(out), "--clips", str(CLIPS)]
    return cli.main([*words, "--networks", "foley", "--precision", "float32", *options])


@pytest.fixture(scope="module")
def compared(train_store: str, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared") / "out"
    assert compare(train_store, out, "mini", trained) == 0
    return out


def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text())


def test_every_system_has_its_sounds_and_figures(compared: Path, train_store: str) -> None:
    found = summary(compared)
    systems = {system["name"]: system for system in found["systems"]}
    baselines = ["reference", "codec", "shuffled", "noise", "silence"]
    assert list(systems) == ["mini", "a-model", *baselines]
    for name in systems:
        assert len(list((compared / "clips" / name).glob("*.wav"))) == CLIPS, name
        assert systems[name]["clips"] == CLIPS and not systems[name]["failed"]
    assert (
        systems["mini"]["metrics"]["parameters"]["value"]
        > 1
        > systems["a-model"]["metrics"]["parameters"]["value"]
    )
    assert systems["mini"]["metrics"]["audio_s_per_s"]["value"] > 0
    assert systems["reference"]["metrics"]["stft"]["value"] == 0
    assert found["paired"]["first"] == "mini" and "stft" in found["paired"]["metrics"]
    assert any("--archive" in note for note in found["notes"])
    rows = pq.read_table(compared / "scores.parquet").to_pylist()
    assert len(rows) == len(systems) * CLIPS


def test_the_pages_play_what_is_there_and_the_blind_one_names_no_system(compared: Path) -> None:
    report = (compared / "report.html").read_text()
    assert "clips/a-model/" in report and "listen.html" in report
    for name in ("bars", "radar", "heatmap", "spectrograms"):
        assert (compared / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    page = (compared / "listen.html").read_text()
    assert "a-model" not in page and "mini" not in page
    assert len(list((compared / "listen").glob("*.wav"))) == 2 * CLIPS


def test_mlflow_has_a_run_per_system_below_one(compared: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{compared}/_v2a/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'v2a/compare'")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {
        r.info.run_name: r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }
    assert {"mini", "a-model", "ground truth", "noise"} <= children.keys()
    assert children["noise"].data.metrics["stft"] > children["codec resynthesis"].data.metrics["stft"] > 0
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "scores.parquet", "table.md", "bars.png"} <= names


def test_captions_of_models_with_words_are_scored(vatt: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    store, out = captioned(tmp_path / "store"), tmp_path / "out"
    mute = new_generator("vatt-v", recipe(), dim=32, separate=1, shared=1, heads=2, steps=2)
    save_generator(mute, tmp_path / "mute")
    assert compare(store.root, out, tmp_path / "mute", vatt, options=("--split", "train")) == 0
    systems = {system["name"]: system["metrics"] for system in summary(out)["systems"]}
    for metric in ("bleu4", "rouge_l", "cider"):
        assert systems["vatt"][metric]["value"] is not None, metric
        assert systems["reference"][metric]["value"] > systems["vatt"][metric]["value"]
        assert systems["mute"][metric]["value"] is None and systems["mute"][metric]["note"]
    assert systems["reference"]["rouge_l"]["value"] == 1.0
    [header] = [line for line in (out / "table.md").read_text().splitlines() if "CIDEr" in line]
    column = [cell.strip() for cell in header.split("|")].index("ROUGE-L ↑")
    cells = {line.split("|")[1].strip(): line.split("|")[column].strip()
             for line in (out / "table.md").read_text().split(header)[1].splitlines()[2:5] if "|" in line}  # fmt: skip
    assert cells["mute"].startswith("n/a") and not cells["vatt"].startswith("n/a")
    rows = pq.read_table(out / "scores.parquet").to_pylist()
    told = {row["clip"]: row["caption"] for row in rows if row["system"] == "vatt"}
    assert len(told) == CLIPS and all(told.values())
    for clip, text in told.items():
        assert (out / "clips" / "vatt" / f"{clip}.txt").read_text() == text
        assert text in (out / "report.html").read_text()
    client = MlflowClient(tracking_uri=f"sqlite:///{out}/_v2a/mlflow.db")
    runs = {r.info.run_name: r for r in client.search_runs(["1"])}
    assert runs["vatt"].data.metrics["rouge_l"] == systems["vatt"]["rouge_l"]["value"]
    assert "rouge_l" not in runs["mute"].data.metrics
    table = json.loads(Path(client.download_artifacts(runs["vatt"].info.run_id, "clips.json")).read_text())
    assert {"caption", "true caption"} <= set(table["columns"])


def test_again_nothing_is_made_anew_and_votes_are_counted(
    compared: Path, train_store: str, trained: Path, tmp_path: Path
) -> None:
    sounds = {file: file.stat().st_mtime_ns for model in ("mini", "a-model")
              for file in (compared / "clips" / model).iterdir()}  # fmt: skip
    (key_file,) = (compared / "_v2a").glob("listen-*.json")
    key = json.loads(key_file.read_text())
    page = (compared / "listen.html").read_text()
    assert key["page"] in page
    votes = {"page": key["page"], "seed": key["seed"], "votes": []}
    for number in range(1, CLIPS + 1):
        left = key["files"][f"{number:04}-a.wav"]
        votes["votes"].append({"pair": f"{number:04}", "vote": "a" if left == "mini" else "b"})
    (tmp_path / "votes.json").write_text(json.dumps(votes))
    given = ("--votes", str(tmp_path / "votes.json"), "--promote", "stft", "--tracking-uri", "off",
             "--export", str(tmp_path / "export"))  # fmt: skip
    assert compare(train_store, compared, "mini", trained, options=given) == 0
    assert sounds == {file: file.stat().st_mtime_ns for file in sounds}
    found = summary(compared)
    (result,) = found["votes"]["results"]
    assert result["n"] == CLIPS and {result["first"], result["second"]} == {"mini", "a-model"}
    assert (result["first"], result["preferred_first"]) in (("mini", 1.0), ("a-model", 0.0))
    champion = found[
        "champion"
    ]  # by three clips either way: not better enough, or nowhere to be written down
    assert not champion["promoted"]
    assert "not better than" in champion["reason"] or "--tracking-uri is off" in champion["reason"]
    assert len(list((tmp_path / "export" / "mini").glob("*.wav"))) == CLIPS
    (tmp_path / "votes.json").write_text(json.dumps(votes | {"page": "../../secret"}))
    assert compare(train_store, compared, "mini", trained, options=given[:2]) == 2


def test_a_champion_is_found_by_its_alias(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.common.tracking import Tracker

    monkeypatch.setenv("V2A_CACHE", str(tmp_path / "cache"))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracker = Tracker(uri, "v2a/compare", out=str(tmp_path), notify=print)
    tracker.start("a comparison", {}, {})
    assert tracker.opened()
    client = registry.client_of(uri)
    assert registry.champion(client, "v2a") is None
    sha256 = json.loads((trained / "config.json").read_text())["sha256"]
    assert registry.promote(client, tracker, "v2a", str(trained), sha256, "stft")
    tracker.finish()
    champion = registry.champion(client, "v2a")
    assert champion is not None and champion.sha256 == sha256
    folder = Path(registry.resolve("models:/v2a@champion", uri))
    assert (folder / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    assert registry.resolve(f"models:/v2a/{champion.version}", uri) == str(folder)
    assert registry.resolve("mini", None) == "mini"
    for wrong, words in (("models:/v2a@best", "not in the registry"), ("models:/v2b/1", "it has v2a"),
                         ("models:/v2a", "is not the URI of a registered model")):  # fmt: skip
        with pytest.raises(WrongUsage, match=words):
            registry.resolve(wrong, uri)
    with pytest.raises(WrongUsage, match="--tracking-uri"):
        registry.resolve("models:/v2a@champion", None)


def test_a_model_that_fails_on_a_clip_leaves_it_out_for_all(
    compared: Path, train_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    out = tmp_path / "out"
    for folder in ("_v2a", "clips/mini", "clips/a-model", "clips/reference"):
        shutil.copytree(compared / folder, out / folder)
    first = sorted((out / "clips" / "mini").iterdir())[0]
    first.write_bytes(b"broken")
    trained = summary(compared)["systems"][1]["model"]
    assert compare(train_store, out, "mini", trained, options=("--tracking-uri", "off")) == 1
    systems = {system["name"]: system for system in summary(out)["systems"]}
    assert {system["clips"] for system in systems.values()} == {CLIPS - 1}
    (failure,) = systems["mini"]["failures"]
    assert failure["clip"] == first.stem and "not a .wav file" in failure["reason"]
    assert first.stem in capsys.readouterr().out
    rows = pq.read_table(out / "scores.parquet").to_pylist()
    assert first.stem not in {row["clip"] for row in rows}


def test_the_printed_command_means_the_same_comparison() -> None:
    given = CompareConfig(
        ("mini", "a model"), "store", "out dir", clips=7, promote="stft", networks=("foley",)
    )
    words = shlex.split(compare_command(given))
    assert words[:2] == ["v2a", "compare"] and cli.parse(CompareConfig, words[2:], "v2a compare") == given


@pytest.mark.parametrize(
    ("models", "options", "words"),
    [
        (["mini", "mini"], (), "two models have the name mini"),
        (["nothing"], (), "no model"),
        (["mini"], ("--promote", "parameters"), "--promote takes one of"),
        (["mini"], ("--split", "test"), "no rows in its split"),
        (["mini"], ("--seed", "3"), "holds another comparison"),
    ],
)
def test_what_cannot_work_is_told_before_anything_starts(
    models: list[str], options: tuple[str, ...], words: str, compared: Path, train_store: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = compared if "--seed" in options else tmp_path / "out"
    assert compare(train_store, out, *models, options=options) == 2
    assert words in " ".join(capsys.readouterr().err.split())
