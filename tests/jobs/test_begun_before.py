"""Work begun by an earlier commit goes on, and what it wrote is still read.

The fixtures in tests/data/begun_before were made by commit 9c7d5bd and killed half-way; its README says how. All goes
through the command line, so that these tests stay as they are when modules move.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli
from v2a_models.checkpoint import load_generator

pytestmark = pytest.mark.timeout(600)

DATA = Path(__file__).parents[1] / "data" / "begun_before"
MADE_AT = "/begun"
"""Folder in which the fixtures were made: addresses in OUT's config.json begin with it."""

DONE = ("1 done.mp4", "2 done.mkv")
LEFT = ("3 begun/reel.mp4", "4 to do.avi")
LEVEL = 4321
"""A sample value that no model generates."""
RATE = 44_100


def v2a(*words: str | Path | int) -> int:
    """Exit code of `v2a WORDS`."""
    return cli.main([str(word) for word in words])


def unpack(kind: str, folder: Path) -> Path:
    """A copy of a fixture in `folder`, its addresses those of that folder."""
    with tarfile.open(DATA / f"{kind}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    for config in folder.rglob("_v2a/config.json"):
        config.write_text(config.read_text().replace(MADE_AT, str(folder)))
    return folder / kind


def state(files: Iterable[Path]) -> dict[Path, tuple[bytes, int]]:
    """Bytes and modification time of files."""
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files if file.is_file()}


# dub


def dub(here: Path, *more: str | Path | int) -> int:
    """Exit code of the command that was killed."""
    return v2a(
        "dub", here / "archive", here / "half", "--model", here / "painted", "--manifest", here / "films.csv",
        "--segment-s", "0.5", "--precision", "float32", "--tracking-uri", "off", *more,
    )  # fmt: skip


def report(here: Path) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in pq.read_table(here / "half/_v2a/report.parquet").to_pylist()}


def kept_sound(here: Path, row: dict[str, Any]) -> np.ndarray:
    """Samples int16 [n] of a track as OUT keeps them."""
    with av.open(str(here / "half/_v2a/sound" / f"{row['video_id']}.flac")) as file:
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])


def verified(here: Path, names: tuple[str, ...]) -> bool:
    """True if `v2a verify` passes the films, against their originals but for the Matroska one.

    The fixture's archive holds another copy of that film than the one that was dubbed.
    """
    sources = {name: ["--source", here / "archive" / name] for name in names if name != DONE[1]}
    return all(v2a("verify", here / "half" / name, *sources.get(name, [])) == 0 for name in names)


def test_dub_goes_on(ray_session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = unpack("dub", tmp_path)
    records = here / "half" / "_v2a"
    assert dub(here, "--seed", 1) == 2  # its settings are known
    assert "seed: 0 there, 1 now" in capsys.readouterr().err

    films = state(here / "half" / name for name in DONE)
    kinds = ("rows", "provenance", "sound", "cards", "asked")
    done = films | state(file for kind in kinds for file in (records / kind).iterdir())
    rows = report(here)
    assert len(films) == 2 and tuple(rows) == DONE

    # What is there of the third film gets a level that no model makes: it must be heard in the end.
    parts = sorted(records.glob("parts/*/*.npz"))
    assert parts
    for part in parts:
        with np.load(part) as held:
            arrays = dict(held)
        arrays["sound"] = np.full_like(arrays["sound"], LEVEL)
        np.savez(part, **arrays)

    assert dub(here) == 0
    assert state(done) == done, "a film that was done was touched"
    now = report(here)
    assert {path: {name: now[path][name] for name in row} for path, row in rows.items()} == rows
    # An older release did not write down what it left out.
    assert all(now[path][name] == [] for path in rows for name in ("left_out", "converted"))
    assert {path: row["status"] for path, row in now.items()} == {
        **dict.fromkeys(DONE + LEFT, "dubbed"),
        "5 skip.mp4": "skipped",
    }
    heard = kept_sound(here, now["3 begun/reel.mp4"])
    assert abs(len(heard) - 3 * RATE) < 1024
    assert np.sum(heard == LEVEL) > 0.4 * RATE * len(parts), "the parts that were there were made again"
    assert np.sum(heard != LEVEL) > 0.1 * RATE, "the rest was not made"
    assert not list(records.glob("parts/*/*")) and not list(here.rglob(".v2a-tmp-*"))
    capsys.readouterr()
    assert verified(here, DONE + LEFT), capsys.readouterr().out


def test_redub_of_a_film_that_was_dubbed_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = unpack("dub", tmp_path)
    old = report(here)
    first = kept_sound(here, old["1 done.mp4"])
    other = state([here / "half" / "2 done.mkv"])
    assert v2a("redub", here / "half", "1 done.mp4", "--start", "0.8", "--end", "1.4", "--seed", 9) == 0
    row = report(here)["1 done.mp4"]
    after = kept_sound(here, row)
    start, end = round(0.8 * RATE), round(1.4 * RATE)
    assert np.array_equal(first[:start], after[:start]) and np.array_equal(first[end:], after[end:])
    assert np.mean(first[start:end] != after[start:end]) > 0.2  # it is soft: many samples are equal by chance
    assert row["output_sha256"] != old["1 done.mp4"]["output_sha256"]
    assert state(other) == other
    capsys.readouterr()
    assert verified(here, DONE), capsys.readouterr().out


# extract


def test_extract_goes_on(ray_session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = unpack("extract", tmp_path)
    store = here / "half"
    words = ("extract", here / "archive", store, "--recipe", here / "small.yaml", "--tracking-uri", "off")
    rows = state(store.glob("split=*/*.parquet"))
    identity = (store / "_recipe.json").read_text()
    assert 0 < len(rows) < 24  # of one row each
    assert v2a(*words, "--overlap-s", "0.1") == 2
    assert "another recipe" in capsys.readouterr().err

    assert v2a(*words, "--rows-per-file", 1) == 0
    assert f"{24 - len(rows)} windows to extract" in capsys.readouterr().out
    assert state(rows) == rows, "a row that was there was touched"
    files = sorted(store.glob("split=*/*.parquet"))
    tables = [pq.ParquetFile(file).read() for file in files]
    assert all(table.schema.equals(tables[0].schema, check_metadata=True) for table in tables)
    ids = pa.concat_tables(tables)["clip_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 24
    assert (store / "_recipe.json").read_text() == identity

    whole = state(files)
    assert v2a(*words) == 0
    assert state(store.glob("split=*/*.parquet")) == whole


# train


def checkpoint(model: Path) -> dict[str, Any]:
    """State in the newest checkpoint of a training."""
    import torch

    newest = max(model.glob("_v2a/train/run*/checkpoint_*/state.pt"))
    return torch.load(newest, map_location="cpu", weights_only=True)


def test_train_goes_on(ray_session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = unpack("train", tmp_path)
    model = here / "half"
    before = checkpoint(model)
    step, history = int(before["step"]), json.loads(before["history"])
    assert step > 0 and not (model / "config.json").exists()

    def train(*more: str | int) -> int:
        return v2a(
            "train", "wavenet", here / "store", "--out", model, "--batch-size", 4,
            "--learning-rate", "0.003", "--warmup", 2, "--ema", "0.8", "--precision", "float32",
            "--save-every", 3, "--validate-every", 100_000, "--workers", 1,
            "--set", "layers=4", "stacks=1", "channels=8", "skip=8", "video_width=4", "crop_frames=4",
            "--tracking-uri", "off", *more,
        )  # fmt: skip

    assert train("--steps", step + 4, "--seed", 1) == 2  # its settings are known
    assert "seed: 0 there, 1 now" in capsys.readouterr().err
    assert train("--steps", step + 4) == 0
    assert f"step {step}" in capsys.readouterr().out
    after = checkpoint(model)
    rows = json.loads(after["history"])
    assert int(after["step"]) == json.loads((model / "training.json").read_text())["steps"] == step + 4
    assert rows[: len(history)] == history, "the losses from before are gone"
    trained = [row["step"] for row in rows if "train/loss" in row]
    assert trained == sorted(set(trained)) and min(trained[len(history) :]) > step
    assert load_generator(str(model)).system == "wavenet"


# what was written


SYSTEMS = (
    "maskvat-adaln", "maskvat-seq2seq", "maskvat-hybrid", "vatt-converter", "vatt", "vatt-cross-attn", "vatt-v",
    "deep-fusion", "wavenet", "av-transformer", "vqvae-fc",
)  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack("models", tmp_path_factory.mktemp("models"))


def leaves(value: Any) -> Counter[str]:
    """Every value in a config with how often it is there, whatever it is called."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return sum((leaves(item) for item in value), Counter())
    return Counter([json.dumps(value)])


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_model_is_loaded_with_all_that_its_config_says(models: Path, system: str) -> None:
    config = json.loads((models / system / "config.json").read_text())
    generator: Any = load_generator(str(models / system))
    assert generator.system == config["system"] == system
    assert generator.sha256 == config["sha256"]
    for there, now in ((config["model"], generator.config()), (config["recipe"], generator.recipe.to_dict())):
        assert not leaves(there) - leaves(now)
    assert (generator.streams, generator.follows_text) == (config["streams"], config["follows_text"])


def test_a_manifest_is_read(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = unpack("recipes", tmp_path)

    def asked(model: str) -> int:
        return v2a(
            "dub", here / "archive", tmp_path / "out", "--only", "all", "--manifest", here / "films.csv",
            "--model", models / model, "--dry-run",
        )  # fmt: skip

    assert asked("vatt") == 0
    assert "1 files to dub" in " ".join(capsys.readouterr().out.split())
    assert asked("maskvat-hybrid") == 2  # a model without words: the prompt was seen
    assert "takes no text prompts" in capsys.readouterr().err


def test_recipes_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = unpack("recipes", tmp_path)
    own = here / "encoders.yaml"
    words = ("extract", here / "archive", tmp_path / "new", "--recipe", own, "--describe")
    assert v2a(*words) == 2  # the bundled encoders are others now
    assert "sees pictures of 224 x 224 pixels" in " ".join(capsys.readouterr().err.split())
    own.write_text(own.read_text().replace("width: 64, height: 64, fit: squeeze", "width: 224, height: 224"))
    assert v2a(*words) == 0
    said = capsys.readouterr().out
    shapes = ("[32,51]", "[100,128]", "[6,345]", "[40,32,32,3]")  # semantic, sync, codes, frames
    assert all(word in said for word in (*shapes, "(crop)")), said

    kept = json.loads((here / "store/_recipe.json").read_text())
    assert v2a("store", here / "store") == 0
    said = capsys.readouterr().out
    assert "mini" in said and kept["digest"] in said, said
