"""`v2a dub` as a user runs it: the real command line on generated media, killed and resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from jobs import dub
from jobs.dub import DubConfig
from tests.support import REPOSITORY
from tests.support.toy_generators import NOISE, EchoGenerator, reference, toy_generator, write_video

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("ray_session")]

AGENTS = [["ray::DashboardAgent"], ["ray::RuntimeEnvAgent"]]


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """`v2a dub ARGUMENTS` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "jobs.dub", *arguments],
        cwd=cwd,
        # Where the generators of the tests are found. The environment holds other packages named `tests`.
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell's background jobs ignore Ctrl-C and hand that down; the command must not inherit it here.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def digests(out: Path) -> dict[str, str]:
    """sha256 of every dubbed file."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and "_v2a" not in path.parts
    }


def report(out: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(out / "_v2a" / "report.parquet").to_pylist()
    assert len({row["video_id"] for row in rows}) == len(rows)
    return {row["path"]: row for row in rows}


@pytest.fixture(scope="module")
def silent_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good silent videos only, long enough for several segments."""
    root = tmp_path_factory.mktemp("silent")
    for k in range(3):
        write_video(root / f"reel {k}.mp4", 6.0, fps=8)
    return root


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive with every kind of file."""
    root = tmp_path / "archive"
    write_video(root / "silent.mp4", 2.0)
    write_video(root / "sub folder" / "-[odd] 'näme' \".mkv", 1.0)
    write_video(root / "loud.mp4", 1.0, sound=0.5)
    write_video(root / "quiet.mp4", 1.0, sound=0.0)
    (root / "empty.mp4").touch()
    whole = write_video(root / "whole.avi", 2.0).read_bytes()
    (root / "broken.mp4").write_bytes(whole[::-1])
    (root / "list.mp4").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n"
    )
    (root / "notes.txt").write_text("not a video")
    (root / "loop").symlink_to(root, target_is_directory=True)
    return root


def run(config: DubConfig, model: str = NOISE) -> int:
    return dub.run(dataclasses.replace(config, model=model))


# what comes out


def test_every_file_is_accounted_for(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in archive.rglob("*") if path.is_file()}
    originals = {path: path.read_bytes() for path in before}
    out = tmp_path / "out"
    assert run(DubConfig(str(archive), str(out))) == 1
    rows = report(out)
    status = {path: row["status"] for path, row in rows.items() if path != "loop"}
    assert status == {
        "silent.mp4": "dubbed",
        "sub folder/-[odd] 'näme' \".mkv": "dubbed",
        "quiet.mp4": "dubbed",
        "whole.avi": "dubbed",
        "loud.mp4": "skipped",
        "notes.txt": "skipped",
        "empty.mp4": "failed",
        "broken.mp4": "failed",
        "list.mp4": "failed",
    }
    for row in rows.values():
        assert (row["status"] == "dubbed") == bool(row["output"])
        if row["status"] == "dubbed":
            assert (out / row["output"]).stat().st_size > 0
            assert (out / row["card"]).exists()
            assert row["n_windows"] >= 1
        else:
            assert row["reason"]
        if row["status"] == "failed":
            assert row["stage"] and row["error_class"]
    assert (out / "_v2a" / "report.html").exists()
    assert sorted(digests(out)) == sorted(row["output"] for row in rows.values() if row["output"])
    assert {path: path.read_bytes() for path in before} == originals
    assert {path: path.stat().st_mtime_ns for path in before} == before
    text = capsys.readouterr().out
    assert "4 dubbed" in text and "report.html" in text
    assert "(1 with sound; --only all includes those)" in " ".join(text.split())

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{out}/_v2a/mlflow.db")
    experiment = client.get_experiment_by_name("v2a/dub")
    [tracked] = client.search_runs([experiment.experiment_id])
    assert tracked.info.status == "FINISHED"
    assert tracked.data.metrics["files_dubbed"] == 4
    assert tracked.data.params["only"] == "silent"
    kept = {item.path for item in client.list_artifacts(tracked.info.run_id)}
    assert {"report.html", "report.parquet", "clips"} <= kept

    # Again: all that was dubbed is kept as it is; what failed is tried again.
    first = digests(out)
    written = {name: (out / name).stat().st_mtime_ns for name in first}
    assert run(DubConfig(str(archive), str(out), tracking_uri="off")) == 1
    assert {name: (out / name).stat().st_mtime_ns for name in first} == written
    assert {path: row["status"] for path, row in report(out).items()} == {
        path: row["status"] for path, row in rows.items()
    }
    assert "4 already dubbed" in capsys.readouterr().out

    # A lost output and a new file are the only things made, and loud files only when asked for.
    (out / "silent.mp4").unlink()
    write_video(archive / "new.mp4", 1.0)
    assert run(DubConfig(str(archive), str(out), tracking_uri="off", only="all")) == 1
    rows = report(out)
    assert (rows["new.mp4"]["status"], rows["loud.mp4"]["status"]) == ("dubbed", "dubbed")
    again = digests(out)
    assert {name: again[name] for name in first} == first

    # Another seed is another sound: not into the same output, unless everything is to be done again.
    assert run(DubConfig(str(archive), str(out), tracking_uri="off", seed=1)) == 2
    answer = capsys.readouterr().err
    assert "seed: 0 there, 1 now" in answer and "--restart" in answer
    assert run(DubConfig(str(archive), str(out), tracking_uri="off", seed=1, restart=True)) == 1
    assert digests(out)["silent.mp4"] != first["silent.mp4"]


def is_over(process: psutil.Process) -> bool:
    """It has ended, or is one of Ray's agents, which only try for a minute to report to a server that is gone."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE or process.cmdline()[:1] in AGENTS
    except psutil.NoSuchProcess:
        return True


def kill_on_the_way(silent_archive: Path, cut: Path, *options: str) -> bool:
    """Kills the command once a segment is done, and waits for all that it started; False if it was over before."""
    job = start(str(silent_archive), str(cut), *options, "--num-workers", "1", cwd=cut.parent)
    family: list[psutil.Process] = []
    try:
        while not list((cut / "_v2a").glob("parts/**/*.npz")) and job.poll() is None:
            time.sleep(0.02)
        if job.poll() is None:
            family = psutil.Process(job.pid).children(recursive=True)
    finally:
        job.kill()
        code = job.wait()
    while not all(map(is_over, family)):  # what the job had started ends with it
        time.sleep(0.05)
    assert code in (0, -signal.SIGKILL), job.communicate()[0]
    return code == -signal.SIGKILL and not (cut / "_v2a" / "report.parquet").exists()


@pytest.mark.parametrize("load", [toy_generator, EchoGenerator])
def test_killed_and_resumed_is_the_same_as_undisturbed(
    silent_archive: Path, tmp_path: Path, load: Any
) -> None:
    model = reference(load)
    options = ("--model", model, "--segment-s", "1.0", "--batch-size", "2", "--tracking-uri", "off")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    config = DubConfig(str(silent_archive), str(whole), segment_s=1.0, batch_size=2, tracking_uri="off")
    assert run(config, model) == 0
    for _ in range(3):  # on a busy machine a job may be over before this process has its turn
        shutil.rmtree(cut, ignore_errors=True)
        if killed := kill_on_the_way(silent_archive, cut, *options):
            break
    assert killed
    assert run(DubConfig(**{**vars(config), "out": str(cut)}), model) == 0
    assert digests(cut) == digests(whole)
    assert len(digests(cut)) == 3
    assert {row["status"] for row in report(cut).values()} == {"dubbed"}
    assert not list(cut.rglob("*.npz"))
    assert not list(cut.rglob(".v2a-tmp-*"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_prints_the_command_that_resumes(
    silent_archive: Path, tmp_path: Path, how: signal.Signals
) -> None:
    arguments = [str(silent_archive), "an out", "--model", NOISE, "--segment-s", "1.0", "--num-workers", "1"]
    job = start(*arguments, cwd=tmp_path)
    rows = tmp_path / "an out" / "_v2a"
    while not (rows / "config.json").exists():
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.05)
    if how == signal.SIGINT:
        os.killpg(job.pid, how)  # as a terminal does: to all processes of the command
    else:
        job.send_signal(how)
    text, _ = job.communicate(timeout=300)
    assert job.returncode == 130, text
    command = text.strip().splitlines()[-1].strip()
    assert shlex.split(command) == [
        "v2a",
        "dub",
        str(silent_archive),
        "an out",
        *arguments[2:4],
        *arguments[-2:],
        *arguments[4:6],
    ]
    assert "Traceback" not in text


def test_dry_run_writes_nothing(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(DubConfig(str(archive), str(out), dry_run=True)) == 0
    assert not out.exists()
    text = capsys.readouterr().out
    assert "4 files to dub" in text
    assert "Nothing was written" in text
    assert "not a video" in text


HUM = """
import torch
import v2a
from v2a_models.recipe import Recipe


class Hum(v2a.Generator):
    name, system, sha256 = "hum", "hum", "1" * 64
    recipe = Recipe("hum", window_s=1.0, overlap_s=0.2)

    def generate_from_frames(self, frames, seeds, **sampling):
        return torch.full((len(seeds), self.recipe.channels, self.recipe.window), 0.25)
"""


def test_a_model_of_your_own_on_the_python_path(tmp_path: Path) -> None:
    write_video(tmp_path / "archive" / "film.mkv", 1.0)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "hum.py").write_text(HUM)
    command = [sys.executable, "-P", "-m", "jobs.dub", "archive", "out", "--model", "hum:Hum"]
    command += ["--tracking-uri", "off", "--num-workers", "1"]
    for path, code, words in (("", 2, "name its folder in PYTHONPATH"), ("models", 0, "1 dubbed")):
        environment = {**os.environ, "PYTHONPATH": path and str(tmp_path / path)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert words in " ".join((done.stdout + done.stderr).split())
    assert report(tmp_path / "out")["film.mkv"]["sound_peak_dbfs"] == pytest.approx(-12.04, abs=0.1)
