"""`v2a extract` through trouble: killed at any moment, interrupted, and on S3 servers that fail."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute
import pytest

from pipelines.store.store import Store
from tests.support import REPOSITORY, media_files, servers
from tests.support.extraction import footage, rows, run
from tests.support.toy_generators import write_video

pytestmark = pytest.mark.timeout(900)


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


MARKS = {"worker": "ray::Map", "ledger": "ray::Ledger", "decoder": "decoder_child", "raylet": "raylet/"}
"""Processes of a run by what their command lines hold: its Ray workers, the actor that counts, its decoders, its
Ray node."""


def victims(driver: int, kind: str) -> list[psutil.Process]:
    """The driver of a run, or those of its processes that are of a kind. Raises NoSuchProcess if it is over."""
    process = psutil.Process(driver)
    if kind == "driver":
        return [process]
    found = []
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # many live for a moment only
            if MARKS[kind] in " ".join(child.cmdline()):
                found.append(child)
    return found


def kill(process: subprocess.Popen[str], kind: str, rng: random.Random) -> bool:
    """Kills something of a run as soon as it is there; False if the run was over before."""
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            if found := victims(process.pid, kind):
                rng.choice(found).kill()
                return True
        time.sleep(0.01)
    return False


def strike(process: subprocess.Popen[str], kind: str, rng: random.Random) -> bool:
    """Interrupts a run or kills something of it, and waits for its end; False if it was over before."""
    if kind == "ctrl-c":
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=300)[0]
        if process.returncode == 0:
            return False
        assert process.returncode == 130, output
        assert "To resume, run" in output and "v2a extract" in output
        return True
    killed = kill(process, kind, rng)
    if kind == "driver":
        return process.wait(300) == -signal.SIGKILL
    output = process.communicate(timeout=600)[0]
    # Ray gives a lost worker's task to another; a lost node ends the run.
    assert kind == "raylet" or process.returncode == 0, output
    return killed


def disturb(archive: Path, store: Path, recipe: str, kinds: list[str], rng: random.Random) -> list[str]:
    """Runs the command until each of `kinds` has struck it, one after the other, and then to its end; what did."""
    struck = []
    for kind in kinds:
        for _ in range(5):
            before = parts(store)
            process = start(archive, store, recipe)
            try:
                # Something new must have been written, so that every run gets further.
                while parts(store) <= before and process.poll() is None:
                    time.sleep(0.01)
                time.sleep(rng.uniform(0, 0.3))
                if strike(process, kind, rng):
                    struck.append(kind)
                    break
            finally:
                if process.poll() is None:
                    process.kill()
            # It was too quick, or had nothing to do: it makes again what is lost.
            for file in sorted(store.glob("split=*/*.parquet"))[::2]:
                file.unlink()
    assert run(archive, store, recipe, rows_per_file=1) == 0
    return struck


def test_killed_interrupted_and_resumed_gives_the_rows_of_an_undisturbed_run(
    undisturbed: Path, archive: Path, recipe: str, tmp_path: Path
) -> None:
    store, kinds = tmp_path / "store", ["ctrl-c", "driver", "worker"]
    assert disturb(archive, store, recipe, kinds, random.Random(1)) == kinds
    assert rows(store).equals(rows(undisturbed))
    assert not list(store.rglob(".v2a-tmp-*"))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_at_random_a_dozen_times(recipe: str, ray_session: Any, tmp_path: Path) -> None:
    archive = footage(tmp_path / "archive", range(40), 16.0)
    assert run(archive, tmp_path / "whole", recipe) == 0
    rng = random.Random(2)
    # A run whose worker or decoder is killed goes on to its end: a store of its own for each of those.
    for kinds in (
        ["driver"] * 2 + ["ctrl-c"] + ["driver"] * 2 + ["worker"],
        ["driver"] * 3 + ["decoder"],
        ["worker"],
        ["ledger"],
        ["raylet"],
    ):
        store = tmp_path / f"store {kinds[-1]} {len(kinds)}"
        assert disturb(archive, store, recipe, kinds, rng) == kinds
        assert rows(store).equals(rows(tmp_path / "whole"))


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
    """True where the rows of two films equal those in the whole archive's store."""
    assert found.num_rows == 2 * 16
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
    media_files.write_video(path, duration_s=26.0, size=(640, 360), codec="rawvideo", sound="audible")
    size = path.stat().st_size
    assert size > 200 << 20, "the test needs a large file"
    client = servers.client(s3_port)
    client.create_bucket(Bucket="long")
    client.upload_file(str(path), "long", "film.avi")
    code = (
        "from pipelines.sandbox.decoder import Sandbox, View\n"
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


def test_a_store_without_rows_is_an_error_with_the_reason(
    recipe: str, ray_session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, store = tmp_path / "archive", tmp_path / "store"
    archive.mkdir()

    def reason(store: Path, **options: Any) -> str:
        assert run(archive, store, recipe, **options) == 1
        said = capsys.readouterr().err
        assert "holds no rows: " in said
        return said

    assert "archive holds no files" in reason(store)
    write_video(archive / "mute.mp4", 1.0, fps=10)
    assert "1 files have no sound, or no picture" in reason(store)
    (archive / "broken.mp4").write_bytes(b"nothing")
    assert "1 files or windows failed, the first: broken.mp4 (" in reason(store)
    write_video(archive / "soft.mp4", 1.0, fps=10, sound=0.5)
    for _ in range(2):  # there is nothing left to do for the second run
        assert "2 windows were left out (static picture: see --drop-silent" in reason(
            tmp_path / "other", drop_static=255.0
        )
