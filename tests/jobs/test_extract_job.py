"""`v2a extract` as a user runs it: the real command line on generated media, killed, resumed and misused."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import media
import psutil
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
import servers
from samples import write_video

from jobs import extract
from jobs.extract import ExtractConfig
from pipelines.store import Store

pytestmark = pytest.mark.timeout(900)

REPOSITORY = Path(__file__).resolve().parents[2]

# Pixels and samples only: no encoder has to be loaded, so that many runs fit into a test.
RECIPE = """
name: small
window_s: 0.5
frames: {fps: 10, width: 16, height: 12}
waveform: {rate: 8000, channels: 1}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(RECIPE)
    return str(path)


def footage(root: Path, names: range | list[str], seconds: float = 8.0) -> Path:
    for name in names:
        write_video(root / f"film {name}.mp4", seconds, fps=10, sound=0.5)
    return root


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve films of 12 s: 288 windows of half a second."""
    return footage(tmp_path_factory.mktemp("archive"), range(12), 12.0)


def run(archive: Path, store: Path, recipe: str, **options: Any) -> int:
    return extract.run(ExtractConfig(str(archive), str(store), recipe=recipe, tracking_uri="off", **options))


def rows(store: Path | str) -> pa.Table:
    """All rows in the order of their clips, as pyarrow's own reader finds them."""
    found = pq.read_table(str(store), partitioning="hive").sort_by("clip_id")
    ids = found["clip_id"].to_pylist()
    assert len(ids) == len(set(ids)), "a row is there twice"
    return found


def files(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in sorted(store.glob("split=*/*"))}


@pytest.fixture(scope="module")
def undisturbed(
    archive: Path, recipe: str, ray_session: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    assert run(archive, store, recipe, rows_per_file=20) == 0
    return store


# what comes out


def test_every_window_of_every_file_is_a_row(undisturbed: Path, archive: Path) -> None:
    found = rows(undisturbed)
    assert found.num_rows == 288
    paths = found["path"].to_pylist()
    assert {path: paths.count(path) for path in paths} == {f"film {k}.mp4": 24 for k in range(12)}
    assert set(found["start_s"].to_pylist()) == {k / 2 for k in range(24)}
    assert set(found["split"].to_pylist()) <= {"train", "val", "test"}
    assert found["frames"].combine_chunks().to_numpy_ndarray().shape == (288, 5, 12, 16, 3)
    sound = found["waveform"].combine_chunks().to_numpy_ndarray()
    assert sound.shape == (288, 1, 4000) and (abs(sound.astype(int)).max(axis=(1, 2)) > 10_000).all()
    assert 10 <= len(files(undisturbed)) <= 22, "about twenty rows a file"
    assert not list(undisturbed.rglob(".v2a-tmp-*"))
    assert Store(str(undisturbed)).failures() == []


def test_the_same_run_makes_the_same_files(
    undisturbed: Path, archive: Path, recipe: str, tmp_path: Path
) -> None:
    assert run(archive, tmp_path / "again", recipe, rows_per_file=20) == 0
    assert files(tmp_path / "again") == files(undisturbed)


def test_a_finished_store_is_told_without_starting_anything(
    undisturbed: Path,
    archive: Path,
    recipe: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from jobs import ray_session

    def unwanted(*_: Any) -> Any:
        raise AssertionError("Ray is not needed to see that nothing is left to do")

    monkeypatch.setattr(ray_session, "session", unwanted)
    before = files(undisturbed)
    assert run(archive, undisturbed, recipe) == 0
    assert "Nothing to do: all 288 windows of 12 files" in capsys.readouterr().out
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
    assert rows(store).num_rows == 296


def test_bad_files_become_rows_of_failures_and_are_tried_again(
    recipe: str, ray_session: Any, tmp_path: Path
) -> None:
    archive, store = footage(tmp_path / "archive", ["good"], 4.0), tmp_path / "store"
    write_video(archive / "mute.mp4", 2.0)
    (archive / "empty.mp4").touch()
    (archive / "notes.txt").write_text("not a video")
    (archive / "list.mp4").write_text("#EXTM3U\n#EXTINF:9,\n/etc/passwd\n")
    damaged = write_video(tmp_path / "whole.mp4", 4.0, fps=10, sound=0.5, codec="libx264")
    (archive / "damaged.mp4").write_bytes(media.scrambled(damaged, tmp_path / "scrambled.mp4").read_bytes())
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
    media.write_video(archive / "half.mkv", duration_s=8.0, fps=10, sound="audible", sound_s=4.0)
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
    assert run(archive, store, recipe, max_failed="30%") == 1
    assert rows(store).num_rows == 12


def test_a_run_that_goes_wrong_on_the_way_stops_and_keeps_what_is_done(
    recipe: str, ray_session: Any, tmp_path: Path
) -> None:
    """The films of the second split are gone by the time they are to be decoded."""
    import ray

    from jobs import extract_plan
    from pipelines import clips as planning
    from pipelines import extract as pipeline
    from pipelines.archive import scan
    from pipelines.ledger import Ledger

    archive, store = footage(tmp_path / "archive", ["good", "gone"], 30.0), tmp_path / "store"
    config = ExtractConfig(str(archive), str(store), recipe=recipe, rows_per_file=10)
    prepared = extract_plan.prepare(config)
    clips = planning.plan(list(scan(str(archive))), prepared.recipe, None, (1, 0, 0))
    assert [clip.path for clip in clips] == ["film gone.mp4"] * 60 + ["film good.mp4"] * 60
    clips = clips[60:] + clips[:60]
    (archive / "film gone.mp4").unlink()
    ledger = ray.remote(num_cpus=0)(Ledger).remote(0.2)  # type: ignore[attr-defined]
    with pytest.raises(pipeline.ExtractionStopped, match="more than --max-failed allows"):
        pipeline.run(clips, extract_plan.make_job(prepared, config, 0), cpus=2, ledger=ledger)
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
        ({"recipe": "bsae"}, "choose one of mini, base, vatt, raw"),
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
    for word in ("decode", "encode", "write", "codes", "semantic", "12 files", "rows", "core-hours"):
        assert word in done.stdout, word
    assert not (tmp_path / "store").exists()


def test_the_bundled_encoders_fill_a_store(ray_session: Any, tmp_path: Path) -> None:
    archive, store = footage(tmp_path / "archive", ["a"], 5.0), tmp_path / "store"
    assert run(archive, store, "mini") == 0
    found = rows(store)
    assert found["duration_s"].to_pylist() == [4.0, 1.0]
    codes = found["codes"].combine_chunks().to_numpy_ndarray()
    assert codes.shape == (2, 4, 345) and codes.max() < 512
    assert found["sync"].combine_chunks().to_numpy_ndarray().shape == (2, 100, 128)
    mask = found["mask"].combine_chunks().to_numpy_ndarray()
    assert mask[0].all() and 80 <= mask[1].sum() <= 90


# kills


def start(archive: Path | str, store: Path | str, recipe: str, **environment: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "jobs.extract", str(archive), str(store), "--recipe", recipe]
    return subprocess.Popen(
        [*command, "--rows-per-file", "1", "--num-workers", "2", "--tracking-uri", "off"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, **environment},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def parts(store: Path) -> int:
    return len(list(store.glob("split=*/*.parquet")))


def victims(driver: int, kind: str) -> list[psutil.Process]:
    """Processes of a run: its driver, its Ray workers, the actor that counts, its decoders, its Ray node."""
    process = psutil.Process(driver)
    if kind == "driver":
        return [process]
    found = []
    for child in process.children(recursive=True):
        name = " ".join(child.cmdline())
        marks = {
            "worker": "ray::Map",
            "ledger": "ray::Ledger",
            "decoder": "sandbox_child",
            "raylet": "raylet/",
        }
        if marks[kind] in name:
            found.append(child)
    return found


def disturb(archive: Path, store: Path, recipe: str, kinds: list[str], rng: random.Random) -> int:
    """Runs the command once for each of `kinds`, killing something of it, and once to its end; the number of kills."""
    kills = 0
    for kind in [*kinds, "nothing"]:
        before = parts(store)
        process = start(archive, store, recipe)
        try:
            # Something new must have been written, so that every run gets further.
            while kind != "nothing" and parts(store) <= before and process.poll() is None:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))
            if kind == "ctrl-c":
                process.send_signal(signal.SIGINT)
                output = process.communicate(timeout=120)[0]
                assert process.returncode == 130, output
                assert "To go on where it stopped" in output and "v2a extract" in output
                continue
            for victim in rng.sample(found := victims(process.pid, kind), min(1, len(found))):
                if process.poll() is None:
                    victim.kill()
                    kills += 1
            if kind == "driver":
                process.wait(60)
            else:
                output = process.communicate(timeout=400)[0]
                # Ray gives a lost worker's task to another; a lost node ends the run.
                assert kind == "raylet" or process.returncode == 0, output
        except psutil.NoSuchProcess:
            process.wait(400)
        finally:
            if process.poll() is None:
                process.kill()
    return kills


def test_killed_interrupted_and_resumed_gives_the_rows_of_an_undisturbed_run(
    undisturbed: Path, archive: Path, recipe: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    assert disturb(archive, store, recipe, ["driver", "ctrl-c", "driver", "worker"], random.Random(1)) == 3
    assert rows(store).equals(rows(undisturbed))
    assert not list(store.rglob(".v2a-tmp-*"))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_at_random_a_dozen_times(recipe: str, ray_session: Any, tmp_path: Path) -> None:
    archive = footage(tmp_path / "archive", range(40), 16.0)
    assert run(archive, tmp_path / "whole", recipe) == 0
    rng = random.Random(2)
    kills = 0
    # A run whose worker or decoder is killed goes on to its end: a store of its own for each of those.
    for kinds in (
        ["driver"] * 4 + ["worker"],
        ["driver"] * 3 + ["decoder"],
        ["worker"],
        ["ledger"],
        ["raylet"],
    ):
        store = tmp_path / f"store {kills}"
        kills += disturb(archive, store, recipe, kinds, rng)
        assert rows(store).equals(rows(tmp_path / "whole"))
    assert kills >= 10


# S3


def upload(client: Any, bucket: str, folder: Path) -> None:
    client.create_bucket(Bucket=bucket)
    for path in sorted(folder.rglob("*.mp4"))[:2]:
        client.upload_file(str(path), bucket, f"films/{path.relative_to(folder).as_posix()}")


def download(client: Any, bucket: str, folder: Path) -> Path:
    """The store in a bucket as files."""
    for item in client.list_objects_v2(Bucket=bucket, Prefix="store/").get("Contents", []):
        path = folder / item["Key"].removeprefix("store/")
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, item["Key"], str(path))
    return folder


def content(table: pa.Table) -> list[tuple[Any, ...]]:
    """Rows without what the place of a file decides."""
    kept = table.drop_columns(["clip_id", "video_id"]).to_pylist()
    return sorted((row["path"], row["start_s"], row["frames"], row["waveform"]) for row in kept)


def extract_on_s3(
    environment: dict[str, str], client: Any, bucket: str, recipe: str, folder: Path, lose: int = 0
) -> pa.Table:
    """Extracts two films of a bucket into the same bucket, twice; the rows, fetched into `folder`.

    `lose` of the first run's files are removed again, and a third run makes them anew.
    """
    process = start(f"s3://{bucket}/films", f"s3://{bucket}/store", recipe, **environment)
    output = process.communicate(timeout=400)[0]
    assert process.returncode == 0, output
    if lose:
        held = client.list_objects_v2(Bucket=bucket, Prefix="store/split=")["Contents"]
        for item in held[:lose]:
            client.delete_object(Bucket=bucket, Key=item["Key"])
        process = start(f"s3://{bucket}/films", f"s3://{bucket}/store", recipe, **environment)
        output = process.communicate(timeout=400)[0]
        assert process.returncode == 0 and f"{lose} windows to extract" in output, output
    again = start(f"s3://{bucket}/films", f"s3://{bucket}/store", recipe, **environment)
    assert "Nothing to do" in again.communicate(timeout=100)[0]
    store = download(client, bucket, folder)
    assert Store(str(store)).failures() == []
    return rows(store)


def same_films(found: pa.Table, whole: pa.Table) -> bool:
    """Whether two films' rows are those that the whole archive's store has for them."""
    assert found.num_rows == 2 * 24
    chosen = pa.compute.is_in(whole["path"], found["path"].combine_chunks())
    return content(found) == content(whole.filter(chosen))


def test_from_s3_to_s3_through_trouble(
    s3_port: int, undisturbed: Path, archive: Path, recipe: str, tmp_path: Path
) -> None:
    """Every ninth request is answered with an error: nothing is lost, nothing is called bad. (Two films.)"""
    client = servers.client(s3_port)
    upload(client, "trouble", archive)
    seen = iter(range(10**9))
    reasons = {4: 503, 8: 500}
    with servers.Proxy(s3_port, lambda method, path: reasons.get(next(seen) % 18, 0)) as proxy:
        found = extract_on_s3(servers.environment(proxy.port), client, "trouble", recipe, tmp_path / "down")
        assert proxy.failed > 3
    assert same_films(found, rows(undisturbed))


@pytest.mark.slow
def test_on_an_s3_server_of_another_make(
    undisturbed: Path, archive: Path, recipe: str, tmp_path: Path
) -> None:
    """s3rver, which shares no code with moto, fetched from npm."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("needs node and npm")
    subprocess.run([npm, "install", "--silent", "--prefix", str(tmp_path), "s3rver@3.7.1"], check=True)
    script = str(tmp_path / "node_modules/s3rver/bin/s3rver.js")
    port = servers.free_port()
    command = [node, script, "-d", str(tmp_path / "data"), "-p", str(port), "-a", "127.0.0.1"]
    with servers.running(command, port):
        client = servers.client(port)
        upload(client, "films", archive)
        found = extract_on_s3(servers.environment(port), client, "films", recipe, tmp_path / "down", lose=7)
    assert same_films(found, rows(undisturbed))


def test_a_window_of_a_long_file_does_not_fetch_the_file(s3_port: int, tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    media.write_video(path, duration_s=26.0, size=(640, 360), codec="rawvideo", sound="audible")
    size = path.stat().st_size
    assert size > 200 << 20, "the test needs a large file"
    client = servers.client(s3_port)
    client.create_bucket(Bucket="long")
    client.upload_file(str(path), "long", "film.avi")
    code = (
        "from pipelines.sandbox import Sandbox, View\n"
        "with Sandbox() as sandbox:\n"
        "    (frames,) = sandbox.iter_views('s3://long/film.avi', [View(5, 32, 18)], 14.0, [15.0])\n"
        "    assert frames[0].shape == (5, 18, 32, 3)\n"
        "    sound = sandbox.decode_sound('s3://long/film.avi', 14.0, 15.0, 8000, origin_s=0.0)\n"
        "    assert abs(sound).max() > 0.3\n"
    )
    with servers.Proxy(s3_port) as proxy:
        environment = {**os.environ, **servers.environment(proxy.port)}
        subprocess.run([sys.executable, "-c", code], env=environment, cwd=REPOSITORY, check=True, timeout=200)
        assert 0 < sum(proxy.sent.values()) < size / 3
