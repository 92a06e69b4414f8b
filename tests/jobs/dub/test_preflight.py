"""Refusals of `v2a dub` before it begins, its notices, and models that it cannot use."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import av
import pytest

from jobs import dub
from jobs.common.verb import WrongUsage
from jobs.dub import DubConfig
from jobs.dub.config import FilmOptions
from tests.support.dubbing import report
from tests.support.toy_generators import (
    EchoGenerator,
    NoiseGenerator,
    reference,
    toy_checkpoint,
    write_video,
)
from v2a_models.recipe import Recipe

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("ray_session")]


def run(config: DubConfig, generator: type[NoiseGenerator] = NoiseGenerator) -> int:
    return dub.run(dataclasses.replace(config, model=reference(generator)))


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
    assert "did not write" in capsys.readouterr().err
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


def test_an_archive_without_videos(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "notes.txt").write_text("nothing to see")
    assert run(DubConfig(str(tmp_path / "archive"), str(tmp_path / "out"), tracking_uri="off")) == 0
    assert {path: row["status"] for path, row in report(tmp_path / "out").items()} == {"notes.txt": "skipped"}


class Worse(NoiseGenerator):
    """A generator with another recipe under the same name."""

    sha256 = "1" * 64


def test_another_model_does_not_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "archive").mkdir()
    config = DubConfig(str(tmp_path / "archive"), str(tmp_path / "out"), tracking_uri="off")
    assert run(config) == 0
    assert run(config, Worse) == 2
    assert "model_sha256" in capsys.readouterr().err


# models that go on from their own past


def test_another_length_of_segments_is_another_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "archive").mkdir()
    config = DubConfig(str(tmp_path / "archive"), str(tmp_path / "out"), tracking_uri="off", segment_s=1.99)
    assert run(config, EchoGenerator) == 0
    config.segment_s = 1.97  # as many whole pictures
    assert run(config, EchoGenerator) == 0
    config.segment_s = 3.0
    assert run(config, EchoGenerator) == 2
    assert "segment_s: 1.96 there, 3.0 now" in capsys.readouterr().err


def test_a_checkpoint_says_whether_it_streams(tmp_path: Path) -> None:
    from jobs.dub.preflight import make_job

    config = DubConfig("archive", "out", model=toy_checkpoint(tmp_path / "toy"), segment_s=10.0)
    job = make_job(config)
    assert not job.streams and job.layout is not None and job.windows_per_segment == job.layout.windows > 1
    faded = make_job(dataclasses.replace(config, film=FilmOptions(joins="crossfade")))
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
    job = make_job(config)
    assert job.streams and (job.rate, job.channels, job.frame, job.context) == (16_000, 2, 640, 7 * 640)
    assert (job.window, job.overlap, job.windows_per_segment) == (160_000, 0, 1)


@pytest.mark.parametrize("frames", ["1e999", "[1]", "-1", "1e12", '"7"'])
def test_a_context_that_no_model_has_is_wrong_usage(frames: str, tmp_path: Path) -> None:
    from jobs.dub.preflight import make_job

    folder = toy_checkpoint(tmp_path / "toy")
    file = tmp_path / "toy" / "config.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps(known | {"context_frames": "HERE"}).replace('"HERE"', frames))
    with pytest.raises(WrongUsage, match="context_frames"):
        make_job(DubConfig("archive", "out", model=folder))


class OddRate(EchoGenerator):
    recipe = dataclasses.replace(EchoGenerator.recipe, sample_rate=16_010)


class Blind(NoiseGenerator):
    recipe = Recipe("blind", semantic=None, sync=None)


@pytest.mark.parametrize(("kind", "words"), [(OddRate, "lasts 640.400 samples"), (Blind, "has no pictures")])
def test_recipes_that_cannot_be_dubbed_with(
    kind: type[NoiseGenerator], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "archive").mkdir()
    assert run(DubConfig(str(tmp_path / "archive"), str(tmp_path / "out")), kind) == 2
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
    from jobs.dub.preflight import make_job
    from pipelines.dub.state import State

    archive, out = str(tmp_path / "archive"), str(tmp_path / "out")
    (tmp_path / "archive").mkdir()
    model = toy_checkpoint(tmp_path / "toy")
    config = DubConfig(archive, out, model=model, candidates=3, tracking_uri="off")
    job = make_job(config)
    State(out).write_config(job.identity() | {"archive": archive, "windows_per_segment": 1})
    for candidates, now in ((1, "None now"), (2, "best of 2 by SCAV")):
        config.candidates = candidates
        assert dub.run(config) == 2
        shown = capsys.readouterr().err
        assert "selection: best of 3 by SCAV" in shown and now in shown
