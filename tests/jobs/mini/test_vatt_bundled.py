"""The bundled `vatt-mini`: text changes what is heard, the picture says when, and captions name what is seen."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from benchmarks import vatt_steering
from jobs import cli
from jobs.demo import real_footage
from pipelines.foley.captions import label_in
from pipelines.media import video
from pipelines.synthfoley import make_scene
from pipelines.synthfoley.mp4 import write_clip
from v2a_models.checkpoint import BUNDLED, load_generator


def test_it_is_small() -> None:
    size = sum(file.stat().st_size for file in (BUNDLED / "vatt-mini").iterdir())
    assert size <= 26e6  # its codec and encoders are those of mini


def test_prompts_steer_held_out_scenes_and_captions_name_them() -> None:
    # A sample of `python -m benchmarks.vatt_steering`, whose figures stand in the card: bounds are wide of them.
    figures = vatt_steering.measure("vatt-mini", 14, {})
    asked = figures["rows"]["with a prompt"]
    assert asked["follows"] >= 0.3 > 3 * asked["seen"]
    assert asked["onset_f1"] > asked["onset_f1_shuffled"] + 0.2
    assert figures["captions_right"] >= 0.8


def test_captions_of_real_pictures_name_what_is_seen() -> None:
    vatt: Any = load_generator("vatt-mini")
    said = {}
    for clip in real_footage():
        views = [vatt.recipe.view(name) for name in ("semantic", "sync")]
        with clip.open("rb") as file:
            semantic, sync = video.decode_views(file, views, 0.0, 4.0)
        frames = {"semantic": torch.from_numpy(semantic)[None], "sync": torch.from_numpy(sync)[None]}
        said[clip.name] = vatt.captions(vatt.features(frames))[0]
    assert label_in(said["carphone_pristine.mp4"]) in ("nothing", "room"), said
    assert "road" in said["bikes.mp4"] or "street" in said["bikes.mp4"], said


def test_by_the_command_line(tmp_path: Path, ray_session: Any) -> None:
    films = tmp_path / "films"
    write_clip(make_scene(2026, 0, 4.0, label="drum"), str(films), strip_sound=True)
    told = tmp_path / "told.parquet"
    assert cli.main(["caption", str(films), "--out", str(told)]) == 0
    assert pq.read_table(told).to_pylist()[0]["caption"]
    sums = set()
    for prompt in ("an anvil", "a bell"):
        out = tmp_path / prompt
        asked = ["--model", "vatt-mini", "--prompt", prompt, "--tracking-uri", "off"]
        assert cli.main(["dub", str(films), str(out), *asked]) == 0
        [row] = pq.read_table(out / "_v2a" / "report.parquet").to_pylist()
        assert (row["status"], row["prompt"]) == ("dubbed", prompt)
        sums.add(hashlib.sha256((out / row["output"]).read_bytes()).hexdigest())
    assert len(sums) == 2
