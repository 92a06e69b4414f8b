"""`v2a dub` as a user runs it: the real command line on generated media, killed, resumed and misused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import psutil
import pyarrow.parquet as pq
import pytest
from samples import (
    EchoGenerator,
    NoiseGenerator,
    load_echo,
    load_noise,
    load_toy,
    toy_checkpoint,
    write_video,
)

from jobs import dub
from jobs.dub import DubConfig
from jobs.film_options import FilmOptions
from v2a_models.recipe import Recipe

pytestmark = pytest.mark.timeout(600)

COMMAND = """
import sys
sys.path.insert(0, {tests!r})
import ray.cloudpickle, samples
ray.cloudpickle.register_pickle_by_value(samples)
from jobs import cli, dub
sys.exit(dub.run(cli.parse(dub.DubConfig, sys.argv[1:], "v2a dub"), load=samples.{load}))
"""


def start(*arguments: str, cwd: Path, load: str = "load_noise") -> subprocess.Popen[str]:
    """`v2a dub ARGUMENTS` in a process of its own, with a generator that needs no weights."""
    code = COMMAND.format(tests=str(Path(__file__).parents[1]), load=load)
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
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
    """All that an archive may hold."""
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


def run(config: DubConfig, load: Any = load_noise) -> int:
    return dub.run(config, load=load)


@pytest.fixture(autouse=True)
def _pickled_by_value(ray_session: Any) -> None:
    import ray.cloudpickle
    import samples

    ray.cloudpickle.register_pickle_by_value(samples)


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
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill_on_the_way(silent_archive: Path, cut: Path, *options: str, load: Any) -> bool:
    """Kills the command once a segment is done, and waits for all that it started; False if it was over before."""
    job = start(
        str(silent_archive), str(cut), *options, "--num-workers", "1", cwd=cut.parent, load=load.__name__
    )
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


@pytest.mark.parametrize("load", [load_toy, load_echo])
def test_killed_and_resumed_is_the_same_as_undisturbed(
    silent_archive: Path, tmp_path: Path, load: Any
) -> None:
    options = ("--segment-s", "1.0", "--batch-size", "2", "--tracking-uri", "off")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    config = DubConfig(str(silent_archive), str(whole), segment_s=1.0, batch_size=2, tracking_uri="off")
    assert run(config, load) == 0
    for _ in range(3):  # on a busy machine a job may be over before this process has its turn
        shutil.rmtree(cut, ignore_errors=True)
        if killed := kill_on_the_way(silent_archive, cut, *options, load=load):
            break
    assert killed
    assert run(DubConfig(**{**vars(config), "out": str(cut)}), load) == 0
    assert digests(cut) == digests(whole)
    assert len(digests(cut)) == 3
    assert {row["status"] for row in report(cut).values()} == {"dubbed"}
    assert not list(cut.rglob("*.npz"))
    assert not list(cut.rglob(".v2a-tmp-*"))


def test_ctrl_c_prints_the_command_that_resumes(silent_archive: Path, tmp_path: Path) -> None:
    arguments = [str(silent_archive), "an out", "--segment-s", "1.0", "--num-workers", "1"]
    job = start(*arguments, cwd=tmp_path)
    rows = tmp_path / "an out" / "_v2a"
    while not (rows / "config.json").exists():
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGINT)  # as a terminal does: to all processes of the command
    text, _ = job.communicate(timeout=300)
    assert job.returncode == 130, text
    command = text.strip().splitlines()[-1].strip()
    assert shlex.split(command) == [
        "v2a",
        "dub",
        str(silent_archive),
        "an out",
        *arguments[-2:],
        *arguments[2:4],
    ]
    assert "Traceback" not in text


# what is refused, and what is only said


@pytest.mark.parametrize("inside", ["archive/out", "archive", "."])
def test_out_and_archive_may_not_contain_each_other(
    inside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "archive" / "a.mp4", 0.3)
    assert run(DubConfig(str(tmp_path / "archive"), str(tmp_path / inside))) == 2
    assert "inside" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.mp4", "archive"]


def test_missing_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(DubConfig(str(tmp_path / "nowhere"), str(tmp_path / "out"))) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unwritable_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "archive" / "a.mp4", 0.3)
    (tmp_path / "file").write_text("in the way")
    assert run(DubConfig(str(tmp_path / "archive"), str(tmp_path / "file" / "out"))) == 2
    assert "choose another output folder" in capsys.readouterr().err


def test_out_with_somebody_elses_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "archive" / "a.mp4", 0.3)
    mine = write_video(tmp_path / "out" / "a.mp4", 0.2).read_bytes()
    assert run(DubConfig(str(tmp_path / "archive"), str(tmp_path / "out"))) == 2
    assert "did not make" in capsys.readouterr().err
    assert (tmp_path / "out" / "a.mp4").read_bytes() == mine


def test_unknown_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "archive" / "a.mp4", 0.3)
    assert dub.run(DubConfig(str(tmp_path / "archive"), str(tmp_path / "out"), model="maxi")) == 2
    assert "maxi" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"), [("num_workers", 0), ("batch_size", 0), ("segment_s", 0.0), ("candidates", 0)]
)
def test_wrong_numbers(option: str, value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = DubConfig(str(tmp_path), str(tmp_path / "out"))
    setattr(config, option, value)
    assert run(config) == 2
    assert "--" + option.replace("_", "-") in capsys.readouterr().err


def test_dry_run_writes_nothing(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(DubConfig(str(archive), str(out), dry_run=True)) == 0
    assert not out.exists()
    text = capsys.readouterr().out
    assert "4 files to dub" in text
    assert "Nothing was written" in text
    assert "not a video" in text


def test_an_archive_without_videos(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "notes.txt").write_text("nothing to see")
    assert run(DubConfig(str(tmp_path / "archive"), str(tmp_path / "out"), tracking_uri="off")) == 0
    assert {path: row["status"] for path, row in report(tmp_path / "out").items()} == {"notes.txt": "skipped"}


class Worse(NoiseGenerator):
    """Has another recipe under the same name."""

    sha256 = "1" * 64


def test_another_model_does_not_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "archive").mkdir()
    config = DubConfig(str(tmp_path / "archive"), str(tmp_path / "out"), tracking_uri="off")
    assert run(config) == 0
    assert dub.run(config, load=lambda name: Worse()) == 2
    assert "model_sha256" in capsys.readouterr().err


# models that go on from their own past


def test_another_length_of_segments_is_another_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "archive").mkdir()
    config = DubConfig(str(tmp_path / "archive"), str(tmp_path / "out"), tracking_uri="off", segment_s=1.99)
    assert run(config, load_echo) == 0
    config.segment_s = 1.97  # as many whole pictures
    assert run(config, load_echo) == 0
    config.segment_s = 3.0
    assert run(config, load_echo) == 2
    assert "segment_s: 1.96 there, 3.0 now" in capsys.readouterr().err


def test_a_checkpoint_says_whether_it_streams(tmp_path: Path) -> None:
    from jobs.preflight import make_job

    config = DubConfig("archive", "out", model=toy_checkpoint(tmp_path / "toy"), segment_s=10.0)
    job = make_job(config, None)
    assert not job.streams and job.layout is not None and job.windows_per_segment == job.layout.windows > 1
    faded = make_job(dataclasses.replace(config, film=FilmOptions(joins="crossfade")), None)
    assert faded.layout is None and faded.windows_per_segment > 1 and faded.overlap > 0
    file = tmp_path / "toy" / "config.json"
    known = json.loads(file.read_text())
    assert (known["streams"], known["context_frames"]) == (False, 0)
    known |= {"streams": True, "context_frames": 7}
    known["recipe"] |= {
        "frames": {"fps": 25, "width": 32, "height": 32},
        "sample_rate": 16_000,
        "channels": 2,
    }
    file.write_text(json.dumps(known))
    job = make_job(config, None)
    assert job.streams and (job.rate, job.channels, job.frame, job.context) == (16_000, 2, 640, 7 * 640)
    assert (job.window, job.overlap, job.windows_per_segment) == (160_000, 0, 1)


class OddRate(EchoGenerator):
    recipe = dataclasses.replace(EchoGenerator.recipe, sample_rate=16_010)


class Blind(NoiseGenerator):
    recipe = Recipe("blind", semantic=None, sync=None)


@pytest.mark.parametrize(
    ("kind", "words"), [(OddRate, "lasts 640.400 samples"), (Blind, "looks at no pictures")]
)
def test_recipes_that_cannot_be_dubbed_with(
    kind: type[NoiseGenerator], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "archive").mkdir()
    assert run(DubConfig(str(tmp_path / "archive"), str(tmp_path / "out")), lambda name: kind()) == 2
    assert words in capsys.readouterr().err


# candidates


@pytest.mark.slow
def test_the_best_of_several_candidates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = toy_checkpoint(tmp_path / "toy")
    write_video(tmp_path / "archive" / "a.mp4", 1.0)
    archive, out = str(tmp_path / "archive"), str(tmp_path / "out")
    config = DubConfig(archive, out, model=model, candidates=3, batch_size=2, tracking_uri="off")
    assert dub.run(config) == 0
    assert "best of 3 candidates" in " ".join(capsys.readouterr().out.split())
    assert report(tmp_path / "out")["a.mp4"]["status"] == "dubbed"
    with av.open(str(tmp_path / "out" / "a.mp4")) as film:
        assert "seed 0, best of 3 candidates" in film.metadata["comment"]
    sidecars = [json.loads(path.read_text()) for path in (tmp_path / "out" / "_v2a").rglob("*.json")]
    assert [side["generator"]["candidates"] for side in sidecars if "generator" in side] == [3]
    assert json.loads((tmp_path / "out" / "_v2a" / "summary.json").read_text())["candidates"] == 3


def test_a_model_that_cannot_choose_among_candidates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, out = str(tmp_path / "archive"), str(tmp_path / "out")
    (tmp_path / "archive").mkdir()
    plain = toy_checkpoint(tmp_path / "plain", scav=False)
    config = DubConfig(archive, out, model=plain, candidates=2)
    assert dub.run(config) == 2
    assert "no SCAV" in capsys.readouterr().err
    config.model = toy_checkpoint(tmp_path / "torn")
    file = tmp_path / "torn" / "scav.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    assert dub.run(config) == 2
    assert "truncated" in capsys.readouterr().err
    assert run(DubConfig(archive, out, candidates=2)) == 2  # a generator that is no MaskVAT
    assert "no SCAV" in capsys.readouterr().err
    assert list((tmp_path / "out").rglob("*")) == []


def test_candidates_are_told_apart_from_none_and_from_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs.preflight import make_job
    from pipelines.parts import State

    archive, out = str(tmp_path / "archive"), str(tmp_path / "out")
    (tmp_path / "archive").mkdir()
    model = toy_checkpoint(tmp_path / "toy")
    config = DubConfig(archive, out, model=model, candidates=3, tracking_uri="off")
    job = make_job(config, None)
    State(out).write_config(job.identity() | {"archive": archive, "windows_per_segment": 1})
    for candidates, now in ((1, "None now"), (2, "best of 2 by SCAV")):
        config.candidates = candidates
        assert dub.run(config) == 2
        shown = capsys.readouterr().err
        assert "selection: best of 3 by SCAV" in shown and now in shown
