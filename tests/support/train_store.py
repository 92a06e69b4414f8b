"""A tiny feature store whose codes follow from its features, so that a tiny model learns something in seconds."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs.train import TrainConfig
from pipelines.store import tables
from pipelines.store.store import Store
from tests.support.language_model import TEXTS
from v2a_models import grid
from v2a_models.encoders.shapes import feature_shapes
from v2a_models.recipe import Recipe

TINY = ("dim=32", "depth=1", "heads=2", "encoder_depth=1", "audio_dim=0")
"""A model of a hundred thousand parameters."""


@lru_cache
def recipe() -> Recipe:
    """The bundled recipe with the weights that are there now."""
    from pipelines.extract.recipes import find, resolve

    return resolve(find("mini"), {}, None)[0]


SHAPES = feature_shapes(recipe())


def frames(seconds: float, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random pictures as the bundled model sees them: uint8 (1, T, H, W, 3) by view."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(
            0, 256, (1, grid.frame_count(seconds, view.fps), view.height, view.width, 3), generator=generator,
            dtype=torch.uint8,
        )
        for name, view in recipe().views.items()
    }  # fmt: skip


def row(number: int) -> dict[str, Any]:
    """Window `number`; its codes are one of two tunes, and its features say which."""
    rng = np.random.default_rng(number)
    tune = number % 2
    sign = np.float16(1 if tune else -1)
    return {
        "clip_id": f"clip-{number:04d}",
        "video_id": f"video-{number // 2:04d}",
        "path": f"{number // 2}.mp4",
        "start_s": 4.0 * (number % 2),
        "duration_s": 4.0,
        "label": "",
        "text": "",
        "mask": np.ones(345, np.uint8),
        "semantic": (rng.normal(size=SHAPES["semantic"]) * 0.1 + sign).astype(np.float16),
        "sync": (rng.normal(size=SHAPES["sync"]) * 0.1 + sign).astype(np.float16),
        "codes": np.full(SHAPES["codes"], 40 + 100 * tune, np.uint16),
    }


def make_store(folder: Path, splits: dict[str, list[int]]) -> Store:
    """Files of so many rows by split."""
    store = Store(str(folder))
    store.write_identity({"recipe": recipe().to_dict()})
    kind, number = tables.schema(recipe(), SHAPES), 0
    for split, sizes in splits.items():
        for size in sizes:
            store.write_rows(tables.table([row(k) for k in range(number, number + size)], kind), split)
            number += size
    return store


def captioned(folder: Path, n: int = 12) -> Store:
    """A store whose captions follow from its features."""
    store = Store(str(folder))
    store.write_identity({"recipe": recipe().to_dict()})
    rows = [row(k) | {"text": TEXTS[k % 2]} for k in range(n)]
    store.write_rows(tables.table(rows, tables.schema(recipe(), SHAPES)), "train")
    return store


SETTINGS: dict[str, Any] = dict(
    steps=24, workers=2, batch_size=8, learning_rate=0.01, warmup=3, ema=0.8, precision="float32", save_every=8,
    validate_every=12, set=TINY,
)  # fmt: skip


def train_config(store: str, out: Path | str, **more: Any) -> TrainConfig:
    """A training that takes seconds."""
    return TrainConfig("maskvat-hybrid", store, str(out), **{**SETTINGS, "tracking_uri": "off", **more})


def snapshot(out: Path) -> Path:
    """Ray Train's list of checkpoints, there as soon as there is one."""
    return out / "_v2a" / "train" / "run0" / "checkpoint_manager_snapshot.json"


def facts(out: Path) -> dict[str, Any]:
    """training.json of a finished model."""
    return json.loads((out / "training.json").read_text())
