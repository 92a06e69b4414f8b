"""Results of a comparison, without a model: the champion, the runs in MLflow, the exported folders."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.io import wavfile

from jobs.common import registry
from jobs.common.score_table import listed
from jobs.common.tracking import Tracker
from jobs.compare import CompareConfig, mlflow_runs, results
from jobs.compare.driver import costs_of, problems_of
from jobs.compare.preflight import ComparePlan, Model
from pipelines.scoring.clips import RESULT_SCHEMA, Row
from pipelines.scoring.job import BASELINES, Scored
from pipelines.scoring.sound_folder import wav_bytes
from pipelines.scoring.summary import Board
from v2a_models.metrics.catalogue import BY_NAME

CLIPS, RATE = 24, 44_100
LEVELS = {"good": 0.4, "bad": 0.8, "same": 0.4, "reference": 0.0, "codec": 0.1, "shuffled": 1.2, "noise": 1.3,
          "silence": 1.4}  # fmt: skip


def board(levels: dict[str, float] = LEVELS) -> Board:
    found, rng = Board(), np.random.default_rng(0)
    for clip in range(CLIPS):
        truth, hard = rng.standard_normal((6, 3)).astype(np.float32), rng.uniform(0.5, 1.5)
        for system, level in levels.items():
            arrays = {"fdm": (truth + level * hard).astype(np.float32)}
            # By MAE silence comes out best, and the truth worst.
            metrics = {"stft": level * hard, "mse": level * hard, "mae": 1.5 - level * hard}
            found.add(Scored(system, f"v-{clip:06}", metrics=metrics, arrays=arrays))
    return found


def plan(out: Path, *models: str, folder: str = "mini") -> ComparePlan:
    rows = [
        Row(f"v-{k:06}", f"films/{k % 2}.mp4", 4.0 * (k // 2), 4.0, "drum", "", "part", k)
        for k in range(CLIPS)
    ]
    chosen = [
        Model(name, name, folder, f"{name} sha256", 1.5, True, False) for name in models or ("good", "bad")
    ]
    return ComparePlan(
        str(out), "store", "", rows, chosen, window=4 * RATE, stored_rate=RATE, codec="mini", fps={}, facts={},
        missing={}, networks=[], precision="float32",
    )  # fmt: skip


def config(out: Path, **options: Any) -> CompareConfig:
    return CompareConfig(("good", "bad"), "store", str(out), **options)


def summary(plan: ComparePlan, found: Board) -> dict[str, Any]:
    costs = {
        m.slug: costs_of([made(seconds=0.5), made(seconds=0.7, memory_mib=900.0)], 4.0) for m in plan.models
    }
    return results.summarise(plan, config(Path(plan.out)), found, {}, costs, "v2a compare")


def made(**values: Any) -> dict[str, Any]:
    return dict(clip="v-000000", system="good", seconds=0.0, memory_mib=800.0, problem="") | values


def test_what_making_costs_has_its_interval_and_failures_their_reason() -> None:
    answers = [made(seconds=0.5), made(seconds=0.7, memory_mib=900.0), made(problem="no")]
    assert set(answers[0]) == set(RESULT_SCHEMA.names)
    costs = costs_of(answers, 4.0)
    speed = costs["audio_s_per_s"]
    assert speed.value == pytest.approx(4 / 0.6) and speed.low == pytest.approx(4 / 0.7)
    assert speed.low < speed.value < speed.high and costs["memory"].value == 900
    assert problems_of(answers) == {("good", "v-000000"): "no"} and costs_of(answers[2:], 4.0) == {}


@pytest.mark.parametrize("metric", ["stft", "fdm"])
def test_the_best_beyond_the_interval_is_the_winner(metric: str, tmp_path: Path) -> None:
    found = board()
    told = summary(plan(tmp_path), found)
    assert mlflow_runs.winner(BY_NAME[metric], ["bad", "good"], found, told) == ("good", "")


@pytest.mark.parametrize(
    ("metric", "models", "words"),
    [
        ("stft", ["good", "same"], "is not better than same"),
        ("fdm", ["good", "same"], "interval of their difference (0 to 0)"),
        ("mae", ["good", "bad"], "MAE is unreliable here (codec (1.4) comes out better than reference"),
        ("stft", ["good"], "measured for 1 of 1 models; at least two are needed"),
        ("fad_vggish", ["good", "bad"], "measured for 0 of 2 models: no features of both sides"),
        ("onset_f1_50", ["good", "bad"], "measured for 0 of 2 models: no clips with known events"),
    ],
)
def test_a_champion_is_refused_with_the_reason(
    metric: str, models: list[str], words: str, tmp_path: Path
) -> None:
    found = board()
    best, why = mlflow_runs.winner(BY_NAME[metric], models, found, summary(plan(tmp_path, *models), found))
    assert not best and words in why


def test_the_winner_is_crowned_once_and_by_nobody_it_was_not_compared_with(tmp_path: Path) -> None:
    uri, found = f"sqlite:///{tmp_path}/mlflow.db", board()
    tracker = Tracker(uri, "v2a/compare", out=str(tmp_path), notify=pytest.fail)
    tracker.start("a comparison", {}, {})
    told = summary(plan(tmp_path), found)

    def promote(*models: str, uri: str | None = uri) -> dict[str, Any]:
        given = config(tmp_path, promote="stft")
        return mlflow_runs.promote(plan(tmp_path, *models), given, found, told, uri, tracker)

    assert "--tracking-uri is off" in promote("good", "bad", uri=None)["reason"]
    first = promote("good", "bad")
    assert first["promoted"] and first["name"] == "good" and "models:/v2a@champion" in first["reason"]
    assert promote("good", "bad")["reason"] == "it already was the champion."
    client = registry.client_of(uri)
    champion = registry.champion(client, "v2a")
    assert champion is not None and champion.sha256 == "good sha256"
    other = promote("bad", "silence")
    assert not other["promoted"] and "models:/v2a/1) was not compared" in other["reason"]
    tracker.finish()
    assert len(client.search_model_versions("name = 'v2a'")) == 1


def test_a_comparison_is_written_down_whole(tmp_path: Path) -> None:
    out, uri = tmp_path / "out", f"sqlite:///{tmp_path}/mlflow.db"
    made, found = plan(out), board({k: v for k, v in LEVELS.items() if k != "same"})
    for system in ("good", "bad", *BASELINES):
        (out / "clips" / system).mkdir(parents=True)
        for k in range(CLIPS):
            sound = np.full(4 * RATE, 0.1, np.float32)
            (out / "clips" / system / f"v-{k:06}.wav").write_bytes(wav_bytes(sound))
    given = config(out, tracking_uri=uri, promote="mae", listen=6, export=str(tmp_path / "export"))
    results.write(made, given, found, summary(made, found), Console(quiet=True))
    (key_file,) = (out / "_v2a").glob("listen-*.json")
    key = json.loads(key_file.read_text())
    votes = [
        {"pair": f"{k:04}", "vote": "a" if key["files"][f"{k:04}-a.wav"] == "good" else "b"}
        for k in range(1, 7)
    ]
    (tmp_path / "votes.json").write_text(json.dumps({"page": key["page"], "seed": 0, "votes": votes}))
    given = config(out, tracking_uri=uri, votes=str(tmp_path / "votes.json"), listen=6)
    results.write(made, given, found, summary(made, found), Console(quiet=True))

    client = registry.client_of(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'v2a/compare'")
    runs = client.search_runs([experiment.experiment_id])
    second, first = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert second.data.metrics["preference/good over bad"] == 1.0
    assert 0.5 < second.data.metrics["preference/good over bad low"] < 1
    assert second.data.metrics["preference/good over bad votes"] == 6
    assert "preference/good over bad" not in first.data.metrics
    assert first.data.metrics["difference/stft"] < first.data.metrics["difference/stft high"] < 0
    children = {
        r.info.run_name: r for r in runs if r.data.tags.get("mlflow.parentRunId") == first.info.run_id
    }
    assert {"good", "bad", "ground truth", "silence"} < children.keys()
    figures = children["good"].data.metrics
    assert figures["low/stft"] < figures["stft"] < figures["high/stft"] and figures["memory"] == 900
    assert (figures["clips"], figures["failed"]) == (CLIPS, 0)

    # The table that MLflow's own page shows: the worst clip first, with the address of its sound.
    run_id = children["good"].info.run_id
    table = json.loads(Path(client.download_artifacts(run_id, "clips.json", str(tmp_path))).read_text())
    assert json.loads(children["good"].data.tags["mlflow.loggedArtifacts"])[0]["type"] == "table"
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    distances = [row["STFT distance"] for row in rows]
    assert distances == sorted(distances, reverse=True) and len(rows) == CLIPS
    for row in rows:
        assert row["clip"] in row["sound"] and row["label"] == "drum"
        assert Path(row["sound"]).read_bytes().startswith(b"RIFF")

    # Folders by which other scorers know the clips; all of one form.
    for system in ("good", "bad", "reference"):
        names = {file.name for file in (tmp_path / "export" / system).iterdir()}
        assert len(names) == CLIPS and {"films-0.wav", "films-1.wav", "films-0-000002.wav"} < names
        assert wavfile.read(tmp_path / "export" / system / "films-0.wav")[1].shape == (4 * RATE,)
    assert "unreliable" in (out / "report.html").read_text()


def test_films_that_would_share_a_name_keep_their_clips_names() -> None:
    paths = ["a/b.mp4", "a-b.mp4", "c.mkv", "c.d.mkv"]
    rows = [Row(f"v{k}-000000", path, 0.0, 4.0, "", "", "part", k) for k, path in enumerate(paths)]
    names = results.export_names(rows)
    assert list(names.values()) == ["v0-000000", "v1-000000", "c", "c.d"]


def test_the_tables_name_what_cannot_be_had(tmp_path: Path) -> None:
    from pipelines.reports.comparison_table import markdown
    from pipelines.scoring.summary import available_networks

    made = plan(tmp_path)
    made.missing = available_networks((), {})[1]
    text = markdown(summary(made, board()))
    for title in (
        "IB",
        "DeSync",
        "SS",
        "CC",
        "BertScore",
        "FD PaSST",
        "KLD PANNs",
        "alignment accuracy",
        "NS",
    ):
        assert f"- {title} n/a: " in text
    assert "memory (MiB) ↓" in text and "900" in text
    assert listed([str(k) for k in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


@pytest.mark.parametrize(("strengths", "kept"), [({}, ()), ({"strengths": (0.5, 1.0)}, (0.5,))])
def test_events_without_strengths_are_events_all_the_same(
    strengths: dict[str, Any], kept: tuple[float, ...], tmp_path: Path
) -> None:
    row = Row("a-0", "films/\\xff.mp4", 0.0, 4.0, "", "", "part", 0)
    plan: Any = SimpleNamespace(
        out=str(tmp_path), archive=str(tmp_path), window=4 * RATE, rows=[row], models=[], fps={},
        facts={"films/\\xff": {"events": (1.0, 9.0)} | strengths},
    )  # fmt: skip
    [clip] = results.scoring_clips(plan)
    assert (clip.events, clip.strengths) == ((1.0,), kept)
    # A film whose name is not UTF-8 is found by its bytes.
    assert clip.film == f"file://{tmp_path}/films/%FF.mp4"
