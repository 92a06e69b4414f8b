"""A toy `mini`, trained once for all tests that need one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from jobs.mini import MiniConfig, run
from pipelines.foley.corpus import FoleyConfig
from pipelines.synthfoley.corpus import CorpusConfig
from v2a_models.training.loop import FitConfig


def toy(root: Path, stages: tuple[str, ...] | None = None) -> MiniConfig:
    """Settings of the smallest training, with its work folder and checkpoint below `root`."""
    short = FitConfig(steps=1)
    config = MiniConfig(
        work=root / "work", out=root / "toy", foley=FoleyConfig(scenes=24, seconds=5.0),
        corpus=CorpusConfig(scenes=12, seconds=5.0), codec_spectra=short, codec=short, sync=short, scav=short,
        maskvat=short, classifier=short, threads=1,
    )  # fmt: skip
    return config if stages is None else MiniConfig(**{**vars(config), "stages": stages})


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `work` and the checkpoint `toy`; processes that test side by side share it."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "toy_mini"
    stages = tuple(stage for stage in MiniConfig().stages if stage != "evaluate")
    with FileLock(f"{root}.lock"):
        if not (root / "toy" / "config.json").exists():
            assert run(toy(root, stages)) == 0
    return root
