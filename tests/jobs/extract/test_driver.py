"""`v2a extract` as a user runs it: the real command line on generated media, and what it says when misused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import extract
from jobs.extract import ExtractConfig
from pipelines.store.store import Store
from tests.support import REPOSITORY, media_files
from tests.support.extraction import RECIPE, files, footage, rows, run
from tests.support.toy_generators import write_video

pytestmark = pytest.mark.timeout(900)


# what comes out


def test_every_window_of_every_file_is_a_row(undisturbed: Path, archive: Path) -> None:
    found = rows(undisturbed)
    assert found.num_rows == 96
    paths = found["path"].to_pylist()
    assert {path: paths.count(path) for path in paths} == {f"film {k}.mp4": 16 for k in range(6)}
    assert set(found["start_s"].to_pylist()) == {k / 2 for k in range(16)}
    assert set(found["split"].to_pylist()) <= {"train", "val", "test"}
    assert found["frames"].combine_chunks().to_numpy_ndarray().shape == (96, 5, 12, 16, 3)
    sound = found["waveform"].combine_chunks().to_numpy_ndarray()
    assert sound.shape == (96, 1, 4000) and (abs(sound.astype(int)).max(axis=(1, 2)) > 10_000).all()
    assert 8 <= len(files(undisturbed)) <= 15, "about eight rows a file"
    assert not list(undisturbed.rglob(".v2a-tmp-*"))
    assert Store(str(undisturbed)).failures() == []


def test_the_same_run_makes_the_same_files(
    undisturbed: Path, archive: Path, recipe: str, tmp_path: Path
) -> None:
    assert run(archive, tmp_path / "again", recipe, rows_per_file=8) == 0
    assert files(tmp_path / "again") == files(undisturbed)


def test_a_finished_store_is_told_without_starting_anything(
    undisturbed: Path,
    archive: Path,
    recipe: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from jobs.common import ray_session

    def unwanted(*_: Any) -> Any:
        raise AssertionError("Ray is not needed to see that nothing is left to do")

    monkeypatch.setattr(ray_session, "session", unwanted)
    before = files(undisturbed)
    assert run(archive, undisturbed, recipe) == 0
    assert "Nothing to do: all 96 windows of 6 files" in capsys.readouterr().out
    assert files(undisturbed) == before


def test_new_files_add_only_their_rows(
    undisturbed: Path, archive: Path, recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grown, store = tmp_path / "archive", tmp_path / "store"
    shutil.copytree(archive, grown, copy_function=shutil.copy2)
    shutil.copytree(undisturbed, store)
    footage(grown, ["new"], 4.0)
    assert run(grown, store, recipe) == 0
    assert "8 windows to extract" in capsys.readouterr().out
    now = files(store)
    assert {name: now[name] for name in files(undisturbed)} == files(undisturbed)
    assert rows(store).num_rows == 104


def test_bad_files_become_rows_of_failures_and_are_tried_again(
    recipe: str, ray_session: Any, tmp_path: Path
) -> None:
    archive, store = footage(tmp_path / "archive", ["good"], 4.0), tmp_path / "store"
    write_video(archive / "mute.mp4", 2.0)
    (archive / "empty.mp4").touch()
    (archive / "notes.txt").write_text("not a video")
    (archive / "list.mp4").write_text("#EXTM3U\n#EXTINF:9,\n/etc/passwd\n")
    damaged = write_video(tmp_path / "whole.mp4", 4.0, fps=10, sound=0.5, codec="libx264")
    (archive / "damaged.mp4").write_bytes(
        media_files.scrambled(damaged, tmp_path / "scrambled.mp4").read_bytes()
    )
    assert run(archive, store, recipe) == 1
    failures = {row["path"]: row for row in Store(str(store)).failures()}
    assert set(failures) == {"empty.mp4", "list.mp4", "damaged.mp4"}
    assert failures["empty.mp4"]["error_class"] == "EmptyFile"
    assert failures["list.mp4"]["error_class"] == "ForbiddenFormat"
    assert all(row["stage"] and row["error"] for row in failures.values())
    assert set(rows(store)["path"].to_pylist()) == {"good.mp4".replace("good", "film good")}
    shutil.copy(damaged, archive / "damaged.mp4")
    (archive / "empty.mp4").unlink()
    (archive / "list.mp4").unlink()
    assert run(archive, store, recipe) == 0
    assert rows(store).num_rows == 16 and Store(str(store)).failures() == []


def test_labels_texts_and_splits_come_from_a_table(recipe: str, ray_session: Any, tmp_path: Path) -> None:
    archive, store = footage(tmp_path / "archive", ["a", "b"], 2.0), tmp_path / "store"
    (archive / "events.parquet").parent.mkdir(exist_ok=True)
    table = {
        "clip": ["film a.mp4"] * 2,
        "class": ["bell"] * 2,
        "caption": ["a bell rings"] * 2,
        "split": ["val"] * 2,
    }
    pq.write_table(pa.table(table), archive / "events.parquet")
    assert run(archive, store, recipe, splits=(0, 0, 1)) == 0
    found = {row["path"]: row for row in rows(store).select(["path", "label", "text", "split"]).to_pylist()}
    assert found == {
        "film a.mp4": {"path": "film a.mp4", "label": "bell", "text": "a bell rings", "split": "val"},
        "film b.mp4": {"path": "film b.mp4", "label": "", "text": "", "split": "test"},
    }


def test_silence_is_left_out_once_and_for_all(recipe: str, ray_session: Any, tmp_path: Path) -> None:
    archive, store = tmp_path / "archive", tmp_path / "store"
    archive.mkdir()
    media_files.write_video(archive / "half.mkv", duration_s=8.0, fps=10, sound="audible", sound_s=4.0)
    assert run(archive, store, recipe, drop_silent=-50.0) == 0
    assert rows(store)["start_s"].to_pylist() == [k / 2 for k in range(8)]
    assert Store(str(store)).left_out() == {"silence": 8}
    assert run(archive, store, recipe, drop_silent=-50.0) == 0
    assert rows(store).num_rows == 8


def test_too_many_failures_stop_the_run_and_keep_what_is_done(
    recipe: str, ray_session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, store = footage(tmp_path / "archive", ["a", "b", "c"], 2.0), tmp_path / "store"
    (archive / "z.mp4").write_bytes(b"nothing")
    assert run(archive, store, recipe, max_failed="10%") == 1
    said = capsys.readouterr()
    assert "--max-failed" in said.err and "v2a extract" in said.err
    assert [row["path"] for row in Store(str(store)).failures()] == ["z.mp4"], (
        "what stopped it can be looked up"
    )
    assert run(archive, store, recipe, max_failed="30%") == 1
    assert rows(store).num_rows == 12


def test_a_run_that_goes_wrong_on_the_way_stops_and_keeps_what_is_done(
    recipe: str, ray_session: Any, tmp_path: Path
) -> None:
    """The films of the second split are gone by the time they are to be decoded."""
    import ray

    from jobs.extract import preflight
    from pipelines.archive.scan import scan
    from pipelines.extract import pipeline, windows
    from pipelines.extract.progress import Ledger

    archive, store = footage(tmp_path / "archive", ["good", "gone"], 30.0), tmp_path / "store"
    config = ExtractConfig(str(archive), str(store), recipe=recipe, rows_per_file=10)
    prepared = preflight.prepare(config)
    clips = windows.plan(list(scan(str(archive))), prepared.recipe, None, (1, 0, 0))
    assert [clip.path for clip in clips] == ["film gone.mp4"] * 60 + ["film good.mp4"] * 60
    clips = clips[60:] + clips[:60]
    (archive / "film gone.mp4").unlink()
    ledger = ray.remote(num_cpus=0)(Ledger).remote(0.2)  # type: ignore[attr-defined]
    with pytest.raises(pipeline.ExtractionStopped, match="more than --max-failed allows"):
        pipeline.run(clips, preflight.make_job(prepared, config, 0), cpus=2, ledger=ledger)
    assert rows(store)["path"].to_pylist() == ["film good.mp4"] * 60
    failures = ray.get(ledger.read.remote()).failures
    assert len(failures) >= 15
    assert {row["error_class"] for row in failures.values()} == {"StorageNotFound"}


def test_a_run_is_recorded_in_mlflow(recipe: str, ray_session: Any, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    archive, store = footage(tmp_path / "archive", ["a"], 2.0), tmp_path / "store"
    assert extract.run(ExtractConfig(str(archive), str(store), recipe=recipe)) == 0
    client = MlflowClient(tracking_uri=f"sqlite:///{store}/_v2a/mlflow.db")
    experiment = client.get_experiment_by_name("v2a/extract")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["recipe"] == recipe
    assert run.data.metrics["rows_written"] == 4 and run.data.metrics["windows_failed"] == 0
    for stage in ("decode", "encode", "write"):
        assert run.data.metrics[f"x_realtime_per_core.{stage}"] > 0
    assert run.data.metrics["hours_written"] == pytest.approx(2 / 3600)
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {
        "_recipe.json",
        "_failures.parquet",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "bsae"}, "choose one of mini, base, base-audio, vatt, raw"),
        ({"labels": "/no/such.csv"}, "/no/such.csv"),
        ({"max_failed": "many"}, "--max-failed"),
        ({"splits": (0, 0, 0)}, "--splits"),
        ({"gpu_share": 0.0}, "--gpu-share"),
        ({"rows_per_file": 0}, "--rows-per-file"),
        ({"weights": ("codec=/x",)}, "has no codec"),
        ({"weights": ("/x",)}, "ROLE=FILE"),
        ({"overlap_s": 3.0}, "--overlap-s"),
    ],
)
def test_what_cannot_be_right_is_said_before_anything_starts(
    archive: Path, recipe: str, tmp_path: Path, options: dict[str, Any], message: str, capsys: Any
) -> None:
    config = {"recipe": recipe, **options}
    assert extract.run(ExtractConfig(str(archive), str(tmp_path / "store"), **config)) == 2
    assert message in capsys.readouterr().err


def test_another_recipe_is_refused_with_both_in_the_message(
    undisturbed: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(RECIPE.replace("rate: 8000", "rate: 16000"))
    assert run(archive, undisturbed, str(other)) == 2
    said = capsys.readouterr().err
    assert "sample_rate: 8000 there, 16000 now" in said and "there: {" in said and "now:   {" in said
    assert run(archive, archive / "inside", str(other)) == 2
    assert "lies inside ARCHIVE" in capsys.readouterr().err
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.doc").write_text("")
    assert run(archive, foreign, str(other)) == 2
    assert "thesis.doc" in capsys.readouterr().err


def test_describe_writes_nothing(archive: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.extract", str(archive), str(tmp_path / "store"), "--describe"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    for word in ("decode", "encode", "write", "codes", "semantic", "6 files", "rows", "core-hours"):
        assert word in done.stdout, word
    assert not (tmp_path / "store").exists()


def test_the_bundled_encoders_fill_a_store(ray_session: Any, tmp_path: Path) -> None:
    archive, store = footage(tmp_path / "archive", ["a"], 5.0), tmp_path / "store"
    assert run(archive, store, "mini") == 0
    found = rows(store)
    assert found["duration_s"].to_pylist() == [4.0, 1.0]
    codes = found["codes"].combine_chunks().to_numpy_ndarray()
    assert codes.shape == (2, 6, 345) and codes.max() < 512
    assert found["sync"].combine_chunks().to_numpy_ndarray().shape == (2, 100, 128)
    mask = found["mask"].combine_chunks().to_numpy_ndarray()
    assert mask[0].all() and 80 <= mask[1].sum() <= 90
