"""The bundled `mini`: it times and names rendered scenes, and gives real footage a sound that can be heard."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import mini_quality
from jobs import cli
from jobs.demo import real_footage
from pipelines.media import video
from v2a_models.checkpoint import BUNDLED, load_generator

pytestmark = pytest.mark.timeout(600)


def test_bundled_weights_are_small() -> None:
    size = sum(file.stat().st_size for file in BUNDLED.glob("*/*"))
    assert size <= 67e6  # a Ray job takes the folder along, up to 100 MiB


def test_held_out_scenes_are_timed_and_named(tmp_path: Path) -> None:
    # A sample of `python -m benchmarks.mini_quality`, whose figures stand in the card: bounds are wide of them.
    rows = mini_quality.measure(tmp_path, 14, 4.0, "mini")
    made = rows["mini (v2a dub)"]
    assert made.onset_f1 > 0.7 > 0.5 > made.onset_f1_shuffled
    assert made.class_match > 0.6 > 0.15 > made.class_match_shuffled
    assert rows["codec resynthesis"].class_match > 0.85


def test_real_footage_gets_sound_of_a_sensible_level(tmp_path: Path, ray_session: Any) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    for clip in real_footage():
        shutil.copy(clip, archive)
    assert cli.main(["dub", str(archive), str(out), "--tracking-uri", "off"]) == 0
    rows = {row["path"]: row for row in pq.read_table(out / "_v2a" / "report.parquet").to_pylist()}
    assert {path for path, row in rows.items() if row["status"] == "dubbed"} == {
        "bikes.mp4",
        "carphone_pristine.mp4",
    }
    for path, row in rows.items():
        if row["status"] != "dubbed":
            continue
        with (out / row["output"]).open("rb") as file:
            sound = video.decode_sound(file, 0.0, row["duration_s"])
        assert sound.shape[0] == 2 == load_generator("mini").recipe.channels
        seconds = sound[:, : sound.shape[1] // 44_100 * 44_100].reshape(2, -1, 44_100)
        levels = 10 * np.log10(np.square(seconds).mean((0, 2)) + 1e-12)
        assert np.mean(levels < -58) <= 0.2, f"{path}: near silence, {levels.round()} dBFS"
        # The ceiling of -6 dBFS, and a little for what coding adds.
        assert np.median(levels) > -57 and np.abs(sound).max() < 0.7, path
        assert "clipping" not in {flag["what"] for flag in row["flags"]}, path
