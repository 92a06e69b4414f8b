"""`v2a compare` over models of different recipes: each is fed with what it was trained on, all are scored alike."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from jobs import cli
from jobs.compare import CompareConfig, preflight
from pipelines.sandbox.decoder import Sandbox
from pipelines.scoring import clips, sound_folder
from pipelines.scoring.job import ClipJob
from pipelines.store import tables
from pipelines.store.store import Store
from tests.support.toy_generators import EchoGenerator, toy_checkpoint, write_video
from tests.support.train_store import recipe as train_recipe
from v2a_models import systems
from v2a_models.batch import Batch
from v2a_models.checkpoint import BUNDLED, save_generator
from v2a_models.generator import Generator
from v2a_models.recipe import Recipe
from v2a_models.seeds import window_seed

CLIP_S, CLIPS = 0.48, 3
N_SAMPLES = 21_168
"""Samples of a clip at 44.1 kHz."""
RECIPE = dataclasses.replace(EchoGenerator.recipe, window_s=CLIP_S, overlap_s=0.0)


class Echo(Generator):
    """`EchoGenerator` as a system that checkpoints are made of."""

    streams, system, columns = True, "echo", ("frames", "waveform")  # type: ignore[assignment]

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe, self.weight = recipe, nn.Parameter(torch.ones(3))

    @property
    def context_frames(self) -> int:
        return EchoGenerator.context_frames

    @classmethod
    def from_config(cls, recipe: Recipe, config: dict[str, Any]) -> Echo:
        return cls(recipe)

    def config(self) -> dict[str, Any]:
        return {}

    def task(self) -> nn.Module:
        return self

    def features(self, frames: Any) -> Batch:
        return Batch(frames=frames["frames"])

    def generate(self, batch: Batch, *, seeds: Sequence[int], **sampling: Any) -> torch.Tensor:
        assert batch.frames is not None and batch.frames.dtype == torch.uint8
        past = torch.zeros(len(seeds), self.recipe.channels, 0)
        return EchoGenerator().generate_from_frames({"frames": batch.frames}, seeds, past=past)


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(systems.SYSTEMS, "echo", Echo)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archive")
    for name in ("one", "two"):
        write_video(root / f"{name}.mp4", 1.6, fps=10, sound=0.4)
    return root


@pytest.fixture(scope="module")
def store(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pixels and samples of three clips of each film, as `v2a extract` keeps them."""
    made, rows = Store(str(tmp_path_factory.mktemp("store") / "store")), []
    view = RECIPE.view("frames")
    n_frames, n_samples = round(CLIP_S * view.fps), RECIPE.window
    with Sandbox() as sandbox:
        for film in sorted(archive.iterdir()):
            [pictures] = sandbox.decode_views(str(film), [view], 0.0, 2.0)
            wave = sandbox.decode_sound(str(film), 0.0, 2.0, RECIPE.sample_rate, channels=2)
            for k in range(3):
                at, start_s = k * n_samples, k * CLIP_S
                first = round(start_s * view.fps)
                rows.append(
                    dict(
                        clip_id=f"{film.stem}-{k}", video_id=film.stem, path=film.name, start_s=start_s,
                        duration_s=CLIP_S, label="", text="", mask=np.ones(n_frames, np.uint8),
                        frames=pictures[first : first + n_frames],
                        waveform=np.rint(wave[:, at : at + n_samples] * 32_767).astype(np.int16),
                    )
                )  # fmt: skip
    shapes = {"frames": (n_frames, view.height, view.width, 3), "waveform": (2, n_samples)}
    made.write_identity({"recipe": RECIPE.to_dict()})
    made.write_rows(tables.table(rows, tables.schema(RECIPE, shapes)), "val")
    return made.root


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checkpoints: one of the store's recipe, one with pixels of another size, one with encoders and a codec."""
    root = tmp_path_factory.mktemp("models")
    view = dataclasses.replace(RECIPE.view("frames"), width=12)
    save_generator(Echo(RECIPE), root / "echo")
    save_generator(Echo(dataclasses.replace(RECIPE, frames=view, window_s=4.0)), root / "wide")
    toy_checkpoint(root / "toy", window_s=CLIP_S)
    toy_checkpoint(root / "longer", window_s=0.6)
    return {path.name: str(path) for path in root.iterdir()}


def compare(store: str, out: Path, *models: str, archive: Path | None = None) -> int:
    words = ["compare", *models, "--store", store, "--out", str(out), "--clips", str(CLIPS)]
    words += ["--archive", str(archive)] if archive else []
    return cli.main([*words, "--networks", "foley", "--precision", "float32", "--tracking-uri", "off"])


def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text())


def test_models_of_three_recipes_in_one_table(
    store: str, archive: Path, models: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert compare(store, out, models["echo"], models["toy"], models["wide"], archive=archive) == 0
    found = {system["name"]: system for system in summary(out)["systems"]}
    assert list(found) == ["echo", "toy", "wide", "reference", "codec", "shuffled", "noise", "silence"]
    for name, system in found.items():
        assert system["clips"] == CLIPS and not system["failed"]
        files = list((out / "clips" / name).glob("*.wav"))
        assert len(files) == CLIPS
        for file in files:
            heard = sound_folder.read_sound(str(file))
            assert (heard.rate, heard.channels, len(heard.samples)) == (44_100, 1, N_SAMPLES)
    fed = {name for name in models if name in found and "fed from the archive" in found[name]["about"]}
    assert fed == {"toy", "wide"}
    assert summary(out)["window_s"] == CLIP_S
    assert found["echo"]["metrics"]["audio_s_per_s"]["value"] > 0
    assert found["codec"]["metrics"]["fdd"]["value"] is not None


def test_a_sound_is_what_the_model_makes_of_the_stored_clip(
    store: str, models: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert compare(store, out, models["echo"]) == 0
    rows = clips.rows_of(Store(store), "val")
    job = ClipJob(store=store, place="", window=N_SAMPLES, seed=0)
    for row in rows:
        file = out / "clips" / "echo" / f"{row.clip_id}.wav"
        if file.exists():
            frames = torch.from_numpy(clips.stored(row, job, ["frames"])["frames"][None].copy())
            seeds = [window_seed(0, row.clip_id, 0)]
            wave = Echo(RECIPE).generate(Batch(frames=frames), seeds=seeds)[0].numpy()
            expected = sound_folder.sound_of(wave, 16_000).fitted(N_SAMPLES)[0]
            assert np.abs(sound_folder.read_sound(str(file)).samples - expected).max() < 1e-4
    # Without an archive the truth is what the store keeps, and nobody has a codec.
    found = summary(out)
    assert [system["name"] for system in found["systems"]] == [
        "echo",
        "reference",
        "shuffled",
        "noise",
        "silence",
    ]
    assert any("none of the models has a codec" in note for note in found["notes"])
    assert not any("--archive" in note for note in found["notes"])
    truth = sound_folder.read_sound(str(next((out / "clips" / "reference").glob("*.wav")))).samples
    assert truth.max() == pytest.approx(0.4, abs=0.05)  # the tone of the films


@pytest.fixture
def rows(store: str) -> list[clips.Row]:
    return clips.rows_of(Store(store), "val")


def test_pictures_from_the_archive_are_those_of_the_store(
    store: str, archive: Path, rows: list[clips.Row]
) -> None:
    job = ClipJob(store=store, place="", window=N_SAMPLES, seed=0, archive=str(archive))
    for row in rows:
        decoded = clips.decoded_views(row, job, RECIPE.views)["frames"]
        np.testing.assert_array_equal(decoded, clips.stored(row, job, ["frames"])["frames"])


def test_a_film_that_is_gone_costs_its_own_clips(
    store: str, archive: Path, models: dict[str, str], tmp_path: Path, rows: list[clips.Row]
) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "one.mp4").write_bytes((archive / "one.mp4").read_bytes())
    job = ClipJob(
        store=store, place=str(tmp_path / "clips"), window=N_SAMPLES, seed=0, archive=str(tmp_path / "films"),
        batch_size=2,
    )  # fmt: skip
    maker = clips.ClipMaker(job, "wide", models["wide"], from_archive=True)
    answers = {answer["clip"]: answer for answer in maker.make([rows[0], rows[-1]])}
    assert not answers["one-0"]["problem"] and "two.mp4" in answers["two-2"]["problem"]
    assert [path.stem for path in (tmp_path / "clips" / "wide").iterdir()] == ["one-0"]


@pytest.mark.parametrize(
    ("name", "with_archive", "words"),
    [
        ("toy", False, "pass the store's --archive"),
        ("wide", False, "pass the store's --archive"),
        ("longer", True, "generates 0.6 s windows, but this store's clips are 0.48 s long"),
    ],
)
def test_a_model_that_cannot_be_fed_is_told_before_anything_starts(
    name: str, with_archive: bool, words: str, store: str, archive: Path, models: dict[str, str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = archive if with_archive else None
    assert compare(store, tmp_path / "out", models["echo"], models[name], archive=given) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_model_called_like_a_baseline_keeps_its_sounds_apart(tmp_path: Path) -> None:
    folder = tmp_path / "reference"
    shutil.copytree(BUNDLED / "mini", folder)
    config = CompareConfig((str(folder),), store="store", out="out")
    assert preflight._model(str(folder), train_recipe(), config).slug == "model-reference"
