"""The raw-waveform systems from a store to dubbed films, by the commands that a user gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import dub, train, tune
from jobs.dub import DubConfig
from jobs.train import TrainConfig
from jobs.tune import TuneConfig
from jobs.tune.config import Space
from tests.support.extraction import footage, run
from tests.support.toy_generators import write_video
from v2a_models.checkpoint import load_generator

RECIPE = """
name: small raw
window_s: 0.8
frames: {fps: 10, width: 16, height: 16}
waveform: {rate: 1000, channels: 2}
"""

OPTIONS: dict[str, tuple[str, ...]] = {
    "deep-fusion": ("frames=3", "audio_width=4", "video_width=4", "depth=1"),
    "wavenet": ("layers=4", "stacks=1", "channels=8", "skip=8", "video_width=4", "crop_frames=4"),
    "av-transformer": ("context=64", "strides=[4]", "dim=8", "depth=1", "heads=2", "video_width=4"),
    "vqvae-fc": ("width=4", "codebook_size=16", "hidden=[8]"),
}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return footage(tmp_path_factory.mktemp("films"), range(3), 5.0)


@pytest.fixture(scope="module")
def store(films: Path, ray_session: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("raw")
    (folder / "small.yaml").write_text(RECIPE)
    assert run(films, folder / "store", str(folder / "small.yaml")) == 0
    return str(folder / "store")


def training(name: str, store: str, out: Path, *more: str, **options: Any) -> TrainConfig:
    settings: dict[str, Any] = dict(
        steps=8, batch_size=4, learning_rate=0.003, warmup=2, ema=0.8, precision="float32", save_every=8,
        validate_every=8, tracking_uri="off",
    )  # fmt: skip
    set_ = more if options.get("start") else (*OPTIONS[name], *more)
    return TrainConfig(name, store, str(out), set=set_, **{**settings, **options})


@pytest.fixture(scope="module")
def models(store: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Train the four systems; the VQ-VAE's pictures with two workers, which must keep one codebook."""
    folder = tmp_path_factory.mktemp("models")
    made = {name: folder / name for name in OPTIONS}
    for name in ("deep-fusion", "wavenet", "av-transformer"):
        assert train.run(training(name, store, made[name], protocol="per-video")) == 0
    assert train.run(training("vqvae-fc", store, folder / "pictures", workers=2)) == 0
    second = training("vqvae-fc", store, made["vqvae-fc"], "stage=2", start=str(folder / "pictures"))
    assert train.run(second) == 0
    return made


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film, and one that is shorter than what the models look back on, or than their window."""
    root = footage(tmp_path_factory.mktemp("archive"), range(1), 5.0)
    write_video(root / "short.mp4", 0.3, fps=10, sound=0.0)
    return root


@pytest.mark.filterwarnings("error:The maximum number of concurrent tasks")
@pytest.mark.parametrize("name", list(OPTIONS))
def test_each_system_dubs_a_film(name: str, models: dict[str, Path], archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = DubConfig(
        str(archive), str(out), model=str(models[name]), only="all", batch_size=4, segment_s=2.0, tracking_uri="off",
        num_workers=2,
    )  # fmt: skip
    assert dub.run(config) == 0
    report = pq.read_table(out / "_v2a" / "report.parquet").to_pylist()
    assert [row["status"] for row in report] == ["dubbed"] * 2
    for film, seconds in (("film 0.mp4", 5.0), ("short.mp4", 0.3)):
        with av.open(str(out / film)) as file:
            made = [
                stream for stream in file.streams.audio if "v2a" in stream.metadata.get("handler_name", "")
            ]
            assert len(made) == 1 and made[0].channels == 2 and made[0].rate == 44_100
            sound = np.concatenate([frame.to_ndarray() for frame in file.decode(made[0])], 1)
        assert abs(sound.shape[1] - seconds * 44_100) < 1024 and np.abs(sound).max() > 0


def test_a_collapsed_codebook_is_named_with_its_perplexity(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Far more codes than there are pieces of pictures: most must stay unused."""
    assert train.run(training("vqvae-fc", store, tmp_path / "out", "codebook_size=4096", steps=2)) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the codebook has collapsed: perplexity" in said and "of 4096 codes" in said


def test_a_training_that_diverges_is_stopped_and_told(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diverging = training("wavenet", store, tmp_path / "out", learning_rate=1e12, warmup=0)
    assert train.run(diverging) == 1
    captured = capsys.readouterr()
    said = " ".join((captured.out + captured.err).split())
    assert "not a finite number" in said and "learning-rate" in said
    assert not (tmp_path / "out" / "config.json").exists()


def test_what_was_trained_is_written_down(models: dict[str, Path], store: str) -> None:
    facts = json.loads((models["wavenet"] / "training.json").read_text())
    assert facts["identity"]["protocol"] == "per-video"
    # Films of 5 s in windows of 0.8 s: five end within 4 s, two begin after it (the last has 0.2 s).
    assert facts["rows"] == {"train": 15, "val": 6}
    assert "loss" in (models["vqvae-fc"] / "card.md").read_text()
    first: Any = load_generator(str(models["vqvae-fc"].parent / "pictures"))
    second: Any = load_generator(str(models["vqvae-fc"]))
    frozen = first.net.vqvae.state_dict()
    assert all((tensor == frozen[name]).all() for name, tensor in second.net.vqvae.state_dict().items())
    assert first.net.vqvae.quantiser.begun == 1


def test_pictures_alone_cannot_be_dubbed_with(
    models: dict[str, Path], films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = models["vqvae-fc"].parent / "pictures"
    assert dub.run(DubConfig(str(films), str(tmp_path / "out"), model=str(pictures))) == 2
    assert "--set stage=2" in capsys.readouterr().err


def test_a_store_without_samples(
    train_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.run(TrainConfig("wavenet", train_store, str(tmp_path / "out"))) == 2
    assert "--recipe raw" in capsys.readouterr().err


def test_tune_looks_for_settings_of_the_vq_vae(store: str, tmp_path: Path) -> None:
    config = TuneConfig(
        "vqvae-fc", store, str(tmp_path / "tuned"), trials=2, steps=4, grace=2, workers=1, metric="rebuilt",
        space=Space(batch_size=(4,), choose=("codebook_size=8,16",)), set=("width=4", "hidden=[8]"),
        tracking_uri="off", precision="float32",
    )  # fmt: skip
    assert tune.run(config) == 0
    trials = pq.read_table(tmp_path / "tuned" / "trials.parquet").to_pylist()
    assert len(trials) == 2 and {row["codebook_size"] for row in trials} <= {8, 16}
    assert load_generator(str(tmp_path / "tuned" / "best")).system == "vqvae-fc"
